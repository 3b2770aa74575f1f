#include "engine/memory_price.h"

#include <algorithm>
#include <iomanip>

#include "backend/pricing_backend.h"
#include "engine/rehearsal.h"

namespace ardiff {

namespace {

std::string gib(int64_t bytes) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(2) << static_cast<double>(bytes) / (int64_t{1} << 30) << " GiB";
  return out.str();
}

}  // namespace

MemoryPrice price_memory(const Backend& real, const MakeEngine& make, const LoadOptions& options) {
  PricingBackend counting(real);
  const std::unique_ptr<Engine> engine = make(counting);
  MemoryPrice price;
  price.kv = engine->info().kv_blocks * engine->info().block_bytes;
  price.weights = counting.live() - price.kv;
  // Twice: the first time, scratch grows in several pieces.
  for (int turn = 0; turn < 2; ++turn) rehearse(*engine, options);
  price.scratch = static_cast<int64_t>(engine->scratch_used());
  // Rows that sequences hold: the old ones are there until the new ones are filled, half as many.
  const int64_t rows = counting.live() - price.weights - price.kv - static_cast<int64_t>(engine->scratch_capacity());
  const auto ops = static_cast<int64_t>(real.op_memory_bytes(static_cast<size_t>(counting.largest_input())));
  price.workspace = price.scratch + std::max<int64_t>(0, rows) * 3 / 2 + ops;
  return price;
}

void check_fits(const MemoryPrice& price, const DeviceMemory& memory) {
  const int64_t total = price.weights + price.kv + price.workspace;
  if (total <= memory.free) return;
  const double left = static_cast<double>(memory.free - price.weights - price.workspace), share = 100.0 * left / static_cast<double>(price.kv);
  std::ostringstream advice;
  if (share >= 1.0) advice << "; " << static_cast<int>(share) << " % of the KV cache would fit";
  fail(ErrorCode::kOutOfMemory, "out of memory: weights ", gib(price.weights), ", KV cache ", gib(price.kv), ", workspace ", gib(price.workspace),
       ", together ", gib(total), "; the device has ", gib(memory.free), " free of ", gib(memory.total), advice.str());
}

}  // namespace ardiff
