// Stretches of the cuda backend as graphs: a recording reads memory as it is when it runs, not as it was; it is found by its key
// alone and goes when memory it points to has moved; and what cannot be recorded is an error after which everything goes on. On a
// device, or in emulation, where a graph holds copies of its launches' arguments as on a device.
#include <numeric>

#include "backend/scratch.h"
#include "expect_error.h"
#include "support/cuda_device.h"
#include "support/environment.h"
#include "support/op_fixture.h"
#if ARDIFF_CUDA_EMULATION
#include "emulated_memory.h"
#endif

namespace ardiff::test {
namespace {

#if ARDIFF_WITH_CUDA

constexpr int64_t kSize = 96;

class CudaGraph : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    (void)made_on_cuda([this] {
          backend_ = make_backend({.name = "cuda", .dtype = GetParam(), .graphs = true});
          plain_ = make_backend({.name = "cuda", .dtype = GetParam(), .graphs = false});
        });
  }
  // y = 2 a, as a stretch.
  void twice(const Tensor& a, const Tensor& y) {
    backend_->run_stretch(StretchKey(owner_).add(a.view).add(y.view), [&] { backend_->add(a, a, y); });
  }
  void set(const Tensor& tensor, float value) { backend_->upload(tensor, std::vector<float>(static_cast<size_t>(tensor.view.shape.size()), value).data()); }
  std::vector<float> filled(float value) const { return std::vector<float>(kSize, value); }
  Tensor make() { return backend_->make(DType::kF32, {kSize}); }
  StretchCounts counts() const { return backend_->stretch_counts(); }

  std::unique_ptr<Backend> backend_, plain_;
  StretchOwner owner_;
};

INSTANTIATE_TEST_SUITE_P(Dtypes, CudaGraph, testing::Values("float32", "bfloat16"), [](const auto& of) { return std::string(of.param); });

TEST_P(CudaGraph, ReadsMemoryAsItIsWhenItRuns) {
  const Tensor a = make(), y = make();
  for (int turn = 1; turn <= 5; ++turn) {
    set(a, static_cast<float>(turn));
    twice(a, y);
    EXPECT_EQ(get(*backend_, y), filled(2.0f * static_cast<float>(turn))) << turn;
  }
  EXPECT_EQ(counts().plain, 1);
  EXPECT_EQ(counts().recorded, 1);
  EXPECT_EQ(counts().replayed, 4);
  EXPECT_EQ(counts().kept_ops, 1);
  EXPECT_FALSE(plain_->keeps_stretches());
}

TEST_P(CudaGraph, AnotherAddressIsAnotherStretch) {
  const Tensor a = make(), b = make(), y = make();
  set(a, 1.0f);
  set(b, 5.0f);
  for (int turn = 0; turn < 3; ++turn) {
    twice(a, y);
    EXPECT_EQ(get(*backend_, y), filled(2.0f));
    twice(b, y);
    EXPECT_EQ(get(*backend_, y), filled(10.0f));
  }
  EXPECT_EQ(counts().recorded, 2);
  // Nor is that of another owner, should he come to lie where the first one was.
  const StretchOwner other;
  backend_->run_stretch(StretchKey(other).add(a.view).add(y.view), [&] { backend_->add(a, b, y); });
  EXPECT_EQ(get(*backend_, y), filled(6.0f));
  EXPECT_EQ(counts().plain, 3);
}

// What is enqueued in between stays in between.
TEST_P(CudaGraph, KeepsItsPlaceAmongOps) {
  const Tensor a = make(), y = make();
  set(a, 1.0f);
  for (int turn = 0; turn < 4; ++turn) {
    twice(a, y);
    backend_->add(y, a, a);  // a = 3 a
  }
  EXPECT_EQ(get(*backend_, a), filled(81.0f));
}

