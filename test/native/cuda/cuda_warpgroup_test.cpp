// Kernels of warpgroup products (native/backend/cuda/wgmma.cuh): the same bits as those that they stand in for, whose results are compared
// with the reference's elsewhere. Of devices only those of compute capability 9.0 have them.
#include <gtest/gtest.h>

#include <cstring>

#include "backend/cuda/make_cuda_backend.h"
#include "expect_error.h"
#include "support/cuda_device.h"
#include "support/environment.h"
#include "support/op_fixture.h"
#if ARDIFF_CUDA_EMULATION
#include "emulated_dependencies.h"
#endif

namespace ardiff::test {
namespace {

// In emulation, which has 4 multiprocessors, the same cases are reached by less.
#if ARDIFF_CUDA_EMULATION
constexpr bool kEmulated = true;
#else
constexpr bool kEmulated = false;
#endif
template <typename T>
std::vector<T> shapes(std::vector<T> emulated, std::vector<T> of_device) {
  return kEmulated ? emulated : of_device;
}

class CudaWarpgroup : public testing::Test {
 protected:
  void SetUp() override { make(false, false); }
  void make(bool storers, bool shared_rows) {
    options_.storers = storers;
    options_.shared_rows = shared_rows;
    if (!made_on_cuda([this] {
          plain_ = make_backend({.name = "cuda", .dtype = "bfloat16", .graphs = false, .warpgroups = false});
          // However small the product.
          wide_ = make_cuda_backend(options_, {.wide_products = 0});
        }))
      return;
    ASSERT_EQ(plain_->info().libraries.find("warpgroup products"), std::string::npos);
    if (wide_->info().libraries.find("warpgroup products") == std::string::npos)
      GTEST_SKIP() << wide_->info().isa << " has no warpgroup products";
  }
  // What run(backend) gives on both, which must not be all zeros either.
  template <typename Run>
  void expect_same(const std::string& what, Run&& run) {
    const std::vector<float> expected = run(*plain_), got = run(*wide_);
    ASSERT_EQ(expected.size(), got.size());
    size_t different = 0, zeros = 0, first = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      if (std::memcmp(&got[i], &expected[i], sizeof(float)) != 0 && different++ == 0) first = i;
      zeros += expected[i] == 0.0f ? 1 : 0;
    }
    EXPECT_EQ(different, 0u) << what << ": result " << first << " of " << got.size() << " is " << got[first] << ", expected "
                             << expected[first];
    EXPECT_LT(zeros, got.size() / 2 + 1) << what;
  }

