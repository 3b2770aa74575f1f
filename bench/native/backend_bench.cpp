// The cpu backend beside the machine: matrix products of the demo model and of large ones against oneDNN and
// against memory bandwidth, and whole decode steps against the time their weights take to be read.
//
//   backend_bench [threads] [bandwidth|products|decode|head ...]      default: everything, all cores
#include <omp.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dnnl.hpp>
#include <random>
#include <set>
#include <string>

#include "backend/cpu/cpu_backend.h"
#include "backend/host_memory.h"
#include "timing.h"

namespace ardiff::bench {
namespace {

std::vector<float> random_values(int64_t count, float scale) {
  std::mt19937 engine(1);
  std::uniform_real_distribution<float> distribution(-scale, scale);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& value : out) value = distribution(engine);
  return out;
}

uint64_t read_words(const uint64_t* words, size_t count) {
  uint64_t sums[32] = {};
  for (size_t i = 0; i + 64 <= count; i += 64) {
    for (size_t j = 0; j < 32; ++j) sums[j] += words[i + j] ^ words[i + 32 + j];
  }
  uint64_t sum = 0;
  for (uint64_t s : sums) sum += s;
  return sum;
}

// Memory that is read whole, shared out as the kernels share out their weights: the floor of what streams weights.
class ReadFloor {
 public:
  ReadFloor(size_t bytes, cpu::ThreadPool& pool) : memory_(allocate_host(bytes)), pool_(pool), chunks_(cpu::ThreadPool::kChunksPerThread * pool.threads()) {
    std::memset(memory_.get(), 1, bytes);
    words_ = bytes / static_cast<size_t>(chunks_) / 512 * 64;
  }
  double bytes() const { return static_cast<double>(words_ * 8) * static_cast<double>(chunks_); }
  void run() {
    const auto* words = reinterpret_cast<const uint64_t*>(memory_.get());
    pool_.run(chunks_, [&](int64_t chunk, int) { sink_ += read_words(words + static_cast<size_t>(chunk) * words_, words_); });
  }

 private:
  Storage memory_;
  cpu::ThreadPool& pool_;
  int64_t chunks_;
  size_t words_;
  std::atomic<uint64_t> sink_{0};
};

double read_bandwidth(size_t bytes, cpu::ThreadPool& pool) {
  ReadFloor floor(bytes, pool);
  return floor.bytes() / measure([&] { floor.run(); }, 0.5).best / 1e9;
}

void print_bandwidth(int threads) {
  cpu::ThreadPool pool(threads);
  const size_t mib = size_t{1} << 20;
  std::printf("read bandwidth, %d threads: %.0f GB/s from 0.5 MiB a thread, %.1f GB/s from 16 MiB, %.1f GB/s from 512 MiB\n\n", threads,
              read_bandwidth(mib / 2 * static_cast<size_t>(threads), pool), read_bandwidth(16 * mib, pool), read_bandwidth(512 * mib, pool));
}

// oneDNN at its best: weights packed as this very row count likes them, nothing but the product.
class PlainDnnl {
 public:
  PlainDnnl(DType dtype, int64_t rows, int64_t in, int64_t out) {
    using dnnl::memory;
    const auto type = dtype == DType::kBF16 ? memory::data_type::bf16 : memory::data_type::f32;
    const dnnl::matmul::primitive_desc description({memory::desc({rows, in}, type, memory::format_tag::ab), memory::desc({in, out}, type, memory::format_tag::any),
                                                    memory::desc({rows, out}, memory::data_type::f32, memory::format_tag::ab)},
                                                   engine_);
    x_ = memory(description.src_desc(), engine_);
    w_ = memory(description.weights_desc(), engine_);
    y_ = memory(description.dst_desc(), engine_);
    for (memory* m : {&x_, &w_}) std::memset(m->get_data_handle(), 0, m->get_desc().get_size());
    matmul_ = dnnl::matmul(description);
  }
  void run() {
    matmul_.execute(stream_, {{DNNL_ARG_SRC, x_}, {DNNL_ARG_WEIGHTS, w_}, {DNNL_ARG_DST, y_}});
    stream_.wait();
  }

