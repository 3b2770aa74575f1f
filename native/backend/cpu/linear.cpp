#include "backend/cpu/linear.h"

#include <algorithm>
#include <cstring>
#include <tuple>
#include <typeinfo>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/thread_pool.h"
#include "backend/cpu/view_data.h"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cpu;

namespace {

// Packed weights from this size on go to oneDNN where it has AMX; below, its cost per call shows.
constexpr int64_t kDnnlProductBytes = 256 * 1024;

// The epilogue kernel reads whole vectors: up to this many floats past a row's end.
constexpr int64_t kReadAhead = 16;

// The parts as one (out, in) matrix, row by row.
template <typename Visit>
void for_each_row(std::span<const LinearPart> parts, int64_t in, Visit&& visit) {
  std::vector<float> row(static_cast<size_t>(in));
  int64_t n = 0;
  for (const LinearPart& part : parts) {
    for (int64_t r = 0; r < part.weight.shape[0]; ++r, ++n) {
      read_f32(part.weight, r * in, in, row.data());
      visit(n, row.data());
    }
  }
}

void pack(std::span<const LinearPart> parts, CpuLinear& prepared) {
  const PanelShape& shape = prepared.shape;
  prepared.panels = allocate_host(static_cast<size_t>(shape.elements()) * dtype_size(shape.dtype));
  for_each_row(parts, shape.depth, [&](int64_t n, const float* row) {
    for (int64_t k = 0; k < shape.depth; ++k) put(shape, prepared.panels.get(), n, k, row[k]);
  });
}

std::unique_ptr<DnnlProduct> make_product(std::span<const LinearPart> parts, const PanelShape& shape, DnnlRuntime& runtime, int threads) {
  const Storage plain = allocate_host(static_cast<size_t>(shape.columns * shape.depth) * dtype_size(shape.dtype));
  for_each_row(parts, shape.depth, [&](int64_t n, const float* row) {
    for (int64_t k = 0; k < shape.depth; ++k) {
      const auto at = static_cast<size_t>(n * shape.depth + k);
      if (shape.dtype == DType::kBF16) {
        reinterpret_cast<bf16_t*>(plain.get())[at] = f32_to_bf16(row[k]);
      } else {
        reinterpret_cast<float*>(plain.get())[at] = row[k];
      }
    }
  });
  return with_dnnl(threads, "prepare_linear",
                   [&] { return std::make_unique<DnnlProduct>(runtime, plain.get(), shape.dtype, shape.depth, shape.columns); });
}

// Microseconds of one thread for a product, roughly: reading the weights, and multiplying.
double gemm_microseconds(const GemmTask& task, bool bf16) {
  const auto weights = static_cast<double>(task.depth * task.columns);
  return weights * (bf16 ? 2e-3 : 4e-3) / 60.0 + weights * static_cast<double>(task.rows) * 1e-3 / (bf16 ? 100.0 : 50.0);
}

// The task's rows [begin, end).
GemmTask row_range(const GemmTask& task, int64_t begin, int64_t end, size_t x_size) {
  GemmTask part = task;
  part.rows = end - begin;
  part.x = static_cast<const std::byte*>(task.x) + static_cast<size_t>(begin * task.x_stride) * x_size;
  part.y = static_cast<std::byte*>(task.y) + static_cast<size_t>(begin * task.y_stride) * (task.y_bf16 ? 2 : 4);
  if (task.gate) part.gate = task.gate + begin * task.gate_stride;
  return part;
}

}  // namespace

std::unique_ptr<Linear> CpuBackend::prepare_linear(std::span<const LinearPart> parts) {
  op_checks::prepare_linear(parts);
  const int64_t in = parts[0].weight.shape[1];
  int64_t out = 0;
  for (const LinearPart& part : parts) out += part.weight.shape[0];
  const PanelShape shape{out, in, kernels_->panel_columns, info_.dtype};
  auto prepared = std::make_unique<CpuLinear>(shape);
  prepared->bias.resize(static_cast<size_t>(shape.padded_columns()), 0.0f);
  int64_t n = 0;
  for (const LinearPart& part : parts) {
    if (part.bias) read_f32(part.bias, 0, part.weight.shape[0], prepared->bias.data() + n);
    n += part.weight.shape[0];
  }
  const bool large = shape.elements() * static_cast<int64_t>(dtype_size(shape.dtype)) >= kDnnlProductBytes;
  if (dnnl_products_ && large) {
    prepared->product = make_product(parts, shape, *dnnl_, threads());
  } else {
    pack(parts, *prepared);
  }
  return prepared;
}

void CpuBackend::load_product_row(const TensorView& x, int64_t m, std::byte* to) const {
  if (x.dtype == info_.dtype) {
    std::memcpy(to, row_bytes(x, m), static_cast<size_t>(x.cols()) * dtype_size(x.dtype));
  } else if (bf16()) {
    kernels_->store(row_floats(x, m), x.cols(), to, true);
  } else {
    kernels_->load_bf16(reinterpret_cast<const bf16_t*>(row_bytes(x, m)), x.cols(), reinterpret_cast<float*>(to));
  }
}