  BackendOptions options_{.name = "cuda", .dtype = "bfloat16", .graphs = false, .warpgroups = true};
  std::unique_ptr<Backend> plain_, wide_;
  Values values_;
};

// With and without warps that store, and rows that two blocks share.
struct Way {
  bool storers, shared_rows;
};

class CudaWarpgroupLinear : public CudaWarpgroup, public testing::WithParamInterface<Way> {
 protected:
  void SetUp() override { make(GetParam().storers, GetParam().shared_rows); }
};

INSTANTIATE_TEST_SUITE_P(Ways, CudaWarpgroupLinear, testing::Values(Way{false, false}, Way{true, false}, Way{false, true}, Way{true, true}),
                         [](const auto& of) {
                           return std::string(of.param.storers ? "storers" : "plain") + (of.param.shared_rows ? "_shared_rows" : "");
                         });

TEST_P(CudaWarpgroupLinear, LinearLayersOfEveryShape) {
  struct Layer {
    int64_t in, out;
  };
  // Depths of one step, of fewer steps than slices, of slices of uneven length, and long; tiles of features that are not full.
  for (const Layer& l : shapes<Layer>({{32, 128}, {20, 40}, {64, 200}, {160, 128}, {288, 48}, {1056, 520}},
                                      {{32, 128}, {20, 40}, {64, 200}, {160, 128}, {288, 48}, {1536, 1536}, {2080, 300}, {13824, 384}})) {
    const auto weight = values_.normal(l.in * l.out, 0.1f), bias = values_.normal(l.out);
    const LinearPart part{host(weight, {l.out, l.in}), host(bias, {l.out})};
    const auto of_plain = plain_->prepare_linear({&part, 1}), of_wide = wide_->prepare_linear({&part, 1});
    for (const int64_t rows :
         shapes<int64_t>({33, 65, 96, 97, 129, 160, 161, 321}, {33, 64, 65, 96, 97, 128, 129, 160, 161, 200, 320, 321, 700})) {
      const auto x = values_.normal(rows * l.in);
      expect_same(std::to_string(l.in) + " to " + std::to_string(l.out) + ", " + std::to_string(rows) + " rows", [&](Backend& b) {
        const Tensor y = b.make(DType::kF32, {rows, l.out});
        b.linear(act(b, {rows, l.in}, x), &b == plain_.get() ? *of_plain : *of_wide, y, Epilogue::store());
        return get(b, y);
      });
    }
  }
}

TEST_P(CudaWarpgroupLinear, RowsOfFewAndOfManyAreTheSame) {
  const int64_t in = kEmulated ? 256 : 1024, out = kEmulated ? 272 : 640, rows = 480;
  const auto weight = values_.normal(in * out, 0.1f), bias = values_.normal(out), x = values_.normal(rows * in);
  const LinearPart part{host(weight, {out, in}), host(bias, {out})};
  const auto layer = wide_->prepare_linear({&part, 1});
  const auto run = [&](int64_t first, int64_t count) {
    const Tensor y = wide_->make(DType::kF32, {count, out});
    wide_->linear(act(*wide_, {count, in}, {x.begin() + first * in, x.begin() + (first + count) * in}), *layer, y, Epilogue::store());
    return get(*wide_, y);
  };
  const auto all = run(0, rows);
  for (const auto& [first, count] :
       {std::pair<int64_t, int64_t>{479, 1}, {3, 8}, {100, 32}, {7, 33}, {200, 64}, {11, 100}, {300, 160}, {1, 479}}) {
    const auto some = run(first, count);
    EXPECT_EQ(std::memcmp(some.data(), all.data() + first * out, some.size() * sizeof(float)), 0)
        << "rows " << first << " and " << count - 1 << " more";
  }
}

TEST_P(CudaWarpgroupLinear, EveryEpilogue) {
  const int64_t in = 512, out = 264, rows = 100;
  const auto weight = values_.normal(in * out, 0.1f), bias = values_.normal(out), x = values_.normal(rows * in),
             before = values_.normal(rows * out);
  const auto gates = values_.normal(3 * out);
  const LinearPart part{host(weight, {out, in}), host(bias, {out})};
  const auto of_plain = plain_->prepare_linear({&part, 1}), of_wide = wide_->prepare_linear({&part, 1});
  std::vector<int32_t> gate_rows(rows);
  for (int64_t i = 0; i < rows; ++i) gate_rows[static_cast<size_t>(i)] = static_cast<int32_t>(i % 3);
  for (const int kind : {0, 1, 2, 3, 4}) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      if (kind >= 3 && dtype == DType::kBF16) continue;  // what adds does so in float32
      expect_same("epilogue " + std::to_string(kind), [&](Backend& b) {
        const Tensor gate = f32(b, {3, out}, gates), y = kind >= 3 ? f32(b, {rows, out}, before) : b.make(dtype, {rows, out});
        const Tensor which = b.make(DType::kI32, {rows});
        b.upload(which, gate_rows.data());
        const Epilogue epilogues[] = {Epilogue::store(), Epilogue::silu(), Epilogue::gelu(), Epilogue::add(),
                                      Epilogue::gated_add(gate, which)};
        b.linear(act(b, {rows, in}, x), &b == plain_.get() ? *of_plain : *of_wide, y, epilogues[kind]);
        const Tensor result = b.make(DType::kF32, {rows, out});
        b.convert(y, result);
        return get(b, dtype == DType::kF32 ? y : result);
      });
    }
  }
}