TEST_P(CudaGraph, AStretchInsideAnotherIsPartOfIt) {
  const Tensor a = make(), b = make(), y = make();
  const auto outer = [&] {
    backend_->run_stretch(StretchKey(owner_).add(1), [&] {
      twice(a, b);
      twice(b, y);
    });
  };
  for (int turn = 1; turn <= 4; ++turn) {
    set(a, static_cast<float>(turn));
    outer();
    EXPECT_EQ(get(*backend_, y), filled(4.0f * static_cast<float>(turn)));
  }
  EXPECT_EQ(counts().recorded, 1);
  EXPECT_EQ(counts().kept_ops, 2);
  twice(a, b);  // not yet seen by itself
  EXPECT_EQ(counts().plain, 2);
}

// A product of many rows and a small attention over pixels need work memory; that of a larger one moves it all.
TEST_P(CudaGraph, GoesWhenWorkMemoryMoves) {
  Values values;
  const int64_t rows = 40, in = 64, out = 80;
  const auto weight = values.normal(in * out, 0.1f), bias = values.normal(out);
  const LinearPart part{host(weight, {out, in}), host(bias, {out})};
  const auto layer = backend_->prepare_linear({&part, 1}), plain_layer = plain_->prepare_linear({&part, 1});
  const Tensor x = backend_->make(DType::kF32, {rows, in}), y = backend_->make(DType::kF32, {rows, out});
  const auto product = [&] { backend_->run_stretch(StretchKey(owner_).add(x.view).add(y.view), [&] { backend_->linear(x, *layer, y, Epilogue::silu()); }); };
  const auto expect_right = [&] {
    const auto numbers = values.normal(rows * in);
    backend_->upload(x, numbers.data());
    product();
    const Tensor plain_y = plain_->make(DType::kF32, {rows, out});
    plain_->linear(f32(*plain_, {rows, in}, numbers), *plain_layer, plain_y, Epilogue::silu());
    EXPECT_EQ(bytes(*backend_, y), bytes(*plain_, plain_y));
  };
  for (int turn = 0; turn < 3; ++turn) expect_right();
  EXPECT_EQ(counts().recorded, 1);
  const int64_t tokens = 640;
  const Tensor q = f32(*backend_, {tokens, 32}, values.normal(tokens * 32)), mixed = backend_->make(backend_->activation_dtype(), {tokens, 32});
  backend_->dense_attention(q, q, q, 0.1f, mixed);
  const Tensor wide = backend_->make(DType::kF32, {20000, in}), wide_y = backend_->make(DType::kF32, {20000, out});
  if (GetParam() == std::string("bfloat16")) backend_->linear(wide, *layer, wide_y, Epilogue::store());  // rounds its input into work memory
  for (int turn = 0; turn < 3; ++turn) expect_right();
  EXPECT_EQ(counts().recorded, 2) << "work memory did not move: the test needs a larger need";
  EXPECT_EQ(counts().kept, 1);
}

// Scratch inside: the first run makes it grow, so the second has another place and the third is recorded.
TEST_P(CudaGraph, ScratchMayGrowInTheFirstRun) {
  Scratch scratch(*backend_);
  const Tensor a = make(), y = make();
  const auto run = [&] {
    StretchKey key(owner_);
    key.add(a.view).add(y.view);
    scratch.add_place(key);
    backend_->run_stretch(key, [&] {
      const Scratch::Frame frame(scratch);
      const TensorView b = scratch.take(DType::kF32, {kSize}), far = scratch.take(DType::kF32, {3 << 20}).reshape({3, 1 << 20});
      backend_->add(a, a, b);
      backend_->add(b, b, TensorView(far.data, DType::kF32, {kSize}));
      backend_->add(a, TensorView(far.data, DType::kF32, {kSize}), y);
    });
  };
  for (int turn = 1; turn <= 5; ++turn) {
    if (turn == 4) scratch.reset();  // its chunks become one
    set(a, static_cast<float>(turn));
    run();
    EXPECT_EQ(get(*backend_, y), filled(5.0f * static_cast<float>(turn))) << turn;
  }
  EXPECT_EQ(counts().plain, 3);
  EXPECT_EQ(counts().recorded, 2);
}

