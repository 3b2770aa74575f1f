// How many kernels the cuda backend launches: for a layer of NextStep-1 14B and a timestep of its flow head, counted in the graphs that
// they become, beside the same ops one by one. Which way a product takes follows from its rows, its outputs and, for rows much wider than
// the model's, the width of its input (few_rows.h); so outputs and the flow head's width are the model's here, and the hidden width, heads
// and layers are few. Prints the table of docs/cuda.md.
#include <gtest/gtest.h>

#include <cstdio>

#include "backend/scratch.h"
#include "model/backbone.h"
#include "model/flow_head.h"
#include "support/cuda_device.h"
#include "support/op_fixture.h"
#include "support/tracing_backend.h"

namespace ardiff::test {
namespace {

constexpr int64_t kHidden = 64, kHeadDim = 128, kInner = 13824, kModelLayers = 48;
constexpr int64_t kHeadWidth = 1536, kHeadInner = 32, kTokenSize = 64, kModelBlocks = 12;
constexpr int64_t kBlockTokens = 16;

struct Counts {
  int64_t apart, together;
};

class CudaLaunches : public testing::Test {
 protected:
  void SetUp() override {
    (void)made_on_cuda([this] { backend_ = make_backend({.name = "cuda", .dtype = "bfloat16", .graphs = true}); });
  }
  std::unique_ptr<Linear> layer(int64_t in, int64_t out) {
    const auto weight = Values().normal(in * out, 0.02f);
    const LinearPart part{host(weight, {out, in}), {}};
    return backend_->prepare_linear({&part, 1});
  }
  Tensor ones(int64_t size) { return f32(*backend_, {size}, std::vector<float>(static_cast<size_t>(size), 1.0f)); }

  // Of what run(model, scratch) enqueues, with make(backend) giving the model: run once and then recorded.
  template <typename Make, typename Run>
  Counts count(Make&& make, Run&& run) {
    const auto launches = [&](Backend& backend) {
      const auto model = make(backend);
      const StretchOwner owner;
      Scratch scratch(*backend_);
      for (int turn = 0; turn < 2; ++turn) backend_->run_stretch(StretchKey(owner), [&] { run(model, scratch); });
      return backend_->stretch_counts().last_ops;
    };
    testing_support::TracingBackend apart(*backend_);  // knows no ops in a row
    return {launches(apart), launches(*backend_)};
  }

  Counts backbone(int64_t layers, int64_t rows, int64_t length) {
    const BackboneConfig config{kHidden, kInner, layers, 1, 1, kHeadDim, 16, 4096, 1e-6f, 1e6f};
    const auto make = [&](Backend& backend) {
      BackboneWeights weights;
      for (int64_t i = 0; i < layers; ++i) {
        weights.layers.push_back({ones(kHidden), layer(kHidden, 3 * kHeadDim), layer(kHeadDim, kHidden), ones(kHidden), layer(kHidden, 2 * kInner),
                                  layer(kInner, kHidden)});
      }
      return Backbone(backend, config, std::move(weights));
    };
    // All rows see one sequence; each writes to a block of its own behind it.
    const int64_t blocks = (length + kBlockTokens - 1) / kBlockTokens;
    const Shape cache{blocks + rows, 1, kBlockTokens, kHeadDim};
    const Tensor keys = backend_->make(backend_->kv_dtype(), cache), values = backend_->make(backend_->kv_dtype(), cache);
    const std::vector<KvLayer> kv(static_cast<size_t>(layers), KvLayer{keys, values});
    std::vector<int32_t> table, slots;
    for (int64_t i = 0; i < blocks; ++i) table.push_back(static_cast<int32_t>(i));
    for (int64_t m = 0; m < rows; ++m) slots.push_back(static_cast<int32_t>((blocks + m) * kBlockTokens));
    const std::vector<int32_t> zeros(static_cast<size_t>(rows), 0), lengths(static_cast<size_t>(rows), static_cast<int32_t>(length));
    const Tensor tables = put(*backend_, {1, blocks}, table), first = put(*backend_, zeros), seen = put(*backend_, lengths), to = put(*backend_, slots);
    const Tensor x = f32(*backend_, {rows, kHidden}, Values().normal(rows * kHidden));
    return count(make, [&](const Backbone& model, Scratch& scratch) { model.forward(x, {first, to, {tables, first, seen}}, kv, scratch); });
  }