// What follows a product in its kernel; tiles that are full, halved and not full, heads as wide as a tile and narrower, rows of one tile
// and of more.
TEST_P(CudaWarpgroupLinear, ProductsInPairs) {
  struct Case {
    int64_t in, half, rows;  // of features: gate's or up's
  };
  for (const Case& s :
       shapes<Case>({{64, 64, 33}, {256, 160, 80}, {512, 48, 100}, {96, 336, 80}, {160, 208, 330}},
                    {{64, 64, 33}, {512, 1024, 80}, {512, 48, 100}, {2080, 9216, 80}, {5120, 13824, 160}, {160, 208, 500}})) {
    const auto weight = values_.normal(s.in * 2 * s.half, 0.1f), bias = values_.normal(2 * s.half), x = values_.normal(s.rows * s.in);
    const LinearPart part{host(weight, {2 * s.half, s.in}), host(bias, {2 * s.half})};
    const auto of_plain = plain_->prepare_linear({&part, 1}), of_wide = wide_->prepare_linear({&part, 1});
    expect_same("silu of " + std::to_string(s.half) + ", " + std::to_string(s.rows) + " rows", [&](Backend& b) {
      const Tensor normed = b.make(DType::kBF16, {s.rows, s.in}), gate_up = b.make(DType::kF32, {s.rows, 2 * s.half});
      const Tensor y = b.make(DType::kBF16, {s.rows, s.half}), result = b.make(DType::kF32, {s.rows, s.half});
      const Tensor ones = f32(b, {s.in}, std::vector<float>(static_cast<size_t>(s.in), 1.0f));
      b.norm_linear_silu_mul(f32(b, {s.rows, s.in}, x), RowNorm::rms(ones, 1e-6f), normed, &b == plain_.get() ? *of_plain : *of_wide,
                             gate_up, y);
      b.convert(y, result);
      return get(b, result);
    });
  }
  struct Heads {
    int64_t in, q, kv, dim, rows;
  };
  for (const Heads& s : shapes<Heads>({{96, 5, 1, 128, 80}, {320, 4, 2, 64, 40}, {64, 10, 2, 32, 170}},
                                      {{512, 5, 1, 128, 80}, {320, 4, 2, 64, 40}, {1024, 10, 2, 32, 170}, {5120, 40, 8, 128, 80}})) {
    const int64_t out = (s.q + 2 * s.kv) * s.dim;
    const auto weight = values_.normal(s.in * out, 0.1f), bias = values_.normal(out), x = values_.normal(s.rows * s.in);
    const auto angles = values_.normal(s.rows * s.dim / 2), others = values_.normal(s.rows * s.dim / 2);
    const LinearPart part{host(weight, {out, s.in}), host(bias, {out})};
    const auto of_plain = plain_->prepare_linear({&part, 1}), of_wide = wide_->prepare_linear({&part, 1});
    const int64_t blocks = (s.rows + 15) / 16;
    std::vector<int32_t> slots;
    for (int64_t m = 0; m < s.rows; ++m) slots.push_back(static_cast<int32_t>((m * 7) % (blocks * 16)));
    expect_same("heads of " + std::to_string(s.dim) + ", " + std::to_string(s.rows) + " rows", [&](Backend& b) {
      const Tensor normed = b.make(DType::kBF16, {s.rows, s.in}), qkv = b.make(DType::kF32, {s.rows, out});
      const Tensor q = b.make(DType::kF32, {s.rows, s.q * s.dim}),
                   ones = f32(b, {s.in}, std::vector<float>(static_cast<size_t>(s.in), 1.0f));
      const Tensor keys = b.make(DType::kBF16, {blocks, s.kv, 16, s.dim}), values = b.make(DType::kBF16, {blocks, s.kv, 16, s.dim});
      const Tensor at = b.make(DType::kI32, {s.rows});
      b.upload(at, slots.data());
      b.norm_linear_rope_store(f32(b, {s.rows, s.in}, x), RowNorm::rms(ones, 1e-6f), normed, &b == plain_.get() ? *of_plain : *of_wide, qkv,
                               f32(b, {s.rows, s.dim / 2}, angles), f32(b, {s.rows, s.dim / 2}, others), at, q, {keys, values});
      std::vector<float> all = get(b, q);
      for (const Tensor* cache : {&keys, &values}) {
        const int64_t count = blocks * s.kv * 16;
        const Tensor plain = b.make(DType::kF32, {count, s.dim});
        b.convert(cache->view.reshape({count, s.dim}), plain);
        const std::vector<float> stored = get(b, plain);
        all.insert(all.end(), stored.begin(), stored.end());
      }
      return all;
    });
  }
}

