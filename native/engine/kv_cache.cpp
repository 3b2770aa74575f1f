#include "engine/kv_cache.h"

namespace ardiff {

KvCache::KvCache(Backend& backend, const BackboneConfig& config, int64_t num_blocks, int64_t draft_layers)
    : backend_(backend), num_blocks_(num_blocks), num_layers_(config.num_layers) {
  const Shape shape{num_blocks, config.num_kv_heads, kBlockTokens, config.head_dim};
  for (int64_t i = 0; i < config.num_layers + draft_layers; ++i) {
    const Tensor keys = backend.make(backend.kv_dtype(), shape), values = backend.make(backend.kv_dtype(), shape);
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
