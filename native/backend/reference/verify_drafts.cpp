#include "backend/host_verification.h"
#include "backend/op_checks.h"
#include "backend/reference/reference_backend.h"

namespace ardiff {

void ReferenceBackend::verify_drafts(const DraftedPaths& paths, const DraftedSequences& sequences, const Verdicts& verdicts) {
  op_checks::verify_drafts(paths, sequences, verdicts);
  verify_on_host(paths, sequences, verdicts);
}

}  // namespace ardiff
