// On the calling thread: a few ten thousand numbers a step, beside passes of billions.
#include "backend/host_verification.h"
#include "backend/op_checks.h"
#include "backend/cpu/cpu_backend.h"

namespace ardiff {

void CpuBackend::verify_drafts(const DraftedPaths& paths, const DraftedSequences& sequences, const Verdicts& verdicts) {
  op_checks::verify_drafts(paths, sequences, verdicts);
  verify_on_host(paths, sequences, verdicts);
}

}  // namespace ardiff
