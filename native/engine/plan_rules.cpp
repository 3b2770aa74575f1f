#include "engine/plan_rules.h"

#include <cmath>

#include "engine/kv_cache.h"

namespace ardiff {

void check_blocks(const std::vector<int32_t>& table, int64_t positions, int64_t block_tokens, uint32_t sequence, int64_t num_blocks) {
  planned(static_cast<int64_t>(table.size()) >= KvCache::blocks_for(positions, block_tokens), sequence, "block table of ", table.size(),
          " blocks does not hold ", positions, " positions");
  for (const int32_t block : table) planned(block >= 0 && block < num_blocks, sequence, "block ", block, " outside [0, ", num_blocks, ")");
}

void check_copies(const std::vector<int32_t>& copies, int64_t num_blocks) {
  check(copies.size() % 2 == 0, ErrorCode::kInvalidPlan, "copies are not pairs");
  std::set<int32_t> sources, destinations;
  for (size_t i = 0; i < copies.size(); i += 2) {
    for (const int32_t block : {copies[i], copies[i + 1]}) {
      check(block >= 0 && block < num_blocks, ErrorCode::kInvalidPlan, "copied block ", block, " outside [0, ", num_blocks, ")");
    }
    sources.insert(copies[i]);
    check(destinations.insert(copies[i + 1]).second, ErrorCode::kInvalidPlan, "block ", copies[i + 1], " is copied to twice");
  }
  for (const int32_t block : destinations) {
    check(!sources.contains(block), ErrorCode::kInvalidPlan, "block ", block, " is both source and destination of a copy");
  }
}

void check_speculation_numbers(const SequenceSpec& spec) {
  const SpeculationSpec& speculation = *spec.speculation;
  const auto& [plain, round, draft, verify] = speculation.costs;
  argument(speculation.max_draft_tokens >= 1 && speculation.max_draft_tokens <= kMaxDraftTokens, spec.id, speculation.max_draft_tokens,
           " draft tokens outside [1, ", kMaxDraftTokens, "]");
  // Infinity would accept what is not a number, too.
  argument(speculation.tolerance >= 0.0 && std::isfinite(speculation.tolerance), spec.id, "tolerance ", speculation.tolerance,
           " is negative or not finite");
  argument(plain > 0.0 && round >= 0.0 && draft >= 0.0 && verify >= 0.0 && std::isfinite(plain + round + draft + verify), spec.id,
           "a cost of speculation is out of range");
  argument(speculation.acceptance >= 0.0 && speculation.acceptance <= 1.0, spec.id, "acceptance ", speculation.acceptance, " outside [0, 1]");
}

}  // namespace ardiff
