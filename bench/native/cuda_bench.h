// What the parts of cuda_bench share: made-up weights, timing on the device, the two backends that are compared.
#pragma once

#include <algorithm>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/scratch.h"
#include "device_bandwidth.h"
#include "timed_backend.h"
#include "timing.h"

namespace ardiff::bench {

constexpr double kEnough = 0.02;  // seconds of each of three timings: hundreds of runs of what takes microseconds
constexpr int64_t kColdBytes = int64_t{256} << 20;  // weights in turns: more than any level of cache holds

// Made-up weights, small enough that nothing overflows. One buffer is behind all of them: values do not matter to time.
class Weights {
 public:
  explicit Weights(Backend& backend) : backend_(backend) {}

  std::unique_ptr<Linear> linear(int64_t in, int64_t out) {
    grow(in * out);
    const LinearPart part{{values_.data(), DType::kBF16, {out, in}, "bench"}, {}};
    return backend_.prepare_linear({&part, 1});
  }
  std::unique_ptr<Linear> picture_linear(int64_t in, int64_t out) {
    grow(in * out);
    const LinearPart part{{values_.data(), DType::kBF16, {out, in}, "bench"}, {}};
    return backend_.prepare_picture_linear({&part, 1});
  }
  Tensor vector(int64_t size) {
    const std::vector<float> ones(static_cast<size_t>(size), 1.0f);
    Tensor out = backend_.make(DType::kF32, {size});
    backend_.upload(out, ones.data());
    return out;
  }

 private:
  // A million, up to a prime, are drawn, what follows repeats them: drawing hundreds of millions takes longer than what is timed.
  void grow(int64_t count) {
    constexpr size_t kDrawn = 1000003;
    const size_t begin = values_.size(), size = std::max(begin, static_cast<size_t>(count));
    std::minstd_rand random(static_cast<unsigned>(begin) + 1);
    values_.resize(size);
    for (size_t i = begin; i < size; ++i) {
      values_[i] = i < kDrawn ? f32_to_bf16(0.02f * (static_cast<float>(random() % 2001) / 1000.0f - 1.0f)) : values_[i - kDrawn];
    }
  }
  Backend& backend_;
  std::vector<bf16_t> values_;
};

inline Tensor indices(Backend& backend, const std::vector<int32_t>& values) {
  Tensor out = backend.make(DType::kI32, {static_cast<int64_t>(values.size())});
  backend.upload(out, values.data());
  return out;
}

inline std::vector<int32_t> counting(int64_t count, int64_t step = 1) {
  std::vector<int32_t> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(static_cast<int32_t>(i * step));
  return out;
}

// Of one run() on the device: many enqueued, one wait; the best of three. `host`: until run() comes back, with nothing in the way.
struct Cost {
  double device, host;  // seconds
};

template <typename Run>
Cost cost_of(Backend& backend, const Tensor& probe, Run&& run, double enough = kEnough) {
  std::vector<std::byte> bytes(probe.view.bytes());
  const auto wait = [&] { backend.download(probe, bytes.data()); };
  const auto timed = [&](int count) {
    const double begin = now();
    for (int i = 0; i < count; ++i) run();
    wait();
    return (now() - begin) / count;
  };
  timed(3);  // with graphs: op by op, captured, replayed
  double host = 1e9;
  for (int i = 0; i < 3; ++i) {
    const double begin = now();
    run();
    host = std::min(host, now() - begin);
    wait();
  }
  const int count = static_cast<int>(std::clamp(enough / timed(3), 1.0, 2000.0));
  return {std::min({timed(count), timed(count), timed(count)}), host};
}

template <typename Run>
double seconds(Backend& backend, const Tensor& probe, Run&& run, double enough = kEnough) {
  return cost_of(backend, probe, run, enough).device;
}

// One device, ops one by one and stretches as graphs.
struct Context {
  Backend& backend;
  Backend& graphs;
  DeviceBandwidth bandwidth;
  Tensor probe, graphs_probe;  // four bytes to wait for
  Backend* cublas_lt = nullptr;  // with it, where it is asked for or found; else `without` says why
  std::string without;

  const Tensor& probe_of(const Backend& one) const { return &one == &graphs ? graphs_probe : probe; }
};

// The same work op by op and as graphs; make(backend) gives something to call.
struct Compared {
  Cost plain, graph;
  int64_t launches;  // op by op; 0: it is more than one stretch
};
template <typename Make>
Compared compare(Context& c, Make&& make, double enough = kEnough) {
  Compared out{};
  {
    auto&& run = make(c.backend);
    out.plain = cost_of(c.backend, c.probe, run, enough);
  }
  auto&& run = make(c.graphs);
  out.graph = cost_of(c.graphs, c.graphs_probe, run, enough);
  out.launches = c.graphs.stretch_counts().last_ops;
  return out;
}

// One run() on a backend whose ops are waited for one by one: a line of what each kind takes. make(backend) gives something to call.
template <typename Make>
void print_shares(Context& c, const std::string& what, Make&& make) {
  std::vector<std::byte> bytes(c.probe.view.bytes());
  TimedBackend timed(c.backend, [&] { c.backend.download(c.probe, bytes.data()); });
  auto&& run = make(timed);
  run();
  timed.seconds = {};
  constexpr int kRuns = 3;
  for (int i = 0; i < kRuns; ++i) run();
  std::printf("%s:", what.c_str());
  for (size_t kind = 0; kind < timed.seconds.size(); ++kind) {
    if (timed.seconds[kind] > 0) std::printf(" %s %.0f us;", TimedBackend::kNames[kind], timed.seconds[kind] / kRuns * 1e6);
  }
  std::printf("\n\n");
}

// Parts, each prints its section.
void attention(Context& c);
void decode(Context& c);
void head(Context& c);
void classes(Context& c);
void decode_shares(Context& c);
void class_shares(Context& c);
void together(Context& c);

}  // namespace ardiff::bench