// Rows that would go in turns, which what follows in pairs cannot: op by op then.
TEST_P(CudaWarpgroupLinear, RowsInTurnsAreNotInPairs) {
  const int64_t in = 320, heads = 4, dim = 64, out = heads * dim, blocks = 14;
  const auto weight = values_.normal(in * out, 0.1f);
  const LinearPart part{host(weight, {out, in}), {}};
  for (const int64_t rows : {160, 161, 200}) {
    const auto x = values_.normal(rows * in), angles = values_.normal(rows * dim / 2);
    const auto run = [&](Backend& b) {
      const auto w = b.prepare_linear({&part, 1});
      const Tensor normed = b.make(DType::kBF16, {rows, in}), qkv = b.make(DType::kF32, {rows, out}),
                   q = b.make(DType::kF32, {rows, 2 * dim});
      const Tensor ones = f32(b, {in}, std::vector<float>(static_cast<size_t>(in), 1.0f)), at = b.make(DType::kI32, {rows});
      const Tensor keys = b.make(DType::kBF16, {blocks, 1, 16, dim}), values = b.make(DType::kBF16, {blocks, 1, 16, dim});
      std::vector<int32_t> slots;
      for (int64_t m = 0; m < rows; ++m) slots.push_back(static_cast<int32_t>(m));
      b.upload(at, slots.data());
      b.norm_linear_rope_store(f32(b, {rows, in}, x), RowNorm::rms(ones, 1e-6f), normed, *w, qkv, f32(b, {rows, dim / 2}, angles),
                               f32(b, {rows, dim / 2}, angles), at, q, {keys, values});
      return get(b, q);
    };
    const auto turns = make_cuda_backend(options_, {.product_sums = rows * in * 2, .wide_products = 0});
    EXPECT_EQ(run(*turns), run(*plain_)) << rows << " rows";
  }
}

TEST_F(CudaWarpgroup, Convolutions) {
  struct Picture {
    int64_t batch, height, width, in, out, kernel;
    ConvPadding padding;
  };
  const auto same = ConvPadding::kSame, down = ConvPadding::kDownsample;
  for (const Picture& s : shapes<Picture>({{1, 8, 8, 64, 128, 3, same},
                                           {2, 5, 7, 128, 96, 3, same},
                                           {1, 8, 16, 64, 768, 3, same},
                                           {3, 17, 9, 192, 200, 1, same},
                                           {1, 33, 31, 64, 128, 1, same},
                                           {2, 20, 14, 64, 320, 3, down}},
                                          {{1, 8, 8, 64, 128, 3, same},
                                           {2, 5, 7, 128, 96, 3, same},
                                           {1, 33, 18, 64, 256, 3, same},
                                           {3, 17, 9, 192, 200, 1, same},
                                           {1, 48, 40, 128, 128, 3, same},
                                           {1, 130, 128, 64, 128, 3, same},
                                           {1, 96, 96, 64, 512, 3, same},
                                           {2, 20, 14, 64, 320, 3, down}})) {
    const auto weight = values_.normal(s.out * s.in * s.kernel * s.kernel, 0.1f), bias = values_.normal(s.out);
    const auto x = values_.normal(s.batch * s.height * s.width * s.in);
    const bool halves = s.padding == down;
    const Shape result{s.batch, halves ? (s.height - 2) / 2 + 1 : s.height, halves ? (s.width - 2) / 2 + 1 : s.width, s.out};
    const Shape doubled{s.batch, 2 * s.height, 2 * s.width, s.out};
    const auto before = values_.normal(result.size());
    const std::string name =
        std::to_string(s.in) + " to " + std::to_string(s.out) + " at " + std::to_string(s.height) + " x " + std::to_string(s.width);
    for (const bool adds : {false, true}) {
      expect_same(name, [&](Backend& b) {
        const auto w = b.prepare_conv2d(host(weight, {s.out, s.in, s.kernel, s.kernel}), host(bias, {s.out}), s.padding);
        const Tensor y = f32(b, result, before);
        b.conv2d(act(b, {s.batch, s.height, s.width, s.in}, x), *w, y, adds ? Epilogue::add() : Epilogue::store());
        return get(b, y);
      });
    }
    if (halves) continue;
    expect_same("doubled, " + name, [&](Backend& b) {
      const auto w = b.prepare_conv2d(host(weight, {s.out, s.in, s.kernel, s.kernel}), host(bias, {s.out}), s.padding);
      const Tensor y = b.make(DType::kF32, doubled);
      b.upsample_conv2d(f32(b, {s.batch, s.height, s.width, s.in}, x), *w, y);
      return get(b, y);
    });
  }
}

