// The kernel of tiled contexts (native/backend/cuda/attention_tiled.cu), which is off unless it is asked for: beside the reference, and
// a row's bits whatever stands beside it. What no row sees is NaN.
#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "expect_error.h"
#include "support/cuda_device.h"
#include "support/environment.h"
#include "support/op_fixture.h"
#if ARDIFF_CUDA_EMULATION
#include "emulated_dependencies.h"
#endif

namespace ardiff::test {
namespace {

struct Heads {
  int64_t heads, kv_heads, head_dim, block_tokens;
};

// What a row sees: the first `length` positions of a table.
struct Seen {
  int32_t table, length;
};

class CudaTiledAttention : public testing::TestWithParam<Heads> {
 protected:
  static constexpr int64_t kTables = 3, kPositions = 210;

  void SetUp() override {
    if (!made_on_cuda([this] { tiled_ = make_backend({.name = "cuda", .dtype = "bfloat16", .tiled_attention = true}); })) return;
    const Heads& s = GetParam();
    max_blocks_ = (kPositions + s.block_tokens - 1) / s.block_tokens;
    tables_ = values_.order(static_cast<int32_t>(kTables * max_blocks_));
    cache_ = {kTables * max_blocks_, s.kv_heads, s.block_tokens, s.head_dim};
    keys_ = values_.normal(cache_.size()), cached_ = values_.normal(cache_.size());
  }
  int64_t width() const { return GetParam().heads * GetParam().head_dim; }

  // Positions of each table from seen[table] on are NaN.
  void forget(std::vector<int32_t> seen) {
    const Heads& s = GetParam();
    for (int64_t table = 0; table < kTables; ++table) {
      for (int64_t p = seen[static_cast<size_t>(table)]; p < max_blocks_ * s.block_tokens; ++p) {
        const int64_t block = tables_[static_cast<size_t>(table * max_blocks_ + p / s.block_tokens)];
        for (int64_t h = 0; h < s.kv_heads; ++h) {
          const int64_t at = ((block * s.kv_heads + h) * s.block_tokens + p % s.block_tokens) * s.head_dim;
          std::fill_n(keys_.begin() + at, s.head_dim, NAN);
          std::fill_n(cached_.begin() + at, s.head_dim, NAN);
        }
      }
    }
  }

  // Rows of `queries` that `picked` names, in this order, to float32; queries beside other columns.
  std::vector<float> attend(Backend& b, const std::vector<float>& queries, const std::vector<Seen>& seen,
                            const std::vector<int32_t>& picked) {
    const int64_t w = width(), rows = static_cast<int64_t>(picked.size()), beside = 3;
    std::vector<int32_t> table_rows, lengths;
    std::vector<float> q;
    for (const int32_t row : picked) {
      table_rows.push_back(seen[static_cast<size_t>(row)].table);
      lengths.push_back(seen[static_cast<size_t>(row)].length);
      q.insert(q.end(), beside, NAN);
      q.insert(q.end(), queries.begin() + row * w, queries.begin() + (row + 1) * w);
    }
    const Tensor k = put(b, b.kv_dtype(), cache_, keys_), v = put(b, b.kv_dtype(), cache_, cached_), out = b.make(DType::kF32, {rows, w});
    b.paged_attention(f32(b, {rows, beside + w}, q).view.col_slice(beside, beside + w), {k, v},
                      {put(b, {kTables, max_blocks_}, tables_), put(b, table_rows), put(b, lengths), true}, out);
    return get(b, out);
  }
  std::vector<float> attend(const std::vector<float>& queries, const std::vector<Seen>& seen, const std::vector<int32_t>& picked) {
    return attend(*tiled_, queries, seen, picked);
  }
  static std::vector<int32_t> all_of(const std::vector<Seen>& seen) {
    std::vector<int32_t> out(seen.size());
    std::iota(out.begin(), out.end(), 0);
    return out;
  }

  // Row `row` of `expected` is row `at` of `got`, to the bit.
  void expect_row(const std::vector<float>& expected, int64_t row, const std::vector<float>& got, int64_t at, const std::string& what) {
    const auto w = static_cast<size_t>(width());
    ASSERT_EQ(std::memcmp(expected.data() + static_cast<size_t>(row) * w, got.data() + static_cast<size_t>(at) * w, w * sizeof(float)), 0)
        << what << ": row " << row;
  }

