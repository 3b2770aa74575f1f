#include "backend/cpu/linear.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <tuple>
#include <typeinfo>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/thread_pool.h"
#include "backend/cpu/view_data.h"
#include "backend/host_memory.h"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cpu;

namespace {

// Packed weights from this size on go to oneDNN where it has AMX; below, its cost per call shows.
constexpr int64_t kDnnlProductBytes = 256 * 1024;

// The epilogue kernel reads whole vectors: up to this many floats past a row's end.
constexpr int64_t kReadAhead = 16;

// Row n of the parts stacked into one (out, in) matrix.
void read_row(std::span<const LinearPart> parts, int64_t in, int64_t n, float* row) {
  for (const LinearPart& part : parts) {
    if (n < part.weight.shape[0]) {
      read_f32(part.weight, n * in, in, row);
      return;
    }
    n -= part.weight.shape[0];
  }
}

Storage pack(std::span<const LinearPart> parts, const PanelShape& shape, ThreadPool& pool) {
  Storage panels = allocate_host(static_cast<size_t>(shape.elements()) * dtype_size(shape.dtype));
  std::vector<float> rows(static_cast<size_t>(shape.depth * pool.threads()));
  const int64_t chunks = std::min(shape.panels(), ThreadPool::kChunksPerThread * pool.threads());
  pool.run(chunks, [&](int64_t chunk, int worker) {
    float* row = rows.data() + shape.depth * worker;
    const int64_t end = std::min(shape.panels() * (chunk + 1) / chunks * shape.panel_columns, shape.columns);
    for (int64_t n = shape.panels() * chunk / chunks * shape.panel_columns; n < end; ++n) {
      read_row(parts, shape.depth, n, row);
      put_column(shape, panels.get(), n, row);
    }
  });
  return panels;
}

std::unique_ptr<DnnlProduct> make_product(std::span<const LinearPart> parts, const PanelShape& shape, DnnlRuntime& runtime) {
  const Storage matrix = allocate_host(static_cast<size_t>(shape.columns * shape.depth) * dtype_size(shape.dtype));
  std::vector<float> row(static_cast<size_t>(shape.depth));
  for (int64_t n = 0; n < shape.columns; ++n) {
    read_row(parts, shape.depth, n, row.data());
    for (int64_t k = 0; k < shape.depth; ++k) put(shape, matrix.get(), n * shape.depth + k, row[static_cast<size_t>(k)]);
  }
  return with_dnnl("prepare_linear",
                   [&] { return std::make_unique<DnnlProduct>(runtime, matrix.get(), shape.dtype, shape.depth, shape.columns); });
}

// Microseconds of one thread for a product, roughly: reading the weights, and multiplying.
double gemm_microseconds(const GemmTask& task, bool bf16) {
  const auto weights = static_cast<double>(task.depth * task.columns);
  return weights * (bf16 ? 2e-3 : 4e-3) / 60.0 + weights * static_cast<double>(task.rows) * 1e-3 / (bf16 ? 100.0 : 50.0);
}

// Chunks of about two microseconds or more, one or several for every thread where there are enough.
int64_t gemm_chunks(double microseconds, int64_t units, int64_t threads) {
  const int64_t most = std::min(units, ThreadPool::kChunksPerThread * threads);
  const int64_t chunks = std::clamp<int64_t>(static_cast<int64_t>(microseconds / 2.0), 1, most);
  return chunks > threads ? chunks / threads * threads : chunks;
}

// The task's rows [begin, end).
GemmTask row_range(const GemmTask& task, int64_t begin, int64_t end, size_t x_size) {
  GemmTask part = task;
  part.rows = end - begin;
  part.x = static_cast<const std::byte*>(task.x) + static_cast<size_t>(begin * task.x_stride) * x_size;
  part.y = static_cast<std::byte*>(task.y) + static_cast<size_t>(begin * task.y_stride) * (task.y_bf16 ? 2 : 4);
  if (task.gate_rows) {
    part.gate_rows = task.gate_rows + begin;
  } else if (task.gate) {
    part.gate = task.gate + begin * task.gate_stride;
  }
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
    prepared->product = make_product(parts, shape, *dnnl_);
  } else {
    prepared->panels = pack(parts, shape, pool_);
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

  // Panels are what is shared out, so that a core finds its weights in its own cache; rows, in whole tiles, where
  // panels are too few for the threads.
  constexpr int64_t kTileRows = 12;
  const bool by_rows = panels < 4 * threads() && task.rows >= kTileRows * threads();
  const int64_t units = by_rows ? (task.rows + kTileRows - 1) / kTileRows : panels;
  const int64_t chunks = gemm_chunks(gemm_microseconds(task, bf16()), units, threads());
  pool_.run(chunks, [&](int64_t chunk, int worker) {
    const int64_t begin = units * chunk / chunks;
    const int64_t end = units * (chunk + 1) / chunks;
    GemmTask share = by_rows ? row_range(task, begin * kTileRows, std::min(end * kTileRows, task.rows), x_size) : task;
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
    if (epilogue.gate_rows) task.gate_rows = indices(epilogue.gate_rows);
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

// Through oneDNN: shard by shard of the weight, tile by tile of the rows, each through the epilogue at once.
void CpuBackend::run_product(DnnlProduct& product, const TensorView& x, const GemmTask& task) {
  constexpr int64_t kRows = DnnlProduct::kRows;
  const auto size = static_cast<int64_t>(dtype_size(info_.dtype));
  const int64_t depth = x.cols();
  const int64_t tiles = (x.rows() + kRows - 1) / kRows;
  const std::byte* inputs = x.data;
  if (x.rows() % kRows != 0 || x.dtype != info_.dtype || !x.contiguous()) {
    auto* copies = activations_.get<std::byte>(tiles * kRows * depth * size);
    // Rows past the end repeat the last one: whatever they hold must be harmless.
    pool_.run_ranges(tiles * kRows, depth, [&](int64_t begin, int64_t end) {
      for (int64_t m = begin; m < end; ++m) load_product_row(x, std::min(m, x.rows() - 1), copies + m * depth * size);
    });
    inputs = copies;
  }
  // The epilogue kernel reads whole vectors, so a shard's results have room behind them.
  const int64_t room = kRows * product.width(0) + kReadAhead;
  float* results = results_.get<float>(room * threads());
  std::atomic<bool> failed{false};
  pool_.run(product.shards(), [&](int64_t shard, int worker) {
    float* r = results + worker * room;
    const int64_t width = product.width(shard);
    for (int64_t tile = 0; tile < tiles && !failed; ++tile) {
      if (!try_dnnl([&] { product.run(shard, inputs + tile * kRows * depth * size, r); })) failed = true;
      const int64_t begin = tile * kRows;
      for (int64_t m = begin; m < std::min(begin + kRows, task.rows); ++m) {
        const int64_t at = m * task.y_stride + product.begin(shard);
        const int64_t gate_row = task.gate_rows ? task.gate_rows[m] : m;
        kernels_->epilogue(r + (m - begin) * width, task.bias + product.begin(shard), task.kind,
                           task.gate ? task.gate + gate_row * task.gate_stride + product.begin(shard) : nullptr, width,
                           static_cast<std::byte*>(task.y) + at * (task.y_bf16 ? 2 : 4), task.y_bf16);
      }
    }
  });
  check(!failed, ErrorCode::kInternal, "linear: oneDNN failed on a product of ", depth, " by ", task.columns);
}

}  // namespace ardiff