TEST_P(CudaGraph, AnErrorInTheFirstRunLeavesNothingBehind) {
  const Tensor a = make(), y = make();
  const auto run = [&](bool fails) {
    backend_->run_stretch(StretchKey(owner_).add(a.view).add(y.view), [&] {
      backend_->add(a, a, y);
      if (fails) backend_->allocate(size_t{1} << 60);
    });
  };
  set(a, 3.0f);
  for (int turn = 0; turn < 2; ++turn) expect_error([&] { run(true); }, ErrorCode::kOutOfMemory, "out of memory");
  EXPECT_EQ(counts().plain, 0);
  for (int turn = 0; turn < 3; ++turn) run(false);
  EXPECT_EQ(get(*backend_, y), filled(6.0f));
  EXPECT_EQ(counts().recorded, 1);
}

// Neither does one while it is captured.
TEST_P(CudaGraph, AnErrorInTheCaptureLeavesNothingBehind) {
  const Tensor a = make(), y = make();
  set(a, 3.0f);
  twice(a, y);
  const StretchKey key = StretchKey(owner_).add(a.view).add(y.view);
  expect_error([&] { backend_->run_stretch(key, [&] { backend_->add(a, a, y), backend_->allocate(16); }); }, ErrorCode::kInternal, "a stretch allocates");
  expect_error([&] { backend_->run_stretch(key, [&] { fail(ErrorCode::kInvalidArgument, "by the model"); }); }, ErrorCode::kInvalidArgument, "by the model");
  EXPECT_EQ(counts().recorded, 0);
  set(a, 4.0f);
  for (int turn = 0; turn < 2; ++turn) twice(a, y);
  EXPECT_EQ(get(*backend_, y), filled(8.0f));
  EXPECT_EQ(counts().recorded, 1);
}

// The copy's source would be the ring's place of the moment. Refused in every run, and without graphs as well.
TEST_P(CudaGraph, HostMemoryIsNotTouchedInside) {
  const Tensor a = make();
  std::vector<float> host(kSize);
  for (Backend* backend : {backend_.get(), plain_.get()}) {
    expect_error([&] { backend->run_stretch(StretchKey(owner_), [&] { backend->upload(a, host.data()); }); }, ErrorCode::kInternal, "upload inside");
    expect_error([&] { backend->run_stretch(StretchKey(owner_), [&] { backend->download(a, host.data()); }); }, ErrorCode::kInternal, "download inside");
  }
  EXPECT_EQ(get(*backend_, a), filled(0.0f));
}

// More stretches than are kept, thrice: the first ones are gone when they come again, and all are right.
TEST_P(CudaGraph, TheLongestUnusedGo) {
  constexpr int kStretches = 300;
  const Tensor a = make(), y = make();
  for (int turn = 1; turn <= 3; ++turn) {
    set(a, static_cast<float>(turn));
    for (int64_t n = 0; n < kStretches; ++n) {
      for (int again = 0; again < 2; ++again) {
        backend_->run_stretch(StretchKey(owner_).add(n), [&] {
          backend_->add(a, a, y);
          if (n % 2 == 1) backend_->add(y, a, y);
        });
      }
      if (n % 50 < 2) {
        EXPECT_EQ(get(*backend_, y), filled(static_cast<float>(turn * (2 + n % 2))));
      }
    }
    EXPECT_LT(counts().kept, kStretches);
    EXPECT_GT(counts().kept, kStretches / 4);
    EXPECT_EQ(counts().recorded, turn * kStretches);
  }
}

