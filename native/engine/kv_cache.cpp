#include "engine/kv_cache.h"

namespace ardiff {

KvCache::KvCache(Backend& backend, const KvShape& shape, int64_t num_blocks)
    : backend_(backend), num_blocks_(num_blocks), num_layers_(shape.num_layers) {
  const Shape blocks{num_blocks, shape.kv_heads, shape.block_tokens, shape.head_dim};
  for (int64_t i = 0; i < shape.num_layers + shape.second_layers; ++i) {
    const Tensor keys = backend.make(backend.kv_dtype(), blocks), values = backend.make(backend.kv_dtype(), blocks);
    layers_.push_back({keys.view, values.view});
    storage_.push_back(keys);
    storage_.push_back(values);
  }
}

void KvCache::copy(std::span<const int32_t> pairs) {
  if (pairs.empty()) return;
  for (const KvLayer& layer : layers_) backend_.copy_blocks(layer, pairs);
}

}  // namespace ardiff
