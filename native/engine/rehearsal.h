// The widest steps that an engine will be asked for, from its model's shapes and what it was loaded for alone.
#pragma once

#include "engine/engine.h"

namespace ardiff {

// Runs them, and leaves no sequence behind. Pictures are `options.rehearsal`'s; those that the KV cache has no room for stay out, as they will.
void rehearse(Engine& engine, const LoadOptions& options);

}  // namespace ardiff