// Nor do they take any number of nodes.
TEST_P(CudaGraph, LaunchesKeptAreBounded) {
  constexpr int64_t kOps = 3000;
  const Tensor a = make(), y = make();
  set(a, 1.0f);
  for (int64_t n = 0; n < 10; ++n) {
    for (int again = 0; again < 2; ++again) {
      backend_->run_stretch(StretchKey(owner_).add(n), [&] {
        for (int64_t i = 0; i < kOps; ++i) backend_->add(a, a, y);
      });
    }
    EXPECT_EQ(counts().last_ops, kOps);
    EXPECT_LE(counts().kept_ops, 20000);
  }
  EXPECT_EQ(counts().kept, 6);
  EXPECT_EQ(get(*backend_, y), filled(2.0f));
}

// One that is beyond the bound by itself runs op by op.
TEST_P(CudaGraph, OneOfTooManyLaunchesIsNotKept) {
  const Tensor a = make(), y = make();
  set(a, 1.0f);
  for (int turn = 0; turn < 2; ++turn) twice(a, y);
  for (int turn = 0; turn < 3; ++turn) {
    backend_->run_stretch(StretchKey(owner_), [&] {
      for (int i = 0; i < 20001; ++i) backend_->add(a, a, y);
    });
  }
  EXPECT_EQ(counts().recorded, 1);
  EXPECT_EQ(counts().kept, 1) << "it should not have taken the room of the others";
  EXPECT_EQ(get(*backend_, y), filled(2.0f));
}

#if ARDIFF_CUDA_EMULATION
constexpr size_t kBound = size_t{20000} * 4 << 10;

