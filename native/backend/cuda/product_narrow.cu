// product_narrow.h: a block goes down a strip of the result, and rows of pixels come through a ring in shared memory, each once for all of
// its taps. Weights are on the left of a tensor core product, so that its 16 rows are four channels of the result for each of the three
// rows of taps, and its eight columns are pixels. A row of pixels ends the sums of the result's row two above, goes on with those of the
// row above, and begins those of the next:
//
//   rows of the product   row of taps   afterwards
//   0-3                   0             become 8-11
//   8-11                  1             become 4-7
//   4-7                   2             are complete
//
// Taps still come outside and channels inside, and those of a result one after the other: the chain of sums of product_bf16.cu.
#include <algorithm>

#include "backend/cuda/async_copy.cuh"
#include "backend/cuda/device.h"
#include "backend/cuda/mma.cuh"
#include "backend/cuda/product_narrow.h"
#include "backend/cuda/product_result.cuh"

namespace ardiff::cuda {
namespace {

constexpr int kKernel = 3, kTaps = kKernel * kKernel;
constexpr int kChannels = 4;  // of the result in a block
constexpr int kWarps = 2, kThreads = kWarps * 32;
constexpr int kWarpPixels = 16, kPixels = kWarps * kWarpPixels;  // of a strip's row
constexpr int kRows = 16;                                        // of a strip: two rows of pixels more are read
constexpr int kRowPixels = kPixels + kKernel - 1;                // of a row in the ring
constexpr int kStages = 4;                                       // rows in the ring
constexpr int kPiece = 8;                                        // bf16 of one copy
constexpr int kAtOnce = 4;                                       // steps of channels

// Numbers of bf16 in shared memory. ldmatrix reads eight pixels, or the four channels of two taps that are two rows of taps apart: from
// one to the next it is an odd number of 16 bytes, and half a turn of the banks between those taps, so that none is met twice.
struct Layout {
  int pixel;   // from one pixel, or channel of a tap, to the next
  int tap;     // from one tap of the weights to the next
  int row;     // from one row of the ring to the next
  int pieces;  // copies of a pixel

  explicit __host__ __device__ Layout(int depth)
      : pixel(depth + kPiece), tap(kChannels * pixel + 2 * kPiece), row(kRowPixels * pixel), pieces(depth / kPiece) {}
  __host__ __device__ int bytes() const { return (kTaps * tap + kStages * row) * static_cast<int>(sizeof(bf16)); }
};

struct Strips {
  int across, down;  // of an image
};

// Which copies a thread makes: one piece of every step-th pixel from the first on.
struct Turn {
  int piece, first, step;

  explicit __device__ Turn(int pieces) : piece(static_cast<int>(threadIdx.x) % pieces * kPiece), step(kThreads / pieces) {
    first = static_cast<int>(threadIdx.x) / pieces;
    if (first >= step) first = kRowPixels + kTaps * kChannels;  // threads that are left over
  }
};

__device__ void load_weights(const Product& p, const Layout& layout, const Turn& turn, int first_channel, bf16* to) {
  const auto* b = static_cast<const bf16*>(p.b);
  for (int i = turn.first; i < kTaps * kChannels; i += turn.step) {
    const int tap = i / kChannels, channel = i % kChannels, n = first_channel + channel;
    const bool valid = n < p.columns;
    copy_async_16(to + tap * layout.tap + channel * layout.pixel + turn.piece,
                  b + (valid ? n * p.b_stride + static_cast<int64_t>(tap) * p.tap_depth + turn.piece : 0), valid);
  }
}

// Pixels from `column` on of a row of the picture as it is read, doubled or not; zeros outside.
__device__ void load_row(const Product& p, const Layout& layout, const Turn& turn, int64_t image, int row, int column, bf16* to) {
  const ConvShape& s = p.shape;
  const auto* a = static_cast<const bf16*>(p.a);
  const bool inside = row >= 0 && row < s.height << s.doubling;
  const int stride = static_cast<int>(s.channels);
  const bf16* from = a + (image * s.height + (inside ? row >> s.doubling : 0)) * s.width * s.channels + turn.piece;
  for (int i = turn.first; i < kRowPixels; i += turn.step) {
    const int at = column + i;
    const bool valid = inside && at >= 0 && at < s.width << s.doubling;
    copy_async_16(to + i * layout.pixel + turn.piece, valid ? from + (at >> s.doubling) * stride : a, valid);
  }
}

// sums += weights x pixels, kSteps * kNarrowStep channels of them: what is read comes together, so that only the first of it is waited for.
template <int kSteps>
__device__ void multiply_steps(const bf16* lane_weights, const bf16* pixels, int stride, int lane, float (&sums)[2][4]) {
  uint32_t w[kSteps][4], x[kSteps][2][2];
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    load_matrices(lane_weights + i * kNarrowStep, w[i][0], w[i][1], w[i][2], w[i][3]);
    load_b_fragments(pixels + i * kNarrowStep, stride, lane, x[i][0], x[i][1]);
  }
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    multiply_add(sums[0], w[i], x[i][0]);
    multiply_add(sums[1], w[i], x[i][1]);
  }
}

