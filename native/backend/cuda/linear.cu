// Linear layers: weights on their way to the device, and which kernel a product takes.
#include <vector>

#include "backend/cuda/cublas_lt.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/elements.cuh"
#include "backend/cuda/linear_layer.cuh"
#include "backend/cuda/product_after.cuh"
#include "backend/cuda/weight_layout.cuh"
#include "backend/cuda/wide_rows.h"
#include "backend/host_memory.h"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cuda;

namespace {

constexpr int64_t kUploadBytes = int64_t{32} << 20;  // of a weight matrix at a time, on its way into the layout

enum class Layout { kRows, kTiles };  // as it is, rows `depth` apart; as weight_layout.cuh says

// Rows of a weight matrix, the first of them feature `first`, to their places.
template <typename Source, typename T>
__global__ void place_weights(const Source* rows, int64_t count, int64_t in, int64_t first, int64_t depth, Layout layout, T* to) {
  for (int64_t i = first_item(); i < count * in; i += item_step()) {
    const int64_t feature = first + i / in, k = i % in;
    const int64_t place = layout == Layout::kTiles ? weight_place(feature, k, depth / kStepDepth) : feature * depth + k;
    to[place] = from_float<T>(to_float(rows[i]));
  }
}

template <typename Source>
void place(const Source* rows, int64_t count, int64_t first, const CudaLinear& layer, DType dtype, Layout layout, cudaStream_t stream) {
  const int64_t in = layer.in_features;
  visit_element(dtype, [&](auto type) {
    auto* const to = reinterpret_cast<decltype(type)*>(layer.weight.get());
    place_weights<<<blocks_for(count * in), kBlock, 0, stream>>>(rows, count, in, first, layer.depth, layout, to);
  });
  check_launch("prepare_linear");
}

// Rows of x as bf16 with zeros up to `depth`, kVec neighbours at a time.
template <typename T, int kVec>
__global__ void pad_rows(const T* x, int64_t stride, int64_t rows, int64_t in, int64_t depth, bf16* to) {
  for (int64_t i = first_item() * kVec; i < rows * depth; i += item_step() * kVec) {
    const int64_t k = i % depth;
    float numbers[kVec] = {};
    if (k < in) load_elements<kVec>(x + i / depth * stride + k, numbers);
    store_elements<kVec>(to + i, numbers);
  }
}

bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

}  // namespace

std::unique_ptr<Linear> CudaBackend::prepare_linear(std::span<const LinearPart> parts) { return place_linear(parts, nullptr); }

std::unique_ptr<Linear> CudaBackend::prepare_picture_linear(std::span<const LinearPart> parts) { return place_linear(parts, cublas_lt_.get()); }

