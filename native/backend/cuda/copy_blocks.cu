// Copies of whole blocks of the paged cache.
#include <algorithm>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/device.h"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cuda;

namespace {

// Block pairs by value: no copy to the device before the copy. 2 KB of the 4 KB of kernel parameters that every device takes.
constexpr int kPairsPerLaunch = 256;
struct BlockPairs {
  int32_t blocks[2 * kPairsPerLaunch];
};

// Word: the widest type that block size and alignment allow. Block (pair, keys or values).
template <typename Word>
__global__ void copy_pairs(BlockPairs pairs, Word* keys, Word* values, int64_t words) {
  Word* cache = blockIdx.y == 0 ? keys : values;
  const Word* from = cache + pairs.blocks[2 * blockIdx.x] * words;
  Word* to = cache + pairs.blocks[2 * blockIdx.x + 1] * words;
  if (from == to) return;
  for (int64_t i = threadIdx.x; i < words; i += blockDim.x) to[i] = from[i];
}

}  // namespace

void CudaBackend::copy_blocks(const KvLayer& kv, std::span<const int32_t> pairs) {
  op_checks::copy_blocks(kv, pairs);
  const Shape& s = kv.keys.shape;
  const size_t bytes = static_cast<size_t>(s[1] * s[2] * s[3]) * dtype_size(kv.keys.dtype);
  for (size_t begin = 0; begin < pairs.size(); begin += 2 * kPairsPerLaunch) {
    const size_t count = std::min<size_t>(pairs.size() - begin, 2 * kPairsPerLaunch);
    BlockPairs some;
    std::copy_n(pairs.begin() + static_cast<std::ptrdiff_t>(begin), count, some.blocks);
    const dim3 grid(static_cast<unsigned>(count / 2), 2);
    if (bytes % sizeof(uint4) == 0) {
      copy_pairs<<<grid, kBlock, 0, stream_>>>(some, reinterpret_cast<uint4*>(kv.keys.data), reinterpret_cast<uint4*>(kv.values.data),
                                                 static_cast<int64_t>(bytes / sizeof(uint4)));
    } else {
      copy_pairs<<<grid, kBlock, 0, stream_>>>(some, reinterpret_cast<uint16_t*>(kv.keys.data), reinterpret_cast<uint16_t*>(kv.values.data),
                                                 static_cast<int64_t>(bytes / sizeof(uint16_t)));
    }
    check_launch("copy_blocks");
  }
}

}  // namespace ardiff