__global__ void __launch_bounds__(kThreads) narrow_product_kernel(Product p, Strips strips) {
  extern __shared__ __align__(16) bf16 shared[];
  const ConvShape& s = p.shape;
  const Layout layout(p.depth);
  bf16 *const weights = shared, *const ring = weights + kTaps * layout.tap;

  const int strip = static_cast<int>(blockIdx.x) / strips.across, first_channel = static_cast<int>(blockIdx.y) * kChannels;
  const int64_t image = strip / strips.down;
  const int first_row = strip % strips.down * kRows, first_column = static_cast<int>(blockIdx.x) % strips.across * kPixels;
  const int rows = min(kRows, s.out_height - first_row) + kKernel - 1;  // of pixels

  const Turn turn(layout.pieces);
  const auto load = [&](int i) {
    if (i < rows) load_row(p, layout, turn, image, first_row - s.pad + i, first_column - s.pad, ring + i % kStages * layout.row);
    commit_copies();
  };
  load_weights(p, layout, turn, first_channel, weights);
  for (int i = 0; i < kStages - 1; ++i) load(i);

  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  // The row of weights whose address this lane gives: 0-3, 4-7, 8-11; 12-15 are 8-11 once more, and nobody's.
  const int tap_row = lane % 16 < 4 ? 0 : lane % 16 < 8 ? 2 : 1;
  const bf16* const lane_weights = weights + tap_row * kKernel * layout.tap + lane % 4 * layout.pixel + lane / 16 * 8;
  float sums[2][4] = {};
  for (int i = 0; i < rows; ++i) {
    wait_copies<kStages - 2>();
    __syncthreads();        // this row is there, and nobody reads the one before any more
    load(i + kStages - 1);  // into its place
    const bf16* const pixels = ring + i % kStages * layout.row + warp * kWarpPixels * layout.pixel;
    for (int tap = 0; tap < kKernel; ++tap) {
      const bf16 *const of_tap = lane_weights + tap * layout.tap, *const read = pixels + tap * layout.pixel;
      int c = 0;
      for (; c + kAtOnce * kNarrowStep <= p.depth; c += kAtOnce * kNarrowStep) {
        multiply_steps<kAtOnce>(of_tap + c, read + c, layout.pixel, lane, sums);
      }
      for (; c < p.depth; c += kNarrowStep) multiply_steps<1>(of_tap + c, read + c, layout.pixel, lane, sums);
    }
    const bool complete = i >= kKernel - 1 && lane >= 16;
    const int64_t m = (image * s.out_height + first_row + i - (kKernel - 1)) * s.out_width;
    const int n = first_channel + lane / 4 % kChannels;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int column = first_column + warp * kWarpPixels + half * 8 + lane % 4 * 2 + e;
        if (complete && column < s.out_width && n < p.columns) store(p, m + column, n, sums[half][e]);
        const float next = __shfl_xor_sync(0xffffffffu, sums[half][2 + e], 16);
        sums[half][2 + e] = sums[half][e];
        sums[half][e] = lane < 16 ? 0.0f : next;
      }
    }
  }
}

}  // namespace

void multiply_narrow(const Product& p, cudaStream_t stream) {
  const ConvShape& s = p.shape;
  const Layout layout(p.depth);
  const Strips strips{static_cast<int>(ceil_div(s.out_width, kPixels)), static_cast<int>(ceil_div(s.out_height, kRows))};
  const int64_t images = p.rows / s.out_height / s.out_width;
  allow_shared_memory(narrow_product_kernel, static_cast<size_t>(layout.bytes()));
  const dim3 grid(static_cast<unsigned>(images * strips.down * strips.across), static_cast<unsigned>(ceil_div(p.columns, kChannels)));
  narrow_product_kernel<<<grid, kThreads, static_cast<size_t>(layout.bytes()), stream>>>(p, strips);
}

}  // namespace ardiff::cuda