#if ARDIFF_CUDA_EMULATION
// Weights may come before the launch in front is done, rows may not.
TEST_P(CudaWarpgroupLinear, RowsWaitForTheLaunchInFront) {
  const int64_t in = 128, out = 320, rows = 40;
  const auto first = values_.normal(in * in, 0.1f), second = values_.normal(in * out, 0.1f), x = values_.normal(rows * in);
  const LinearPart parts[] = {{host(first, {in, in}), {}}, {host(second, {out, in}), {}}};
  expect_same("two layers", [&](Backend& b) {
    const auto one = b.prepare_linear({&parts[0], 1}), two = b.prepare_linear({&parts[1], 1});
    const Tensor input = act(b, {rows, in}, x), between = b.make(DType::kBF16, {rows, in}), y = b.make(DType::kF32, {rows, out});
    emulation::watch_dependencies(true);
    b.linear(input, *one, between, Epilogue::silu());
    b.linear(between, *two, y, Epilogue::store());
    emulation::watch_dependencies(false);
    return get(b, y);
  });
}
#endif

TEST_F(CudaWarpgroup, AreSwitchedByTheEnvironment) {
  const auto are_on = [](const char* value, const char* dtype = "bfloat16") {
    const Environment set("ARDIFF_CUDA_WGMMA", value);
    return make_backend({"cuda", dtype, 0})->info().libraries.find("warpgroup products") != std::string::npos;
  };
  EXPECT_TRUE(are_on("1"));
  EXPECT_FALSE(are_on("0"));
  EXPECT_TRUE(are_on(nullptr)) << "on unless they are refused";
  EXPECT_FALSE(are_on("1", "float32"));
  const std::pair<const char*, const char*> ways[] = {{"ARDIFF_CUDA_STORERS", "storing warps"}, {"ARDIFF_CUDA_SHARED_ROWS", "shared rows"}};
  for (const auto& [name, library] : ways) {
    for (const auto& [value, expected] : {std::pair<const char*, bool>{"1", true}, {"0", false}, {nullptr, false}}) {
      const Environment set(name, value);
      const auto backend = make_backend({.name = "cuda", .dtype = "bfloat16", .warpgroups = true});
      EXPECT_EQ(backend->info().libraries.find(library) != std::string::npos, expected) << name;
    }
  }
  expect_error([&] { are_on("yes"); }, ErrorCode::kInvalidArgument, "ARDIFF_CUDA_WGMMA");
}

TEST_F(CudaWarpgroup, AttentionOverPixels) {
  for (const auto& [tokens, width] :
       shapes<std::pair<int64_t, int64_t>>({{256, 128}, {300, 64}, {130, 96}}, {{256, 128}, {1000, 64}, {4096, 512}, {130, 96}})) {
    const auto q = values_.normal(tokens * width), k = values_.normal(tokens * width), v = values_.normal(tokens * width);
    expect_same(std::to_string(tokens) + " of " + std::to_string(width), [&, tokens = tokens, width = width](Backend& b) {
      const Tensor out = b.make(DType::kF32, {tokens, width});
      b.dense_attention(f32(b, {tokens, width}, q), f32(b, {tokens, width}, k), f32(b, {tokens, width}, v), 0.1f, out);
      return get(b, out);
    });
  }
}

}  // namespace
}  // namespace ardiff::test
