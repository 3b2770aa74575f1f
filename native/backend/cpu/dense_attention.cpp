// Attention over all pixels of an image as two matrix products, a block of query rows at a time: the scores
// of a 64x64 latent (4096 x 4096) are never held whole.
#include <algorithm>
#include <tuple>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/panels.h"
#include "backend/cpu/thread_pool.h"
#include "backend/cpu/view_data.h"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cpu;

namespace {

constexpr int64_t kQueryRows = kGemmBlockRows;

}  // namespace

void CpuBackend::dense_attention(const TensorView& q, const TensorView& k, const TensorView& v, float scale, const TensorView& out) {
  op_checks::dense_attention(q, k, v, out);
  const int64_t tokens = q.rows();
  const int64_t width = q.cols();
  const auto element = static_cast<int64_t>(dtype_size(info_.dtype));
  const PanelShape key_shape{tokens, width, kernels_->panel_columns, info_.dtype};
  const PanelShape value_shape{width, tokens, kernels_->panel_columns, info_.dtype};
  auto* keys = packed_.get<std::byte>((key_shape.elements() + value_shape.elements()) * element);
  std::byte* values = keys + key_shape.elements() * element;
  std::fill(keys, values + value_shape.elements() * element, std::byte{0});  // the padding; the memory is reused
  pool_.run_ranges(key_shape.panels(), kernels_->panel_columns * width, [&](int64_t begin, int64_t end) {
    const int64_t last = std::min(end * kernels_->panel_columns, tokens);
    for (int64_t n = begin * kernels_->panel_columns; n < last; ++n) put_column(key_shape, keys, n, row_floats(k, n));
  });
  pool_.run_ranges(value_shape.panels(), kernels_->panel_columns * tokens, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) {
      for (int64_t t = 0; t < tokens; ++t) put_depth(value_shape, values, panel, t, row_floats(v, t));
    }
  });

  const int64_t padded_tokens = value_shape.padded_depth();
  const std::vector<float> no_bias(static_cast<size_t>(std::max(key_shape.padded_columns(), value_shape.padded_columns())), 0.0f);
  const int64_t rows_at_once = std::min(kQueryRows, tokens);
  float* scores = scores_.get<float>(rows_at_once * std::max(tokens, width));
  // Weights in the product's dtype, then one sum per row.
  const int64_t weight_bytes = (rows_at_once * padded_tokens * element + 63) / 64 * 64;
  auto* weights = results_.get<std::byte>(weight_bytes + rows_at_once * static_cast<int64_t>(sizeof(float)));
  auto* inverse_sums = reinterpret_cast<float*>(weights + weight_bytes);

  for (int64_t begin = 0; begin < tokens; begin += rows_at_once) {
    const int64_t rows = std::min(rows_at_once, tokens - begin);
    GemmTask task{};
    task.rows = rows;
    task.bias = no_bias.data();
    task.kind = EpilogueKind::kStore;
    task.depth = key_shape.padded_depth();
    task.columns = tokens;
    task.panels = keys;
    task.y = scores;
    task.y_stride = tokens;
    std::tie(task.x, task.x_stride) = product_input(q.row_slice(begin, begin + rows), task.depth);
    run_gemm(task);
    pool_.run_ranges(rows, 8 * tokens, [&](int64_t first, int64_t last) {
      for (int64_t m = first; m < last; ++m) {
        std::byte* row = weights + m * padded_tokens * element;
        inverse_sums[m] = 1.0f / kernels_->softmax_row(scores + m * tokens, scale, tokens);
        kernels_->store(scores + m * tokens, tokens, row, bf16());
        std::fill(row + tokens * element, row + padded_tokens * element, std::byte{0});
      }
    });
    task.depth = padded_tokens;
    task.columns = width;
    task.panels = values;
    task.x = weights;
    task.x_stride = padded_tokens;
    task.y = scores;  // done with them: the weighted sums go here
    task.y_stride = width;
    run_gemm(task);
    for (int64_t m = 0; m < rows; ++m) {
      kernels_->scale_row(scores + m * width, inverse_sums[m], width, row_bytes(out, begin + m), is_bf16(out));
    }
  }
}

}  // namespace ardiff
