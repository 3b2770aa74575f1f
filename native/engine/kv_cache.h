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

struct KvShape {
  int64_t num_layers;
  int64_t kv_heads;
  int64_t block_tokens;
  int64_t head_dim;
  int64_t second_layers = 0;  // of another network whose positions share blocks and slots with the first
};

class KvCache {
 public:
  static constexpr int64_t kBlockTokens = 16;  // of NextStep; a TransDiff model's follow from its grid

  // A draft model's layers share blocks and slots with the target's: pair i is kept in the slot of position i.
  // Throws kOutOfMemory.
  KvCache(Backend& backend, const BackboneConfig& config, int64_t num_blocks, int64_t draft_layers = 0)
      : KvCache(backend, shape_of(config, draft_layers), num_blocks) {}
  KvCache(Backend& backend, const KvShape& shape, int64_t num_blocks);

  static KvShape shape_of(const BackboneConfig& config, int64_t draft_layers) {
    return {config.num_layers, config.num_kv_heads, kBlockTokens, config.head_dim, draft_layers};
  }
  static int64_t block_bytes(const Backend& backend, const KvShape& shape) {
    return 2 * (shape.num_layers + shape.second_layers) * shape.kv_heads * shape.block_tokens * shape.head_dim *
           static_cast<int64_t>(dtype_size(backend.kv_dtype()));
  }
  static int64_t blocks_for(int64_t positions, int64_t block_tokens = kBlockTokens) { return (positions + block_tokens - 1) / block_tokens; }
  static int32_t slot(std::span<const int32_t> block_table, int64_t position, int64_t block_tokens = kBlockTokens) {
    return block_table[static_cast<size_t>(position / block_tokens)] * static_cast<int32_t>(block_tokens) +
           static_cast<int32_t>(position % block_tokens);
  }

  int64_t num_blocks() const { return num_blocks_; }
  std::span<const KvLayer> layers() const { return std::span(layers_).first(static_cast<size_t>(num_layers_)); }
  std::span<const KvLayer> second_layers() const { return std::span(layers_).subspan(static_cast<size_t>(num_layers_)); }
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