  Counts timestep(int64_t blocks, int64_t rows) {
    const auto make = [&](Backend& backend) {
      FlowHeadWeights weights;
      weights.width = kHeadWidth;
      weights.token_size = kTokenSize;
      weights.input = layer(kTokenSize, kHeadWidth);
      for (int64_t i = 0; i < blocks; ++i) weights.blocks.push_back({ones(kHeadWidth), ones(kHeadWidth), layer(kHeadWidth, kHeadInner), layer(kHeadInner, kHeadWidth)});
      weights.output = layer(kHeadWidth, kTokenSize);
      return std::pair(FlowHead(backend, std::move(weights)), &backend);
    };
    const int64_t states = (rows + 1) / 2;
    std::vector<int32_t> state_of, begins, own;
    for (int64_t m = 0; m < rows; ++m) state_of.push_back(static_cast<int32_t>(m / 2));
    for (int64_t i = 0; i <= states; ++i) begins.push_back(static_cast<int32_t>(std::min(2 * i, rows)));
    for (int64_t i = 0; i < states; ++i) own.push_back(static_cast<int32_t>(i));
    const Tensor x = f32(*backend_, {states, kTokenSize}, Values().normal(states * kTokenSize)), x_row = put(*backend_, state_of);
    const Tensor modulation = backend_->make(DType::kF32, {rows, (3 * blocks + 2) * kHeadWidth}), v = backend_->make(DType::kF32, {rows, kTokenSize});
    const Tensor begin = put(*backend_, begins), index = put(*backend_, own), coefficients = backend_->make(DType::kF32, {states, 5});
    return count(make, [&](const auto& head, Scratch& scratch) {
      head.first.velocity(x, x_row, modulation, v, scratch);
      head.second->flow_step(x, v, begin, index, coefficients, {}, index);
    });
  }

  std::unique_ptr<Backend> backend_;
};

TEST_F(CudaLaunches, OfAStepOfTheBackbone) {
  std::printf("| rows | context | a layer, op by op | together | a step, op by op | together |\n|---|---|---|---|---|---|\n");
  struct Case {
    int64_t rows, length, apart, together;
  };
  // Op by op: two norms, four products, rotation, SiLU and one or two kernels of attention. Together rotation and SiLU are in products.
  for (const auto& [rows, length, apart, together] : {Case{1, 100, 9, 7}, {2, 1024, 10, 8}, {16, 1024, 10, 8}, {32, 1024, 10, 8}}) {
    const Counts one = backbone(1, rows, length), two = backbone(2, rows, length);
    EXPECT_EQ(two.apart - one.apart, apart) << rows << " rows";
    EXPECT_EQ(two.together - one.together, together) << rows << " rows";
    const auto step = [](int64_t of_one, int64_t of_two) { return of_one + (kModelLayers - 1) * (of_two - of_one); };
    EXPECT_EQ(step(one.together, two.together), 1 + kModelLayers * together) << "the angles are made once";
    std::printf("| %ld | %ld | %ld | %ld | %ld | %ld |\n", rows, length, two.apart - one.apart, two.together - one.together, step(one.apart, two.apart),
                step(one.together, two.together));
  }
}

// Of more than 32 rows nothing is made together, and products may take two kernels each.
TEST_F(CudaLaunches, ManyRowsGoOpByOp) {
  const Counts one = backbone(1, 33, 100), head = timestep(1, 33);
  EXPECT_EQ(one.together, one.apart);
  EXPECT_EQ(head.together, head.apart);
}

TEST_F(CudaLaunches, OfATimestepOfTheFlowHead) {
  std::printf("| rows | a block, op by op | together | a timestep, op by op | together |\n|---|---|---|---|---|\n");
  for (const int64_t rows : {1, 2, 16, 32}) {
    const Counts one = timestep(1, rows), two = timestep(2, rows);
    EXPECT_EQ(two.apart - one.apart, 3) << rows << " rows";
    EXPECT_EQ(two.together - one.together, 3) << rows << " rows";
    const auto whole = [](int64_t of_one, int64_t of_two) { return of_one + (kModelBlocks - 1) * (of_two - of_one); };
    EXPECT_EQ(whole(one.apart, two.apart), 42) << rows << " rows";
    std::printf("| %ld | %ld | %ld | %ld | %ld |\n", rows, two.apart - one.apart, two.together - one.together, whole(one.apart, two.apart),
                whole(one.together, two.together));
  }
}

}  // namespace
}  // namespace ardiff::test
