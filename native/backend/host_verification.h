// verify_drafts (ops.h) over host memory, for the backends whose memory is the host's.
#pragma once

#include "backend/ops.h"

namespace ardiff {

void verify_on_host(const DraftedPaths& paths, const DraftedSequences& sequences, const Verdicts& verdicts);

}  // namespace ardiff
