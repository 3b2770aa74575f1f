// What a model takes of a device's memory, told before anything is allocated there: the engine is made, and its widest step run, on a
// backend that only counts (backend/pricing_backend.h).
#pragma once

#include <functional>
#include <memory>

#include "backend/backend.h"
#include "engine/engine.h"

namespace ardiff {

using MakeEngine = std::function<std::unique_ptr<Engine>(Backend&)>;

// Of the engine that `make` makes, on `real`, with steps as options.rehearsal says. Throws what making it throws.
MemoryPrice price_memory(const Backend& real, const MakeEngine& make, const LoadOptions& options);

// Throws kOutOfMemory with all figures where the device has less than that.
void check_fits(const MemoryPrice& price, const DeviceMemory& memory);

}  // namespace ardiff