std::pair<const void*, int64_t> CpuBackend::product_input(const TensorView& x, int64_t depth) {
  if (x.dtype == info_.dtype && x.cols() == depth) return {x.data, x.row_stride};
  const size_t size = dtype_size(info_.dtype);
  auto* rows = activations_.get<std::byte>(x.rows() * depth * static_cast<int64_t>(size));
  pool_.run_ranges(x.rows(), depth, [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) {
      std::byte* to = rows + static_cast<size_t>(m * depth) * size;
      load_product_row(x, m, to);
      std::memset(to + static_cast<size_t>(x.cols()) * size, 0, static_cast<size_t>(depth - x.cols()) * size);
    }
  });
  return {rows, depth};
}

void CpuBackend::run_gemm(const GemmTask& task) {
  const int64_t panels = (task.columns + kernels_->panel_columns - 1) / kernels_->panel_columns;
  const int64_t partial = kGemmBlockRows * kernels_->panel_columns;
  float* partials = partial_.get<float>(partial * threads());
  const auto kernel = bf16() ? kernels_->gemm_bf16 : kernels_->gemm_f32;
  const size_t x_size = dtype_size(info_.dtype);

  // A chunk is worth at least two microseconds. Panels are what is shared out, so that a core finds its weights
  // in its own cache, by twos and fours where few rows want several abreast; rows where panels are too few.
  const auto worthwhile = static_cast<int64_t>(gemm_microseconds(task, bf16()) / 2.0);
  const int64_t most = std::clamp<int64_t>(worthwhile, 1, ThreadPool::kChunksPerThread * threads());
  const bool by_rows = panels < 4 * threads() && task.rows >= 12 * threads();
  const int64_t abreast = task.rows == 1 ? 4 : task.rows <= 3 ? 2 : 1;
  const int64_t units = by_rows ? (task.rows + 11) / 12 : (panels + abreast - 1) / abreast;
  const int64_t unit = by_rows ? 12 : abreast;
  const int64_t total = by_rows ? task.rows : panels;
  const int64_t chunks = std::min(most, units);
  pool_.run(chunks, [&](int64_t chunk, int worker) {
    const int64_t begin = units * chunk / chunks * unit;
    const int64_t end = std::min(units * (chunk + 1) / chunks * unit, total);
    GemmTask share = by_rows ? row_range(task, begin, end, x_size) : task;
    share.panel_begin = by_rows ? 0 : begin;
    share.panel_end = by_rows ? panels : end;
    share.partial = partials + worker * partial;
    kernel(share);
  });
}

void CpuBackend::linear(const TensorView& x, const Linear& w, const TensorView& y, const Epilogue& epilogue) {
  op_checks::linear(x, w, y, epilogue);
  check(typeid(w) == typeid(CpuLinear), ErrorCode::kInternal, "linear: weights of another backend");
  const auto& prepared = static_cast<const CpuLinear&>(w);
  check(prepared.shape.dtype == info_.dtype && prepared.shape.panel_columns == kernels_->panel_columns, ErrorCode::kInternal,
        "linear: weights of another backend");
  if (x.rows() == 0) return;
  GemmTask task{};
  task.rows = x.rows();
  task.columns = w.out_features;
  task.bias = prepared.bias.data();
  task.kind = static_cast<EpilogueKind>(epilogue.kind);
  task.y = y.data;
  task.y_stride = y.row_stride;
  task.y_bf16 = is_bf16(y);
  if (epilogue.kind == Epilogue::Kind::kGatedAdd) {
    task.gate = floats(epilogue.gate);
    task.gate_stride = epilogue.gate.row_stride;
  }
  if (prepared.product) {
    run_product(*prepared.product, x, task);
    return;
  }
  task.depth = prepared.shape.padded_depth();
  task.panels = prepared.panels.get();
  std::tie(task.x, task.x_stride) = product_input(x, task.depth);
  run_gemm(task);
}

// Through oneDNN: whole tiles of rows into results_, from there through the epilogue.
void CpuBackend::run_product(DnnlProduct& product, const TensorView& x, const GemmTask& task) {
  constexpr int64_t kRows = DnnlProduct::kRows;
  const size_t size = dtype_size(info_.dtype);
  const int64_t depth = x.cols();
  float* results = results_.get<float>(kRows * task.columns + kReadAhead);
  for (int64_t begin = 0; begin < x.rows(); begin += kRows) {
    const int64_t rows = std::min(kRows, x.rows() - begin);
    const TensorView tile = x.row_slice(begin, begin + rows);
    const void* input = tile.data;
    if (rows < kRows || x.dtype != info_.dtype || !x.contiguous()) {
      auto* copy = activations_.get<std::byte>(kRows * depth * static_cast<int64_t>(size));
      // Rows past the end repeat the last one: whatever they hold must be harmless.
      for (int64_t m = 0; m < kRows; ++m) load_product_row(tile, std::min(m, rows - 1), copy + static_cast<size_t>(m * depth) * size);
      input = copy;
    }
    with_dnnl(threads(), "linear", [&] { product.run(*dnnl_, input, results); });
    const GemmTask part = row_range(task, begin, begin + rows, size);
    pool_.run_ranges(rows, task.columns, [&](int64_t first, int64_t last) {
      for (int64_t m = first; m < last; ++m) {
        kernels_->epilogue(results + m * task.columns, task.bias, part.kind, part.gate ? part.gate + m * part.gate_stride : nullptr,
                           task.columns, static_cast<std::byte*>(part.y) + static_cast<size_t>(m * part.y_stride) * (part.y_bf16 ? 2 : 4),
                           part.y_bf16);
      }
    });
  }
}

}  // namespace ardiff