 private:
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  dnnl::memory x_, w_, y_;
  dnnl::matmul matmul_;
};

std::unique_ptr<Linear> random_linear(Backend& backend, int64_t in, int64_t out) {
  const auto weight = random_values(in * out, 0.1f);
  const LinearPart part{{weight.data(), DType::kF32, {out, in}, "weight"}, {}};
  return backend.prepare_linear({&part, 1});
}

Tensor random_tensor(Backend& backend, DType dtype, int64_t rows, int64_t cols) {
  const Tensor plain = backend.make(DType::kF32, {rows, cols});
  backend.upload(plain, random_values(rows * cols, 1.0f).data());
  if (dtype == DType::kF32) return plain;
  const Tensor out = backend.make(dtype, {rows, cols});
  backend.convert(plain, out);
  return out;
}

void print_products(const std::vector<std::unique_ptr<Backend>>& backends) {
  const std::pair<int64_t, int64_t> shapes[] = {{256, 768}, {256, 256}, {256, 1408}, {704, 256}, {384, 384}, {384, 4224}, {384, 64}, {768, 768}, {1280, 1280}, {4096, 4096}};
  for (const auto& backend : backends) {
    const DType dtype = backend->activation_dtype();
    std::printf("products in %s on %s, best of repeats\n", dtype_name(dtype), backend->info().isa.c_str());
    std::printf("%12s %5s | %9s %8s %8s | %9s | %s\n", "in x out", "rows", "us", "GFLOP/s", "GB/s", "oneDNN us", "oneDNN / ours");
    for (const auto& [in, out] : shapes) {
      const auto w = random_linear(*backend, in, out);
      for (int64_t rows : {1, 2, 4, 8, 16, 32, 64, 256}) {
        const Tensor x = random_tensor(*backend, dtype, rows, in);
        const Tensor y = backend->make(DType::kF32, {rows, out});
        PlainDnnl dnnl(dtype, rows, in, out);
        const auto [us, them] = measure_in_turns([&] { backend->linear(x, *w, y, Epilogue::store()); },
                                                 [&] {
                                                   omp_set_num_threads(backend->info().threads);
                                                   dnnl.run();
                                                 });
        const double ours = us.best, theirs = them.best;
        const double weights = static_cast<double>(in * out) * static_cast<double>(dtype_size(dtype));
        std::printf("%5ld x %4ld %5ld | %9.2f %8.0f %8.1f | %9.2f | %.2f\n", in, out, rows, ours * 1e6, 2e-9 * static_cast<double>(in * out * rows) / ours, weights / ours / 1e9,
                    theirs * 1e6, theirs / ours);
      }
    }
    std::printf("\n");
  }
}

// A backbone of random weights and one decode step of it, as native/model/backbone.cpp runs it.
struct Decoder {
  int64_t hidden, layers, heads, kv_heads, head_dim, intermediate;

  struct Layer {
    std::unique_ptr<Linear> qkv, out, gate_up, down;
    Tensor keys, values;
  };
  std::vector<Layer> weights;
  Tensor norm;

  double weight_bytes(DType dtype) const {
    const int64_t q = heads * head_dim, kv = kv_heads * head_dim;
    const int64_t per_layer = hidden * (q + 2 * kv) + q * hidden + 3 * hidden * intermediate;
    return static_cast<double>(per_layer * layers) * static_cast<double>(dtype_size(dtype));
  }