// What a launch takes in the emulation, and the memory there is, until the end of the scope.
class Device {
 public:
  Device(size_t of_a_launch, size_t left) {
    emulation::set_memory_of_a_launch(of_a_launch);
    emulation::limit_memory(emulation::used_memory() + left);
  }
  ~Device() {
    emulation::set_memory_of_a_launch(4096);
    emulation::limit_memory(size_t{1} << 33);
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
};

// As if launches took four times what they are taken to: fewer graphs, never more memory.
TEST_P(CudaGraph, MemoryKeptIsBoundedWhateverALaunchTakes) {
  const Device device(size_t{16} << 10, size_t{1} << 32);
  const Tensor a = make(), y = make();
  set(a, 1.0f);
  const size_t before = emulation::used_memory();
  for (int64_t n = 0; n < 12; ++n) {
    for (int again = 0; again < 3; ++again) {
      backend_->run_stretch(StretchKey(owner_).add(n), [&] {
        for (int64_t i = 0; i < 1000; ++i) backend_->add(a, a, y);
      });
    }
    EXPECT_LE(emulation::used_memory() - before, kBound) << n;
    EXPECT_EQ(static_cast<size_t>(counts().kept_bytes), emulation::used_memory() - before) << n;
  }
  EXPECT_EQ(counts().kept, 5) << "of 15.6 MiB each";
  EXPECT_EQ(counts().recorded, 12);
  // One that takes more than all may: run op by op from then on.
  for (int turn = 0; turn < 3; ++turn) {
    backend_->run_stretch(StretchKey(owner_), [&] {
      for (int i = 0; i < 6000; ++i) backend_->add(a, a, y);
    });
  }
  EXPECT_LE(emulation::used_memory() - before, kBound);
  EXPECT_EQ(counts().recorded, 13);
  EXPECT_EQ(get(*backend_, y), filled(2.0f));
}

TEST_P(CudaGraph, OneThatThereIsNoMemoryForIsAnError) {
  const Tensor a = make(), y = make();
  set(a, 1.0f);
  const auto large = [&] {
    backend_->run_stretch(StretchKey(owner_), [&] {
      for (int i = 0; i < 4097; ++i) backend_->add(a, a, y);
    });
  };
  {
    const Device device(4096, size_t{16} << 20);
    for (int turn = 0; turn < 2; ++turn) twice(a, y);
    large();
    expect_error(large, ErrorCode::kOutOfMemory, "make a graph");
    EXPECT_EQ(counts().kept, 0) << "the others should have made room";
    twice(a, y);
    EXPECT_EQ(get(*backend_, y), filled(2.0f));
    EXPECT_EQ(counts().kept, 1);
  }
  large();  // there is memory again
  EXPECT_EQ(counts().kept, 2);
}
#endif

TEST(CudaGraphs, AreSwitchedByTheEnvironment) {
  if (!made_on_cuda([] { make_backend({"cuda", "float32", 0}); })) return;
  const auto are_on = [](const char* value, std::optional<bool> option = {}) {
    const Environment set("ARDIFF_CUDA_GRAPHS", value);
    return make_backend({.name = "cuda", .dtype = "float32", .graphs = option})->keeps_stretches();
  };
  EXPECT_TRUE(are_on("1"));
  EXPECT_FALSE(are_on("0"));
  EXPECT_TRUE(are_on("")) << "on unless it is refused";
  EXPECT_TRUE(are_on(nullptr));
  EXPECT_TRUE(are_on("0", true)) << "an option counts more";
  expect_error([&] { are_on("yes"); }, ErrorCode::kInvalidArgument, "ARDIFF_CUDA_GRAPHS");
}

#else

TEST(CudaGraphs, AreNotPartOfThisBuild) { EXPECT_FALSE(make_backend({"reference", "float32", 1})->keeps_stretches()); }

#endif

// Other backends run a stretch every time.
TEST(Stretch, IsRunEveryTimeWhereNothingIsKept) {
  const auto backend = make_backend({"reference", "float32", 1});
  const StretchOwner owner;
  int runs = 0;
  for (int turn = 0; turn < 3; ++turn) backend->run_stretch(StretchKey(owner), [&] { ++runs; });
  EXPECT_EQ(runs, 3);
}

// Every part of a key counts.
TEST(Stretch, KeysTellViewsApart) {
  const StretchOwner owner, other;
  float numbers[64];
  const TensorView view(numbers, DType::kF32, {4, 8});
  const auto key = [&](const TensorView& v) { return StretchKey(owner).add(v); };
  EXPECT_EQ(key(view), key(view));
  EXPECT_FALSE(key(view) == StretchKey(other).add(view));
  EXPECT_FALSE(key(view) == key(view.row_slice(0, 3)));
  EXPECT_FALSE(key(view) == key(view.row_slice(1, 4)));
  EXPECT_FALSE(key(view.row_slice(0, 3)) == key(view.row_slice(1, 4)));
  EXPECT_FALSE(key(view.col_slice(0, 4)) == key(TensorView(numbers, DType::kF32, {4, 4})));
  EXPECT_FALSE(key(view) == key(TensorView(numbers, DType::kI32, {4, 8})));
  EXPECT_FALSE(key(view) == key(TensorView(numbers, DType::kF32, {32})));
  EXPECT_FALSE(key(view) == key({}));
  KvLayer layers[2] = {{view, view}, {view, view}};
  const StretchKey before = StretchKey(owner).add(std::span<const KvLayer>(layers));
  layers[1].values = view.row_slice(1, 4);
  EXPECT_FALSE(before == StretchKey(owner).add(std::span<const KvLayer>(layers)));
}

// Another layout is another place, also where the allocator hands out the same address again.
TEST(Stretch, ScratchPlaces) {
  const auto backend = make_backend({"reference", "float32", 1});
  const StretchOwner owner;
  Scratch scratch(*backend);
  const auto place = [&] {
    StretchKey key(owner);
    scratch.add_place(key);
    return key;
  };
  const StretchKey empty = place();
  scratch.take(DType::kF32, {16});
  const StretchKey grown = place();
  EXPECT_FALSE(empty == grown);
  {
    const Scratch::Frame frame(scratch);
    scratch.take(DType::kF32, {16});
    EXPECT_FALSE(place() == grown);
  }
  EXPECT_EQ(place(), grown);
  scratch.take(DType::kF32, {8 << 20});
  scratch.reset();
  scratch.take(DType::kF32, {16});
  EXPECT_FALSE(place() == grown);
}

}  // namespace
}  // namespace ardiff::test
