#include "engine/recomputation.h"

#include <numeric>

#include "engine/kv_cache.h"

namespace ardiff {

Recomputation::Batch Recomputation::prepare(std::span<const ConditionRow> rows, std::span<const TensorView> features) const {
  check(features.size() == rows.size(), ErrorCode::kInternal, features.size(), " features for ", rows.size(), " rows");
  std::vector<int32_t> slots;
  for (const ConditionRow& row : rows) {
    for (int64_t token = 0; token < row.tokens; ++token) slots.push_back(KvCache::slot(row.blocks, token, block_tokens_));
  }
  const Batch out{scratch_.take(DType::kF32, {static_cast<int64_t>(slots.size()), width_}), scratch_.index(slots)};
  int64_t at = 0;
  for (const TensorView& one : features) {
    backend_.convert(one, out.condition.row_slice(at, at + one.rows()));  // a copy
    at += one.rows();
  }
  return out;
}

TensorView Recomputation::run(const Batch& batch, std::span<const float> taus, std::span<const KvLayer> kv, std::vector<int32_t>& times) const {
  decoder_.store_condition(batch.condition, batch.slots, kv, scratch_);
  const TensorView modulation = scratch_.take(DType::kF32, {static_cast<int64_t>(taus.size()), decoder_.modulation_size()});
  decoder_.embed_times(taus, {}, modulation, scratch_);
  times.resize(taus.size());
  std::iota(times.begin(), times.end(), 0);
  return modulation;
}

}  // namespace ardiff
