// Kernels that begin before their predecessor's end (native/backend/cuda/dependent_launch.cuh): the same bytes as without, op by op and
// as graphs. In emulation what a predecessor has written is not there until a kernel waits for it, and the emulation itself is tested
// with kernels that break the rules.
#include <gtest/gtest.h>

#include "backend/scratch.h"
#include "expect_error.h"
#include "model/backbone.h"
#include "model/flow_head.h"
#include "support/cuda_device.h"
#include "support/environment.h"
#include "support/op_fixture.h"
#if ARDIFF_CUDA_EMULATION
#include "emulated_dependencies.h"
#endif

namespace ardiff::test {
namespace {

struct Settings {
  const char* dtype;
  bool graphs;
  int64_t rows;
};

class CudaDependentLaunch : public testing::TestWithParam<Settings> {
 protected:
  void SetUp() override {
    if (!made_on_cuda([this] {
          plain_ = make_backend({.name = "cuda", .dtype = GetParam().dtype, .graphs = false, .early_launches = false});
          early_ = make_backend({.name = "cuda", .dtype = GetParam().dtype, .graphs = GetParam().graphs, .early_launches = true});
        })) return;
    ASSERT_EQ(plain_->info().libraries.find("dependent launches"), std::string::npos);
    // A device before 9.0 has none: then both are the same.
    if (early_->info().libraries.find("dependent launches") == std::string::npos) GTEST_SKIP() << early_->info().isa << " has no dependent launches";
#if ARDIFF_CUDA_EMULATION
    emulation::watch_dependencies(true);
#endif
  }
  void TearDown() override {
#if ARDIFF_CUDA_EMULATION
    emulation::watch_dependencies(false);
#endif
  }
  // What run(backend, values) gives three times, the same numbers for both.
  template <typename Run>
  void expect_same(Run&& run) {
    Values of_plain, of_early;
    const auto expected = run(*plain_, of_plain), got = run(*early_, of_early);
    ASSERT_EQ(expected.size(), got.size());
    for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], expected[i]) << "result " << i;
    if (GetParam().graphs) {
      EXPECT_GT(early_->stretch_counts().replayed, 0);
    }
  }

  std::unique_ptr<Backend> plain_, early_;
};

INSTANTIATE_TEST_SUITE_P(Settings, CudaDependentLaunch,
                         testing::Values(Settings{"bfloat16", false, 2}, Settings{"bfloat16", true, 2}, Settings{"bfloat16", true, 3}, Settings{"bfloat16", true, 20},
                                         Settings{"bfloat16", false, 40}, Settings{"float32", true, 3}),
                         [](const auto& of) { return std::string(of.param.dtype) + (of.param.graphs ? "_graphs_" : "_") + std::to_string(of.param.rows) + "_rows"; });

std::unique_ptr<Linear> layer(Backend& backend, Values& values, int64_t in, int64_t out) {
  const auto weight = values.normal(in * out, 0.1f), bias = values.normal(out);
  const LinearPart part{host(weight, {out, in}), host(bias, {out})};
  return backend.prepare_linear({&part, 1});
}

TEST_P(CudaDependentLaunch, BackboneHasTheSameBytes) {
  expect_same([&](Backend& b, Values& values) {
    constexpr int64_t kHidden = 96, kHeads = 2, kHeadDim = 32, kInner = 48, kLayers = 2, kBlockTokens = 4, kBlocks = 36;
    const int64_t rows = GetParam().rows;
    const BackboneConfig config{kHidden, kInner, kLayers, kHeads, 1, kHeadDim, 16, 4096, 1e-6f, 1e4f};
    BackboneWeights weights;
    std::vector<Tensor> storage;
    std::vector<KvLayer> kv;
    for (int64_t i = 0; i < kLayers; ++i) {
      weights.layers.push_back({f32(b, {kHidden}, values.normal(kHidden)), layer(b, values, kHidden, (kHeads + 2) * kHeadDim), layer(b, values, kHeads * kHeadDim, kHidden),
                                f32(b, {kHidden}, values.normal(kHidden)), layer(b, values, kHidden, 2 * kInner), layer(b, values, kInner, kHidden)});
      const Shape cache{kBlocks + rows, 1, kBlockTokens, kHeadDim};
      for (int part = 0; part < 2; ++part) storage.push_back(put(b, b.kv_dtype(), cache, values.normal(cache.size())));
      kv.push_back({storage[storage.size() - 2], storage.back()});
    }
    const Backbone model(b, config, std::move(weights));
    // Every row sees blocks of its own order and the slot that it writes, at the end of 141 positions: two groups of attention.
    std::vector<int32_t> tables, slots;
    for (int32_t m = 0; m < rows; ++m) {
      for (int32_t i = 0; i < kBlocks - 1; ++i) tables.push_back((i * 5 + m) % static_cast<int32_t>(kBlocks));
      tables.push_back(static_cast<int32_t>(kBlocks) + m);
      slots.push_back((static_cast<int32_t>(kBlocks) + m) * static_cast<int32_t>(kBlockTokens));
    }
    std::vector<int32_t> own(static_cast<size_t>(rows)), lengths(static_cast<size_t>(rows), 141), positions(static_cast<size_t>(rows), 140);
    for (size_t m = 0; m < own.size(); ++m) own[m] = static_cast<int32_t>(m);
    const Tensor t = put(b, {rows, kBlocks}, tables), r = put(b, own), l = put(b, lengths), s = put(b, slots), p = put(b, positions);
    const Tensor x = b.make(DType::kF32, {rows, kHidden});
    Scratch scratch(b);
    std::vector<std::vector<std::byte>> out;
    for (int turn = 0; turn < 4; ++turn) {
      const auto numbers = values.normal(rows * kHidden);
      b.upload(x, numbers.data());
      scratch.reset();
      model.forward(x, {p, s, {t, r, l}}, kv, scratch);
      out.push_back(bytes(b, x));
    }
    for (const KvLayer& of_layer : kv) out.push_back(bytes(b, of_layer.keys)), out.push_back(bytes(b, of_layer.values));
    return out;
  });
}