  std::unique_ptr<Backend> reference_ = make_backend({"reference", "float32", 1}), tiled_;
  Values values_;
  int64_t max_blocks_ = 0;
  std::vector<int32_t> tables_;
  Shape cache_;
  std::vector<float> keys_, cached_;
};

// Groups of 1, 4, 5 and 64 query heads, and heads of every number of numbers that the kernel is compiled for; blocks of positions
// that are a tile, less, more and neither.
INSTANTIATE_TEST_SUITE_P(Heads, CudaTiledAttention,
                         testing::Values(Heads{2, 2, 64, 64}, Heads{8, 2, 16, 16}, Heads{5, 1, 48, 5}, Heads{4, 1, 128, 256},
                                         Heads{1, 1, 32, 7}, Heads{3, 3, 80, 16}, Heads{64, 1, 16, 16}, Heads{10, 2, 96, 24},
                                         Heads{2, 1, 112, 64}),
                         [](const auto& of) {
                           return std::to_string(of.param.heads) + "_on_" + std::to_string(of.param.kv_heads) + "_of_" +
                                  std::to_string(of.param.head_dim);
                         });

TEST_P(CudaTiledAttention, SaysThatItIsThere) {
  EXPECT_NE(tiled_->info().libraries.find("tiled attention"), std::string::npos);
  EXPECT_EQ(make_backend({.name = "cuda", .dtype = "bfloat16", .tiled_attention = false})->info().libraries.find("tiled attention"),
            std::string::npos);
  EXPECT_EQ(make_backend({.name = "cuda", .dtype = "float32", .tiled_attention = true})->info().libraries.find("tiled attention"),
            std::string::npos);
}

// As OpConformance.TiledAttention: queries and weights rounded to bf16, tables in runs of any length, and rows alone among them.
TEST_P(CudaTiledAttention, IsTheReference) {
  std::vector<Seen> seen;
  for (const auto& [table, length, rows] :
       {std::tuple{2, 210, 70}, {0, 1, 3}, {0, 63, 5}, {0, 64, 9}, {0, 65, 1}, {1, 128, 64}, {2, 129, 1}, {1, 7, 1}, {0, 192, 20}}) {
    seen.insert(seen.end(), static_cast<size_t>(rows), {table, length});
  }
  const auto queries = values_.normal(static_cast<int64_t>(seen.size()) * width());
  forget({192, 128, 210});
  expect_near(attend(*reference_, queries, seen, all_of(seen)), attend(queries, seen, all_of(seen)), DType::kF32, {6e-3f, 2e-5f},
              "tiled attention");
}

// It is in use: other bits than the kernel's for all contexts, which keeps 16 bits of a weight.
TEST_P(CudaTiledAttention, RoundsAsItMay) {
  const auto plain = make_backend({.name = "cuda", .dtype = "bfloat16", .tiled_attention = false});
  const std::vector<Seen> seen(4, {1, 100});
  const auto queries = values_.normal(4 * width());
  EXPECT_NE(attend(queries, seen, all_of(seen)), attend(*plain, queries, seen, all_of(seen)));
}

// Alone, in a crowd in other orders and places, among other tables; lengths before, at and behind the ends of tiles.
TEST_P(CudaTiledAttention, KeepsARowsBits) {
  std::vector<Seen> seen;
  for (const int32_t length : {1, 2, 15, 63, 64, 65, 100, 127, 128, 129, 191, 192, 193, 210}) {
    for (int32_t table = 0; table < kTables; ++table) seen.insert(seen.end(), 2, {table, length});
  }
  const auto rows = static_cast<int32_t>(seen.size());
  const auto queries = values_.normal(rows * width());
  const std::vector<float> together = attend(queries, seen, all_of(seen));
  EXPECT_TRUE(std::none_of(together.begin(), together.end(), [](float value) { return std::isnan(value); }));
  for (int32_t row = 0; row < rows; row += 3) expect_row(together, row, attend(queries, seen, {row}), 0, "alone");
  for (const int32_t count : {rows, rows - 1, 40, 17, 5, 2}) {
    std::vector<int32_t> picked = values_.order(rows);
    picked.resize(static_cast<size_t>(count));
    // By table, so that rows of any lengths stand together, and as they come.
    for (const bool by_table : {true, false}) {
      if (by_table)
        std::stable_sort(picked.begin(), picked.end(),
                         [&](int32_t x, int32_t y) { return seen[static_cast<size_t>(x)].table < seen[static_cast<size_t>(y)].table; });
      const auto some = attend(queries, seen, picked);
      for (int32_t i = 0; i < count; ++i)
        expect_row(together, picked[static_cast<size_t>(i)], some, i, by_table ? "by table" : "in any order");
      picked = values_.order(rows);
      picked.resize(static_cast<size_t>(count));
    }
  }
}

// A row of few keys beside rows that go on for tiles of them: first alone, with NaN behind its keys.
TEST_P(CudaTiledAttention, WaitsForItsNeighbours) {
  for (const int32_t length : {1, 64, 100}) {
    std::vector<Seen> seen(66, {0, length});
    const auto queries = values_.normal(66 * width());
    const auto keys = keys_, cached = cached_;
    forget({length, 1, 1});
    const auto alone = attend(queries, seen, all_of(seen));
    EXPECT_TRUE(std::none_of(alone.begin(), alone.end(), [](float value) { return std::isnan(value); }))
        << "something behind " << length << " was read";
    keys_ = keys, cached_ = cached;
    for (size_t row = 1; row < seen.size(); row += 2) seen[row].length = 210;
    const auto beside = attend(queries, seen, all_of(seen));
    for (int64_t row = 0; row < 66; row += 2) expect_row(alone, row, beside, row, "of " + std::to_string(length) + " keys");
  }
}

// Keys, values and queries that the kernels in front of it write: the same bits as when they were there before, with launches that begin
// before their predecessor's end. In emulation what those write is not there until somebody waits.
TEST_P(CudaTiledAttention, WaitsForItsPredecessor) {
  const Heads& s = GetParam();
  const int64_t rows = 20, kv_width = 2 * s.kv_heads * s.head_dim;
  const auto key_values = values_.normal(rows * kv_width), queries = values_.normal(rows * width()),
             zeros = std::vector<float>(queries.size());
  std::vector<int32_t> slots;
  for (int64_t p = 0; p < rows; ++p)
    slots.push_back(static_cast<int32_t>(tables_[static_cast<size_t>(p / s.block_tokens)] * s.block_tokens + p % s.block_tokens));
  const auto run = [&](bool early) {
    const auto backend =
        make_backend({.name = "cuda", .dtype = "bfloat16", .graphs = false, .tiled_attention = true, .early_launches = early});
    Backend& b = *backend;
    const Tensor k = put(b, b.kv_dtype(), cache_, keys_), v = put(b, b.kv_dtype(), cache_, cached_),
                 out = b.make(DType::kF32, {rows, width()});
    const Tensor q = f32(b, {rows, width()}, queries), none = f32(b, {rows, width()}, zeros), sum = b.make(DType::kF32, {rows, width()});
    const Tensor stored = f32(b, {rows, kv_width}, key_values), at = put(b, slots), tables = put(b, {kTables, max_blocks_}, tables_);
    const Tensor table_rows = put(b, std::vector<int32_t>(rows, 0)),
                 lengths = put(b, std::vector<int32_t>(rows, static_cast<int32_t>(rows)));
#if ARDIFF_CUDA_EMULATION
    emulation::watch_dependencies(true);
#endif
    b.store_kv(stored, at, {k, v});
    b.paged_attention(q, {k, v}, {tables, table_rows, lengths, true}, out);
    b.add(out, none, sum);
    b.paged_attention(sum, {k, v}, {tables, table_rows, lengths, true}, out);
    const auto result = bytes(b, out);
#if ARDIFF_CUDA_EMULATION
    emulation::watch_dependencies(false);
#endif
    return result;
  };
  EXPECT_EQ(run(true), run(false));
}

TEST(CudaTiledAttentions, AreSwitchedByTheEnvironment) {
  if (!made_on_cuda([] { make_backend({"cuda", "bfloat16", 0}); })) return;
  const auto are_on = [](const char* value) {
    const Environment set("ARDIFF_CUDA_TILED", value);
    return make_backend({"cuda", "bfloat16", 0})->info().libraries.find("tiled attention") != std::string::npos;
  };
  EXPECT_TRUE(are_on("1"));
  EXPECT_FALSE(are_on("0"));
  EXPECT_TRUE(are_on(nullptr)) << "on unless it is refused";
  expect_error([&] { are_on("yes"); }, ErrorCode::kInvalidArgument, "ARDIFF_CUDA_TILED");
}

}  // namespace
}  // namespace ardiff::test
