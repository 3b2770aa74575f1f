#include "engine/plan_rules.h"

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

}  // namespace ardiff