TEST_P(CudaDependentLaunch, FlowHeadHasTheSameBytes) {
  expect_same([&](Backend& b, Values& values) {
    constexpr int64_t kWidth = 64, kToken = 16, kHeadBlocks = 2, kTimesteps = 3;
    const int64_t rows = GetParam().rows, states = (rows + 1) / 2;
    FlowHeadWeights weights;
    weights.width = kWidth;
    weights.token_size = kToken;
    weights.input = layer(b, values, kToken, kWidth);
    for (int64_t i = 0; i < kHeadBlocks; ++i) {
      weights.blocks.push_back({f32(b, {kWidth}, values.normal(kWidth)), f32(b, {kWidth}, values.normal(kWidth)), layer(b, values, kWidth, kWidth), layer(b, values, kWidth, kWidth)});
    }
    weights.output = layer(b, values, kWidth, kToken);
    const FlowHead head(b, std::move(weights));
    std::vector<int32_t> state_of, begins = {0}, own;
    for (int32_t m = 0; m < rows; ++m) state_of.push_back(m / 2);
    for (int32_t i = 0; i < states; ++i) own.push_back(i), begins.push_back(std::min<int32_t>(2 * i + 2, static_cast<int32_t>(rows)));
    const Tensor row_of = put(b, state_of), begin = put(b, begins), index = put(b, own);
    const int64_t modulations = (3 * kHeadBlocks + 2) * kWidth;
    const Tensor modulation = f32(b, {kTimesteps * rows, modulations}, values.normal(kTimesteps * rows * modulations, 0.3f));
    const Tensor coefficients = f32(b, {states, 5}, values.normal(states * 5)), noise = f32(b, {states, kToken}, values.normal(states * kToken));
    const Tensor x = b.make(DType::kF32, {states, kToken}), v = b.make(DType::kF32, {rows, kToken});
    Scratch scratch(b);
    const StretchOwner owner;
    std::vector<std::vector<std::byte>> out;
    for (int turn = 0; turn < 3; ++turn) {
      const auto numbers = values.normal(states * kToken);
      b.upload(x, numbers.data());
      b.run_stretch(StretchKey(owner), [&] {
        for (int64_t n = 0; n < kTimesteps; ++n) {
          head.velocity(x, row_of, modulation.view.row_slice(n * rows, (n + 1) * rows), v, scratch);
          b.flow_step(x, v, begin, index, coefficients, noise, index);
        }
      });
      out.push_back(bytes(b, x));
    }
    return out;
  });
}

TEST(CudaDependentLaunches, AreSwitchedByTheEnvironment) {
  if (!made_on_cuda([] { make_backend({"cuda", "float32", 0}); })) return;
  const auto are_on = [](const char* value) {
    const Environment set("ARDIFF_CUDA_PDL", value);
    return make_backend({"cuda", "float32", 0})->info().libraries.find("dependent launches") != std::string::npos;
  };
  const bool possible = are_on("1");  // a device before 9.0 has none
#if ARDIFF_CUDA_EMULATION
  EXPECT_TRUE(possible);
#endif
  EXPECT_FALSE(are_on("0"));
  EXPECT_EQ(are_on(nullptr), possible) << "on unless they are refused";
  expect_error([&] { are_on("yes"); }, ErrorCode::kInvalidArgument, "ARDIFF_CUDA_PDL");
}

}  // namespace
}  // namespace ardiff::test
