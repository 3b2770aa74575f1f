// Layers of whole pictures by cuBLASLt: how it is asked for and what is said where that cannot be, which algorithm is taken, every
// epilogue, the same bits in every batch, graphs, errors. On a device with the library that is there; in emulation with
// cuda_emulation/fake_cublas_lt.cpp, which can also misbehave.
#include <dlfcn.h>

#include <cstdlib>
#include <list>
#include <optional>

#include "backend/cuda/make_cuda_backend.h"
#include "engine/engine.h"
#include "expect_error.h"
#include "support/cuda_device.h"
#include "support/environment.h"
#include "support/golden_dir.h"
#include "support/op_fixture.h"
#if ARDIFF_CUDA_EMULATION
#include "emulated_memory.h"
#endif

namespace ardiff::test {
namespace {

#if ARDIFF_CUDA_EMULATION
const std::string kLibrary = ARDIFF_FAKE_CUBLAS_LT;
#else
// Where it lies, if not where the dynamic linker looks.
const std::string kLibrary = std::getenv("ARDIFF_CUDA_BLASLT") != nullptr ? std::getenv("ARDIFF_CUDA_BLASLT") : "1";
#endif

std::unique_ptr<Backend> make(const std::string& library, const CudaLimits& limits = {}, bool graphs = false) {
  return make_cuda_backend({.name = "cuda", .dtype = "bfloat16", .graphs = graphs, .cublas_lt = library}, limits);
}

class CudaCublasLt : public testing::Test {
 protected:
  void SetUp() override {
    if (!made_on_cuda([this] { own_ = make("0"); })) return;
    try {
      backend_ = make(kLibrary);
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }
  // Weights stay with the test.
  LinearPart part(int64_t in, int64_t out) {
    weights_.push_back(values_.normal(in * out, 1.0f / std::sqrt(static_cast<float>(in))));
    biases_.push_back(values_.normal(out));
    return {host(weights_.back(), {out, in}), host(biases_.back(), {out})};
  }
  std::unique_ptr<Linear> layer(Backend& backend, const LinearPart& of) { return backend.prepare_picture_linear({&of, 1}); }
  Tensor product(Backend& backend, const Linear& w, int64_t rows, const std::vector<float>& x, const Epilogue& epilogue = Epilogue::store()) {
    Tensor y = backend.make(DType::kF32, {rows, w.out_features});
    backend.linear(act(backend, {rows, w.in_features}, x), w, y, epilogue);
    return y;
  }

  std::unique_ptr<Backend> own_, backend_, reference_ = make_backend({"reference", "float32", 1});
  Values values_;
  std::list<std::vector<float>> weights_, biases_;
};

TEST_F(CudaCublasLt, IsNamedWhereItIsUsed) {
  EXPECT_NE(backend_->info().libraries.find(", cuBLASLt "), std::string::npos) << backend_->info().libraries;
  EXPECT_EQ(own_->info().libraries.find("cuBLASLt"), std::string::npos) << own_->info().libraries;
}

TEST_F(CudaCublasLt, EveryEpilogue) {
  struct Shape3 {
    int64_t rows, in, out;
  };
  for (const auto& [rows, in, out] : {Shape3{1, 64, 64}, {5, 33, 70}, {130, 96, 40}, {257, 40, 129}, {64, 256, 32}}) {
    // Two parts, only the first with a bias; inputs and gates among columns that belong to something else.
    const LinearPart first = part(in, out - out / 3), second{part(in, out / 3).weight, {}};
    const LinearPart parts[] = {first, second};
    const auto x = values_.normal(rows * (in + 16)), y = values_.normal(rows * out), gate = values_.normal(rows * 2 * out);
    const std::vector<int32_t> gate_rows = values_.below(static_cast<int32_t>(rows), static_cast<int32_t>(rows));
    for (const auto kind : {Epilogue::Kind::kStore, Epilogue::Kind::kSilu, Epilogue::Kind::kGelu, Epilogue::Kind::kAdd, Epilogue::Kind::kGatedAdd}) {
      for (const bool narrow_y : {false, true}) {
        if (narrow_y && (kind == Epilogue::Kind::kAdd || kind == Epilogue::Kind::kGatedAdd)) continue;  // y is float32 there
        for (const bool shared_gates : {false, true}) {
          if (shared_gates && kind != Epilogue::Kind::kGatedAdd) continue;
          for (const int64_t column : {0, 3, 8}) {  // 8: read where it lies, if its rows do as well; else by a copy
            const auto run = [&](Backend& b) {
              const auto w = b.prepare_picture_linear(parts);
              const Tensor input = act(b, {rows, in + 16}, x), gates = f32(b, {rows, 2 * out}, gate), index = put(b, gate_rows);
              Epilogue epilogue{kind, {}};
              const TensorView of = gates.view.col_slice(out, 2 * out);
              if (kind == Epilogue::Kind::kGatedAdd) epilogue = Epilogue::gated_add(of, shared_gates ? index.view : TensorView());
              const Tensor result = put(b, narrow_y ? b.activation_dtype() : DType::kF32, {rows, out}, y);
              b.linear(input.view.col_slice(column, column + in), *w, result, epilogue);
              return get(b, result);
            };
            expect_near(run(*reference_), run(*backend_), narrow_y ? DType::kBF16 : DType::kF32, {4e-5f, 4e-5f},
                        std::to_string(rows) + "x" + std::to_string(in) + "x" + std::to_string(out) + " epilogue " + std::to_string(static_cast<int>(kind)));
          }
        }
      }
    }
  }
}

// Of any number of rows, at any place among them, in turns: the bits of all together.
TEST_F(CudaCublasLt, ARowHasTheSameBitsInEveryBatch) {
  const int64_t total = 600;
  for (const auto& [in, out] : {std::pair<int64_t, int64_t>{64, 96}, {40, 33}}) {
    const LinearPart of = part(in, out);
    const auto w = layer(*backend_, of);
    const auto x = values_.normal(total * in);
    const auto together = bytes(*backend_, product(*backend_, *w, total, x, Epilogue::gelu()));
    const auto expect_bits = [&](Backend& backend, const Linear& weights, int64_t first, int64_t count) {
      const std::vector<float> some(x.begin() + first * in, x.begin() + (first + count) * in);
      const auto apart = bytes(backend, product(backend, weights, count, some, Epilogue::gelu()));
      EXPECT_EQ(0, std::memcmp(apart.data(), together.data() + first * out * 4, apart.size())) << count << " rows from " << first << ", " << in << " to " << out;
    };
    for (const int64_t count : {1, 2, 16, 31, 32, 33, 64, 65, 128, 250, 599}) expect_bits(*backend_, *w, (total - count) / 2, count);
    for (const int64_t limit : {int64_t{1}, 100 * 4 * out, 256 * 4 * (out + 3)}) {
      const auto backend = make(kLibrary, {.product_sums = limit});
      expect_bits(*backend, *layer(*backend, of), 0, limit == 1 ? 40 : total);
    }
  }
}

// Layers that are not of whole pictures have their own kernels' bits, and others do not need to.
TEST_F(CudaCublasLt, OtherLayersAreNotTouched) {
  const LinearPart of = part(96, 64);
  const auto x = values_.normal(300 * 96);
  for (const int64_t rows : {1, 40, 300}) {
    const std::vector<float> some(x.begin(), x.begin() + rows * 96);
    EXPECT_EQ(bytes(*backend_, product(*backend_, *backend_->prepare_linear({&of, 1}), rows, some)),
              bytes(*own_, product(*own_, *own_->prepare_linear({&of, 1}), rows, some)));
    EXPECT_EQ(bytes(*own_, product(*own_, *own_->prepare_picture_linear({&of, 1}), rows, some)),
              bytes(*own_, product(*own_, *own_->prepare_linear({&of, 1}), rows, some)));
  }
}

// Ops in a row are those one after the other, also where they would be one kernel for other layers.
TEST_F(CudaCublasLt, OpsInARow) {
  const int64_t rows = 3, in = 64, out = 64;
  const LinearPart of = part(in, out);
  const auto w = layer(*backend_, of);
  Backend& b = *backend_;
  const Tensor x = f32(b, {rows, in}, values_.normal(rows * in)), weight = f32(b, {in}, values_.normal(in)), normed = b.make(DType::kBF16, {rows, in});
  const RowNorm norm = RowNorm::rms(weight, 1e-5f);
  const Tensor apart = b.make(DType::kF32, {rows, out}), together = b.make(DType::kF32, {rows, out});
  b.rms_norm(x, weight, 1e-5f, normed);
  b.linear(normed, *w, apart, Epilogue::store());
  b.norm_linear(x, norm, normed, *w, together, Epilogue::store());
  EXPECT_EQ(bytes(b, together), bytes(b, apart));
  const Tensor half = b.make(DType::kBF16, {rows, out / 2}), half_together = b.make(DType::kBF16, {rows, out / 2});
  b.silu_mul(apart, half);
  b.norm_linear_silu_mul(x, norm, normed, *w, together, half_together);
  EXPECT_EQ(bytes(b, half_together), bytes(b, half));
  const Tensor index = put(b, {2, 0}), picked = b.make(DType::kF32, {2, out}), picked_together = b.make(DType::kF32, {2, out});
  b.linear(x, *w, apart, Epilogue::store());
  b.gather_rows(apart, index, picked);
  b.linear_gather(x, *w, together, index, picked_together);
  EXPECT_EQ(bytes(b, picked_together), bytes(b, picked));
}

TEST_F(CudaCublasLt, IsPartOfAGraph) {
  const auto graphs = make(kLibrary, {}, true);
  const LinearPart of = part(64, 48);
  const auto w = layer(*graphs, of), plain = layer(*backend_, of);
  const StretchOwner owner;
  for (const int64_t rows : {70, 4200}) {  // 4200: with a workspace
    const Tensor x = graphs->make(DType::kBF16, {rows, 64}), y = graphs->make(DType::kF32, {rows, 48});
    for (int turn = 0; turn < 4; ++turn) {
      const auto numbers = values_.normal(rows * 64);
      std::vector<bf16_t> rounded;
      for (const float value : numbers) rounded.push_back(f32_to_bf16(value));
      graphs->upload(x, rounded.data());
      graphs->run_stretch(StretchKey(owner).add(x.view).add(y.view), [&] { graphs->linear(x, *w, y, Epilogue::silu()); });
      EXPECT_EQ(bytes(*graphs, y), bytes(*backend_, product(*backend_, *plain, rows, numbers, Epilogue::silu()))) << rows << ", " << turn;
    }
  }
  EXPECT_EQ(graphs->stretch_counts().recorded, 2);
  EXPECT_EQ(graphs->stretch_counts().replayed, 6);
}

TEST_F(CudaCublasLt, IsSwitchedByTheEnvironment) {
  const auto named = [](const char* dtype) { return make_backend({"cuda", dtype, 0})->info().libraries.find("cuBLASLt") != std::string::npos; };
  {
    const Environment on("ARDIFF_CUDA_BLASLT", kLibrary.c_str());
    EXPECT_TRUE(named("bfloat16"));
    EXPECT_FALSE(named("float32")) << "float32 has its own products alone";
  }
  {
    const Environment off("ARDIFF_CUDA_BLASLT", "0");
    EXPECT_FALSE(named("bfloat16"));
  }
  // Not asked for: where the linker finds one by its names, which the emulation does not look for.
  bool found = false;
#if !ARDIFF_CUDA_EMULATION
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}) found = found || dlopen(name, RTLD_NOW | RTLD_LOCAL) != nullptr;
#endif
  for (const char* open : {"", static_cast<const char*>(nullptr)}) {
    const Environment is("ARDIFF_CUDA_BLASLT", open);
    EXPECT_EQ(named("bfloat16"), found) << (open != nullptr ? "empty" : "not set");
  }
  const Environment wrong("ARDIFF_CUDA_BLASLT", "yes");
  expect_error([] { make_backend({"cuda", "bfloat16", 0}); }, ErrorCode::kInvalidArgument, "ARDIFF_CUDA_BLASLT: expected 0, 1 or the path");
}

TEST_F(CudaCublasLt, ALibraryThatIsNotThereIsAnError) {
  expect_error([] { make("/nowhere/libcublasLt.so.13"); }, ErrorCode::kInvalidArgument, "/nowhere/libcublasLt.so.13");
}

#if ARDIFF_CUDA_EMULATION

// How often the library's function was called since this was last asked.
int calls(const char* name) {
  void* const library = dlopen(kLibrary.c_str(), RTLD_NOW | RTLD_NOLOAD);
  return library == nullptr ? -1 : reinterpret_cast<int (*)(const char*)>(dlsym(library, "fake_cublas_lt_calls"))(name);
}

constexpr int kChoices = 3;  // for few rows and two kinds of many

TEST_F(CudaCublasLt, AFunctionThatIsNotThereIsAnError) {
  expect_error([] { make(ARDIFF_FAKE_CUBLAS_LT_LACKING); }, ErrorCode::kInvalidArgument, "has no cublasLtMatmul");
}

// No machine of the tests has one where the dynamic linker looks: every name is said.
TEST_F(CudaCublasLt, AskedForByNameAndNotThere) {
  if (void* const there = dlopen("libcublasLt.so.13", RTLD_LAZY)) {
    dlclose(there);
    GTEST_SKIP() << "this machine has cuBLASLt";
  }
  expect_error([] { make("1"); }, ErrorCode::kInvalidArgument, "cannot be loaded: libcublasLt.so.13");
}

TEST_F(CudaCublasLt, ALibraryThatDoesNotBeginIsAnError) {
  const Environment mode("FAKE_CUBLASLT", "fail-create");
  calls("destroy");
  expect_error([] { make(kLibrary); }, ErrorCode::kInternal, "cuBLASLt: create a handle: CUBLAS_STATUS_NOT_INITIALIZED");
  EXPECT_EQ(calls("destroy"), 0);
}

TEST_F(CudaCublasLt, HandlesAreGivenBack) {
  calls("create"), calls("destroy");
  make(kLibrary);
  EXPECT_EQ(calls("create"), 1);
  EXPECT_EQ(calls("destroy"), 1);
}

TEST_F(CudaCublasLt, AlgorithmsAreChosenOnceForAShape) {
  const LinearPart a = part(64, 32), b = part(64, 32), c = part(32, 64);
  calls("choose");
  const auto first = layer(*backend_, a), second = layer(*backend_, b);
  EXPECT_EQ(calls("choose"), kChoices);
  const auto other = layer(*backend_, c);
  EXPECT_EQ(calls("choose"), kChoices);
  calls("multiply");
  for (const int64_t rows : {1, 40, 500}) product(*backend_, *second, rows, values_.normal(rows * 64));
  EXPECT_EQ(calls("choose"), 0);
  EXPECT_EQ(calls("multiply"), 3);
  EXPECT_EQ(bytes(*backend_, product(*own_, *own_->prepare_picture_linear({&a, 1}), 3, values_.normal(3 * 64))).size(), size_t{3 * 32 * 4});
  EXPECT_EQ(calls("multiply"), 0) << "not asked for";
}

// What models declare: TransDiff's d to 3 d, d, 4 d, 4 d to d and d to 2 d, and the autoencoder's attention; of NextStep that one alone.
TEST_F(CudaCublasLt, LayersOfWholePicturesAreTransDiffsAndTheAutoencoders) {
  const auto shapes = [](const char* model) {
    const auto backend = make(kLibrary);
    calls("choose");
    const auto engine = load_engine(*backend, testing_support::golden_dir() / model, {.kv_blocks = 101, .max_step_tokens = 256});
    return calls("choose");
  };
  EXPECT_EQ(shapes("../../train/golden-transdiff"), 6 * kChoices);
  EXPECT_EQ(shapes("nextstep-tiny"), kChoices);
}

// For many rows what the library names for them, if it gives the bits of what few have; one that gives others is left out.
TEST_F(CudaCublasLt, ManyRowsHaveAnAlgorithmOfTheSameBits) {
  const LinearPart of = part(64, 32);
  const auto x = values_.normal(1500 * 64), more = values_.normal(4097 * 64);
  const auto plain = layer(*backend_, of);
  const auto expected = bytes(*backend_, product(*backend_, *plain, 1500, x)), expected_of_more = bytes(*backend_, product(*backend_, *plain, 4097, more));
  const Environment mode("FAKE_CUBLASLT", "twin");
  const auto backend = make(kLibrary);
  const auto w = layer(*backend, of);
  calls("multiply by twin");
  EXPECT_EQ(bytes(*backend, product(*backend, *w, 1500, x)), expected);
  EXPECT_EQ(calls("multiply by twin"), 1);
  const auto some = bytes(*backend, product(*backend, *w, 1024, {x.begin(), x.begin() + 1024 * 64}));
  EXPECT_EQ(calls("multiply by twin"), 0);
  EXPECT_EQ(0, std::memcmp(some.data(), expected.data(), some.size()));
  EXPECT_EQ(bytes(*backend, product(*backend, *w, 4097, more)), expected_of_more);
  EXPECT_EQ(calls("multiply by twin"), 1);
  // In turns of at most 600 rows: what all of them have.
  const auto turns = make(kLibrary, {.product_sums = 600 * 32 * 4});
  const auto in_turns = layer(*turns, of);
  calls("multiply by twin");
  EXPECT_EQ(bytes(*turns, product(*turns, *in_turns, 1500, x)), expected);
  EXPECT_EQ(calls("multiply by twin"), 3);
}

// What may be used wants 4 bytes for many rows, and has them; it takes them from 300 rows on.
TEST_F(CudaCublasLt, ManyRowsHaveAWorkspace) {
  const auto w = layer(*backend_, part(64, 32));
  const auto x = values_.normal(600 * 64);
  calls("count rows");
  const auto all = bytes(*backend_, product(*backend_, *w, 600, x));
  EXPECT_EQ(calls("count rows"), 1);
  const auto some = bytes(*backend_, product(*backend_, *w, 299, x));
  EXPECT_EQ(calls("count rows"), 0);
  EXPECT_EQ(0, std::memcmp(some.data(), all.data(), some.size()));
}

// There when the backend is, and priced to the byte.
TEST_F(CudaCublasLt, ItsWorkspaceIsPriced) {
  const size_t empty = emulation::used_memory();
  const auto without = make("0");
  const size_t used_without = emulation::used_memory() - empty;
  const auto with = make(kLibrary);
  const size_t used_with = emulation::used_memory() - empty - used_without;
  EXPECT_EQ(used_with - used_without, size_t{256});
  EXPECT_EQ(with->op_memory_bytes(0) - without->op_memory_bytes(0), size_t{256});
}

// Whatever else the library names first, the one whose bits do not depend on the batch is taken: those of the run without the others.
TEST_F(CudaCublasLt, AlgorithmsThatWouldNotKeepTheBitsAreLeftOut) {
  const LinearPart of = part(96, 40);
  const auto x = values_.normal(300 * 96);
  const auto expected = bytes(*backend_, product(*backend_, *layer(*backend_, of), 300, x));
  for (const char* how : {"parts", "unsteady", "few-first"}) {
    const Environment mode("FAKE_CUBLASLT", how);
    const auto backend = make(kLibrary);
    const auto w = layer(*backend, of);
    EXPECT_EQ(bytes(*backend, product(*backend, *w, 300, x)), expected) << how;
    for (const int64_t rows : {1, 99, 100}) {
      const auto some = bytes(*backend, product(*backend, *w, rows, {x.begin(), x.begin() + rows * 96}));
      EXPECT_EQ(0, std::memcmp(some.data(), expected.data(), some.size())) << how << ", " << rows;
    }
  }
}

// Which rule turned down how many, and what was said of its last.
TEST_F(CudaCublasLt, WithoutSuchAnAlgorithmTheLayerIsAnError) {
  const LinearPart of = part(96, 40);
  const char* const unsteady = "for weights of 40 x 96 that gives a row the same bits in every batch, of 1 that it names; 1 with other bits in another batch, "
                               "the last algorithm 2 tile 20 stages 15 cluster 3: seen with the layer's weights";
  const char* const all = "of 5 that it names; 1 not for all numbers of rows, the last algorithm 3 tile 20 stages 15 cluster 3: 65536 rows "
                          "CUBLAS_STATUS_NOT_SUPPORTED; 1 with a large workspace, the last algorithm 6 tile 20 stages 15 cluster 3: 1024 bytes; 1 with other bits in "
                          "another batch, the last algorithm 2 tile 20 stages 15 cluster 3: seen with the layer's weights; 2 with parts of the depth, the last algorithm 5 tile 20 "
                          "stages 15 cluster 3: split-K 1, reduction scheme 2";
  for (const auto& [how, said] : {std::pair{"only-unsteady", unsteady},
                                 {"only-unsteady-many", "of 1 that it names; 1 with other bits in another batch, the last algorithm 8 tile 20 stages 15 cluster 3"},
                                 {"only-grows", "of 1 that it names; 1 not for all numbers of rows, the last algorithm 7 tile 20 stages 15 cluster 3: 4096 rows 1024 "
                                                "bytes of workspace, 65536 rows 1024 bytes of workspace"},
                                 {"none-fits", all},
                                 {"refuses", "of 0 that it names"}}) {
    const Environment mode("FAKE_CUBLASLT", how);
    const auto backend = make(kLibrary);
    expect_error([&] { layer(*backend, of); }, ErrorCode::kInvalidArgument, said);
    EXPECT_NO_THROW(backend->prepare_linear({&of, 1}));
  }
}

TEST_F(CudaCublasLt, AProductThatFailsIsAnErrorAndNotTheEnd) {
  const LinearPart of = part(64, 32);
  const auto w = layer(*backend_, of);
  const auto x = values_.normal(10 * 64);
  const auto expected = bytes(*backend_, product(*backend_, *w, 10, x));
  for (const auto& [how, code, said] : {std::tuple{"fail-multiply", ErrorCode::kInternal, "cuBLASLt: multiply: CUBLAS_STATUS_EXECUTION_FAILED"},
                                        {"no-memory", ErrorCode::kOutOfMemory, "cuBLASLt: multiply: CUBLAS_STATUS_ALLOC_FAILED"}}) {
    {
      const Environment mode("FAKE_CUBLASLT", how);
      expect_error([&] { product(*backend_, *w, 10, x); }, code, said);
      expect_error([&] { layer(*make(kLibrary), of); }, code, said);  // while it is looked for
    }
    EXPECT_EQ(bytes(*backend_, product(*backend_, *w, 10, x)), expected);
  }
}

// A capture that it fails in leaves the stream usable.
TEST_F(CudaCublasLt, AProductThatFailsInACapture) {
  const auto graphs = make(kLibrary, {}, true);
  const LinearPart of = part(64, 32);
  const auto w = layer(*graphs, of);
  const StretchOwner owner;
  const Tensor x = act(*graphs, {9, 64}, values_.normal(9 * 64)), y = graphs->make(DType::kF32, {9, 32});
  const auto run = [&] { graphs->run_stretch(StretchKey(owner), [&] { graphs->linear(x, *w, y, Epilogue::store()); }); };
  run();
  const auto expected = bytes(*graphs, y);
  {
    const Environment mode("FAKE_CUBLASLT", "fail-multiply");
    expect_error(run, ErrorCode::kInternal, "CUBLAS_STATUS_EXECUTION_FAILED");
  }
  for (int turn = 0; turn < 2; ++turn) run();
  EXPECT_EQ(bytes(*graphs, y), expected);
  EXPECT_EQ(graphs->stretch_counts().recorded, 1);
}

// To the byte; and what is kept for the products is within what ops are priced at.
TEST_F(CudaCublasLt, WeightsTakeWhatTheyArePricedAt) {
  const size_t empty = emulation::used_memory();
  const auto backend = make(kLibrary);
  for (const auto& [in, out] : {std::pair<int64_t, int64_t>{33, 70}, {256, 96}, {64, 80}}) {
    const LinearPart of = part(in, out);
    layer(*backend, of);  // what stages it, and what the algorithm was tried with, is kept
    const size_t before = emulation::used_memory();
    const auto kept = layer(*backend, of);
    EXPECT_EQ(emulation::used_memory() - before, backend->picture_linear_bytes(in, out)) << in << " to " << out;
  }
  EXPECT_LE(emulation::used_memory() - empty, backend->op_memory_bytes(0));
}

#endif  // ARDIFF_CUDA_EMULATION

}  // namespace
}  // namespace ardiff::test