std::unique_ptr<Linear> CudaBackend::place_linear(std::span<const LinearPart> parts, CublasLt* lt) {
  op_checks::prepare_linear(parts);
  const int64_t in = parts[0].weight.shape[1];
  int64_t out = 0;
  for (const LinearPart& part : parts) out += part.weight.shape[0];
  check(in < (int64_t{1} << 30) && out < (int64_t{1} << 30), ErrorCode::kInvalidModel, "weight ", parts[0].weight.name, ": ", out, " x ", in,
        " is beyond the cuda backend");
  auto layer = std::make_unique<CudaLinear>(in, out);
  layer->depth = bf16() ? round_up(in, kStepDepth) : in;
  const Layout layout = bf16() && lt == nullptr ? Layout::kTiles : Layout::kRows;
  const int64_t elements = (layout == Layout::kTiles ? round_up(out, kPaddedFeatures) : out) * layer->depth;
  layer->weight = allocate(static_cast<size_t>(elements) * dtype_size(info_.dtype));
  layer->bias = allocate(static_cast<size_t>(out) * sizeof(float));
  std::vector<float> bias(static_cast<size_t>(out), 0.0f);
  int64_t feature = 0;
  for (const LinearPart& part : parts) {
    const int64_t rows = part.weight.shape[0];
    if (part.bias) read_f32(part.bias, 0, rows, bias.data() + feature);
    const auto row_bytes = static_cast<int64_t>(dtype_size(part.weight.dtype)) * in;
    const int64_t rows_at_once = std::clamp<int64_t>(kUploadBytes / row_bytes, 1, rows);
    auto* staged = activations_.get<std::byte>(rows_at_once * row_bytes);
    for (int64_t row = 0; row < rows; row += rows_at_once) {
      const int64_t count = std::min(rows_at_once, rows - row);
      staging_.upload(staged, static_cast<const std::byte*>(part.weight.data) + row * row_bytes, static_cast<size_t>(count * row_bytes), stream_);
      switch (part.weight.dtype) {
        case DType::kBF16: place(reinterpret_cast<const cuda::bf16*>(staged), count, feature + row, *layer, info_.dtype, layout, stream_); break;
        case DType::kF16: place(reinterpret_cast<const __half*>(staged), count, feature + row, *layer, info_.dtype, layout, stream_); break;
        default: place(reinterpret_cast<const float*>(staged), count, feature + row, *layer, info_.dtype, layout, stream_); break;
      }
    }
    feature += rows;
  }
  staging_.upload(layer->bias.get(), bias.data(), bias.size() * sizeof(float), stream_);
  if (lt == nullptr) return layer;
  try {
    layer->algorithms = &lt->algorithms(layer->depth, out, [&](const lt::Algo& candidate, const lt::Algo* canonical) {
      return rows_keep_their_bits(*lt, candidate, canonical, layer->weight.get(), layer->depth, out, activations_, workspace_, stream_);
    });
  } catch (const Error& error) {
    if (lt->required() || error.code() != ErrorCode::kInvalidArgument) throw;
    layer.reset();
    return place_linear(parts, nullptr);
  }
  return layer;
}

void CudaBackend::set_bf16_input(LinearTask& task, const TensorView& x, int64_t depth) {
  const bool usable = x.dtype == DType::kBF16 && x.cols() == depth && x.row_stride % 8 == 0 && is_aligned(x.data);
  if (usable) {
    task.x = x.data;
    task.x_stride = x.row_stride;
    return;
  }
  auto* padded = activations_.get<cuda::bf16>(x.rows() * depth);
  const bool by_four = lies_by_four(x) && depth % 4 == 0;
  visit_element(x.dtype, [&](auto type) {
    using T = decltype(type);
    const auto kernel = by_four ? pad_rows<T, 4> : pad_rows<T, 1>;
    kernel<<<blocks_for(x.rows() * depth / (by_four ? 4 : 1)), kBlock, 0, stream_>>>(elements<T>(x), x.row_stride, x.rows(), x.cols(), depth, padded);
  });
  check_launch("linear");
  task.x = padded;
  task.x_stride = depth;
}

bool CudaBackend::takes_wide(int64_t rows, const CudaLinear& layer) const {
  return wide_.multiprocessors > 0 && layer.algorithms == nullptr && rows > kFewRows &&
         wide_pays(rows, layer.depth, layer.out_features, limits_.wide_products);
}

void CudaBackend::linear(const TensorView& x, const Linear& w, const TensorView& y, const Epilogue& epilogue) {
  op_checks::linear(x, w, y, epilogue);
  if (x.rows() == 0) return;
  const auto& layer = dynamic_cast<const CudaLinear&>(w);
  LinearTask task = linear_task(layer, x.rows(), y, epilogue);
  if (!bf16()) {
    task.x = x.data;
    task.x_stride = x.row_stride;
    visit_element(x.dtype, [&](auto type) { launch_linear_f32<decltype(type)>(task, stream_); });
    return;
  }
  set_bf16_input(task, x, layer.depth);
  if (layer.algorithms != nullptr) {
    launch_linear_pictures(task, *cublas_lt_, *layer.algorithms, limits_.product_sums, workspace_, stream_);
  } else if (x.rows() <= kFewRows) {
    launch_linear_few(task, stream_);
  } else if (takes_wide(x.rows(), layer)) {
    launch_linear_wide(task, {}, wide_, limits_.product_sums, workspace_, stream_);
  } else {
    launch_linear_many(task, sm_count_, limits_.product_sums, workspace_, stream_);
  }
}

}  // namespace ardiff
