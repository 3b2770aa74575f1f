// Storage of the paged KV cache: a pool of blocks per layer. It turns (block table, position) into slots and
// copies blocks; which block belongs to whom is decided above (src/worker/scheduler/block-pool.ts).
//
//   block table of a row:   [ 7 | 2 | 9 ]          positions  0..15 | 16..31 | 32..47
//   slot of position 20  =  2 * 16 + 20 % 16  =  36
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "model/model_config.h"

namespace ardiff {

class KvCache {
 public:
  static constexpr int64_t kBlockTokens = 16;

  // A draft model's layers share blocks and slots with the target's: pair i is kept in the slot of position i.
  // Throws kOutOfMemory.
  KvCache(Backend& backend, const BackboneConfig& config, int64_t num_blocks, int64_t draft_layers = 0);

  static int64_t block_bytes(const Backend& backend, const BackboneConfig& config, int64_t draft_layers = 0) {
    return 2 * (config.num_layers + draft_layers) * config.num_kv_heads * kBlockTokens * config.head_dim *
           static_cast<int64_t>(dtype_size(backend.kv_dtype()));
  }
  static int64_t blocks_for(int64_t positions) { return (positions + kBlockTokens - 1) / kBlockTokens; }
  static int32_t slot(std::span<const int32_t> block_table, int64_t position) {
    return block_table[static_cast<size_t>(position / kBlockTokens)] * static_cast<int32_t>(kBlockTokens) +
           static_cast<int32_t>(position % kBlockTokens);
  }

  int64_t num_blocks() const { return num_blocks_; }
  std::span<const KvLayer> layers() const { return std::span(layers_).first(static_cast<size_t>(num_layers_)); }
  std::span<const KvLayer> draft_layers() const { return std::span(layers_).subspan(static_cast<size_t>(num_layers_)); }
  // (source, destination) pairs, flattened, already checked.
  void copy(std::span<const int32_t> pairs);

 private:
  Backend& backend_;
  int64_t num_blocks_;
  int64_t num_layers_;
  std::vector<Tensor> storage_;
  std::vector<KvLayer> layers_;
};

}  // namespace ardiff