  void prepare(Backend& b, int64_t blocks) {
    const int64_t q = heads * head_dim, kv = kv_heads * head_dim;
    for (int64_t i = 0; i < layers; ++i) {
      Layer layer{random_linear(b, hidden, q + 2 * kv), random_linear(b, q, hidden), random_linear(b, hidden, 2 * intermediate), random_linear(b, intermediate, hidden), {}, {}};
      layer.keys = b.make(b.kv_dtype(), {blocks, kv_heads, 16, head_dim});
      layer.values = b.make(b.kv_dtype(), {blocks, kv_heads, 16, head_dim});
      weights.push_back(std::move(layer));
    }
    norm = random_tensor(b, DType::kF32, 1, hidden);
    norm.view = norm.view.reshape({hidden});
  }
};

template <typename T>
Tensor upload(Backend& b, DType dtype, const Shape& shape, const std::vector<T>& values) {
  const Tensor out = b.make(dtype, shape);
  b.upload(out, values.data());
  return out;
}

std::pair<Timing, Timing> time_decode(Backend& b, Decoder& model, int64_t rows, int64_t context, ReadFloor& floor) {
  const int64_t q_size = model.heads * model.head_dim, qkv_size = q_size + 2 * model.kv_heads * model.head_dim;
  const int64_t max_blocks = (context + 15) / 16;
  std::vector<int32_t> tables, slots, table_rows, lengths, positions;
  for (int64_t i = 0; i < rows * max_blocks; ++i) tables.push_back(static_cast<int32_t>(i));
  for (int64_t m = 0; m < rows; ++m) {
    slots.push_back(static_cast<int32_t>((m * max_blocks + (context - 1) / 16) * 16 + (context - 1) % 16));
    table_rows.push_back(static_cast<int32_t>(m));
    lengths.push_back(static_cast<int32_t>(context));
    positions.push_back(static_cast<int32_t>(context - 1));
  }
  const DType act = b.activation_dtype();
  const Tensor x = random_tensor(b, DType::kF32, rows, model.hidden);
  const Tensor normed = b.make(act, {rows, model.hidden}), qkv = b.make(DType::kF32, {rows, qkv_size}), q = b.make(DType::kF32, {rows, q_size});
  const Tensor o = b.make(act, {rows, q_size}), gate_up = b.make(DType::kF32, {rows, 2 * model.intermediate}), inner = b.make(act, {rows, model.intermediate});
  const Tensor cos = b.make(DType::kF32, {rows, model.head_dim / 2}), sin = b.make(DType::kF32, {rows, model.head_dim / 2});
  const Tensor slot = upload(b, DType::kI32, {rows}, slots), position = upload(b, DType::kI32, {rows}, positions);
  const Tensor table = upload(b, DType::kI32, {rows, max_blocks}, tables), table_row = upload(b, DType::kI32, {rows}, table_rows), length = upload(b, DType::kI32, {rows}, lengths);
  const auto step = [&] {
    b.rope_angles(position, 1e6f, cos, sin);
    for (const Decoder::Layer& layer : model.weights) {
      b.rms_norm(x, model.norm, 1e-5f, normed);
      b.linear(normed, *layer.qkv, qkv, Epilogue::store());
      b.rope_store(qkv, cos, sin, slot, q, {layer.keys, layer.values});
      b.paged_attention(q, {layer.keys, layer.values}, {table, table_row, length}, o);
      b.linear(o, *layer.out, x, Epilogue::add());
      b.rms_norm(x, model.norm, 1e-5f, normed);
      b.linear(normed, *layer.gate_up, gate_up, Epilogue::store());
      b.silu_mul(gate_up, inner);
      b.linear(inner, *layer.down, x, Epilogue::add());
    }
  };
  return measure_in_turns(step, [&] { floor.run(); }, 1.5);
}

void print_decode(const std::vector<std::unique_ptr<Backend>>& backends) {
  struct Named {
    const char* name;
    Decoder model;
  };
  for (const auto& backend : backends) {
    cpu::ThreadPool pool(backend->info().threads);
    std::printf("decode step in %s, context 96; floor: the same bytes read once, in turns with the step; best and median of each\n",
                dtype_name(backend->activation_dtype()));
    std::printf("%-18s %5s | %19s | %19s | %s\n", "backbone", "rows", "step us", "floor us", "floor / step");
    Named models[] = {{"113M (768 x 12)", {768, 12, 12, 12, 64, 3072, {}, {}}}, {"10M (256 x 12)", {256, 12, 4, 4, 64, 704, {}, {}}}};
    for (Named& named : models) {
      named.model.prepare(*backend, 32 * 8);
      ReadFloor floor(static_cast<size_t>(named.model.weight_bytes(backend->activation_dtype())), pool);
      for (int64_t rows : {1, 2, 4, 8, 16, 32}) {
        const auto [step, read] = time_decode(*backend, named.model, rows, 96, floor);
        std::printf("%-18s %5ld | %9.1f %9.1f | %9.1f %9.1f | %3.0f%% %3.0f%%\n", named.name, rows, step.best * 1e6, step.median * 1e6, read.best * 1e6, read.median * 1e6,
                    100.0 * read.best / step.best, 100.0 * read.median / step.median);
      }
    }
    std::printf("\n");
  }
}

// One timestep of the demo model's flow head (width 384, 3 blocks, token width 64).
void print_head(const std::vector<std::unique_ptr<Backend>>& backends) {
  constexpr int64_t kWidth = 384, kBlocks = 3, kToken = 64;
  for (const auto& backend : backends) {
    Backend& b = *backend;
    std::printf("flow head 384 x 3 in %s, one timestep\n%5s | %9s %9s %9s %9s\n", dtype_name(b.activation_dtype()), "rows", "us", "modulate", "blocks", "sampler");
    const auto input = random_linear(b, kToken, kWidth), output = random_linear(b, kWidth, kToken), modulation = random_linear(b, kWidth, (3 * kBlocks + 2) * kWidth);
    std::vector<std::unique_ptr<Linear>> up, down;
    for (int64_t i = 0; i < kBlocks; ++i) {
      up.push_back(random_linear(b, kWidth, kWidth));
      down.push_back(random_linear(b, kWidth, kWidth));
    }
    for (int64_t rows : {1, 2, 4, 8, 16, 32}) {
      const Tensor x = random_tensor(b, DType::kF32, rows, kToken), h = b.make(DType::kF32, {rows, kWidth}), v = b.make(DType::kF32, {rows, kToken});
      const Tensor u = b.make(b.activation_dtype(), {rows, kWidth}), inner = b.make(b.activation_dtype(), {rows, kWidth}), g = b.make(b.activation_dtype(), {rows, kWidth});
      const Tensor modulated = b.make(DType::kF32, {rows, modulation->out_features}), tau = random_tensor(b, DType::kF32, rows, kWidth);
      const Tensor norm = random_tensor(b, DType::kF32, 1, kWidth), noise = b.make(DType::kF32, {rows, kToken});
      std::vector<int32_t> own, begins = {0}, keys;
      std::vector<float> coefficients;
      for (int32_t i = 0; i < static_cast<int32_t>(rows); ++i) {
        own.push_back(i);
        begins.push_back(i + 1);
        keys.insert(keys.end(), {i, 0, 1 << 16, i, 0});
        coefficients.insert(coefficients.end(), {.9f, .1f, .1f, 1.f, 1.f});
      }
      const Tensor index = upload(b, DType::kI32, {rows}, own), begin = upload(b, DType::kI32, {rows + 1}, begins), key = upload(b, DType::kI32, {rows, 5}, keys);
      const Tensor coefficient = upload(b, DType::kF32, {rows, 5}, coefficients);
      const TensorView affine = norm.view.reshape({kWidth});
      const Timing modulate = measure([&] {
        b.silu_add(tau, index, tau, index, g);
        b.linear(g, *modulation, modulated, Epilogue::store());
      });
      const TensorView& m = modulated;
      const Timing blocks = measure([&] {
        b.linear(x, *input, h, Epilogue::store());
        for (size_t i = 0; i < up.size(); ++i) {
          const int64_t at = static_cast<int64_t>(i) * 3 * kWidth;
          b.ada_layer_norm(h, affine, affine, 1e-6f, m.col_slice(at, at + kWidth), m.col_slice(at + kWidth, at + 2 * kWidth), {}, u);
          b.linear(u, *up[i], inner, Epilogue::silu());
          b.linear(inner, *down[i], h, Epilogue::gated_add(m.col_slice(at + 2 * kWidth, at + 3 * kWidth)));
        }
        b.ada_layer_norm(h, {}, {}, 1e-6f, m.col_slice(0, kWidth), m.col_slice(kWidth, 2 * kWidth), {}, u);
        b.linear(u, *output, v, Epilogue::store());
      });
      const Timing sampler = measure([&] {
        b.philox_normal(key, noise);
        b.flow_step(x, v, begin, index, coefficient, noise, index);
      });
      std::printf("%5ld | %9.1f %9.1f %9.1f %9.1f\n", rows, (modulate.best + blocks.best + sampler.best) * 1e6, modulate.best * 1e6, blocks.best * 1e6, sampler.best * 1e6);
    }
    std::printf("\n");
  }
}

}  // namespace
}  // namespace ardiff::bench

int main(int argc, char** argv) {
  using namespace ardiff;
  using namespace ardiff::bench;
  int threads = 0;
  std::set<std::string> wanted;
  for (int i = 1; i < argc; ++i) {
    if (std::atoi(argv[i]) > 0) {
      threads = std::atoi(argv[i]);
    } else {
      wanted.insert(argv[i]);
    }
  }
  auto asked = [&](const char* what) { return wanted.empty() || wanted.count(what) > 0; };
  std::vector<std::unique_ptr<Backend>> backends;
  for (const char* dtype : {"bfloat16", "float32"}) {
    try {
      backends.push_back(make_backend({"cpu", dtype, threads}));
    } catch (const Error& error) {
      std::printf("%s\n", error.what());
    }
  }
  threads = backends.front()->info().threads;
  omp_set_num_threads(threads);
  std::printf("%s, %s, %d threads\n", backends.front()->info().isa.c_str(), backends.front()->info().libraries.c_str(), threads);
  if (asked("bandwidth")) print_bandwidth(threads);
  if (asked("products")) print_products(backends);
  if (asked("decode")) print_decode(backends);
  if (asked("head")) print_head(backends);
  return 0;
}
