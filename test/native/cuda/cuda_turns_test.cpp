// Rows that take turns because their partial sums are more than the cuda backend keeps at once: the same bytes as all at once.
#include "backend/cuda/make_cuda_backend.h"
#include "support/cuda_device.h"
#include "support/op_fixture.h"

namespace ardiff::test {
namespace {

class CudaTurns : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    (void)made_on_cuda([this] { whole_ = make_cuda_backend({"cuda", GetParam(), 0}); });
  }
  std::unique_ptr<Backend> in_turns(const CudaLimits& limits) const { return make_cuda_backend({"cuda", GetParam(), 0}, limits); }

  std::unique_ptr<Backend> whole_;
  Values values_;
};

INSTANTIATE_TEST_SUITE_P(Dtypes, CudaTurns, testing::Values("float32", "bfloat16"), [](const auto& of) { return std::string(of.param); });

// Tiles of 128 rows: turns of one tile and, at twice that, of two, the last of which has fewer rows. Every epilogue reads or writes
// rows of its own; a gate by rows does not move along with them.
TEST_P(CudaTurns, Products) {
  if (GetParam() == std::string("float32")) GTEST_SKIP() << "products in float32 have no partial sums";
  const int64_t rows = 300, in = 3136, out = 48;  // deeper than what a block sums by itself
  const auto weight = values_.normal(in * out, 0.02f), bias = values_.normal(out), x = values_.normal(rows * in), before = values_.normal(rows * out);
  const auto gate = values_.normal(rows * out);
  const std::vector<int32_t> gate_rows = values_.below(rows, 7);
  const LinearPart part{host(weight, {out, in}), host(bias, {out})};
  const auto run = [&](Backend& backend, Epilogue::Kind kind, bool by_rows) {
    const auto layer = backend.prepare_linear({&part, 1});
    const Tensor y = f32(backend, {rows, out}, before), gates = f32(backend, {rows, out}, gate), index = put(backend, gate_rows);
    Epilogue epilogue{kind, {}};
    if (kind == Epilogue::Kind::kGatedAdd) epilogue = Epilogue::gated_add(by_rows ? gates.view.row_slice(0, 7) : gates.view, by_rows ? index.view : TensorView());
    backend.linear(act(backend, {rows, in}, x), *layer, y, epilogue);
    return bytes(backend, y);
  };
  const int64_t tile = int64_t{8} * 128 * out * 4;
  for (const auto& [kind, by_rows] : {std::pair{Epilogue::Kind::kStore, false}, {Epilogue::Kind::kGelu, false}, {Epilogue::Kind::kAdd, false},
                                      {Epilogue::Kind::kGatedAdd, false}, {Epilogue::Kind::kGatedAdd, true}}) {
    const auto expected = run(*whole_, kind, by_rows);
    for (const int64_t limit : {int64_t{1}, tile, 2 * tile, 3 * tile}) {
      const auto backend = in_turns({.product_sums = limit});
      EXPECT_EQ(run(*backend, kind, by_rows), expected) << "epilogue " << static_cast<int>(kind) << ", " << limit << " bytes at once";
    }
  }
}

// Contexts of more than one group of keys, of less, and in between; one row or some of them a turn.
TEST_P(CudaTurns, Attention) {
  const int64_t rows = 7, heads = 4, kv_heads = 2, width = 16, blocks = 24, block_tokens = 16;
  const auto keys = values_.normal(blocks * kv_heads * block_tokens * width), cached = values_.normal(blocks * kv_heads * block_tokens * width);
  const auto queries = values_.normal(rows * heads * width);
  const std::vector<int32_t> table = values_.order(static_cast<int32_t>(blocks)), lengths = {1, 128, 129, 300, 384, 57, 256};
  const auto run = [&](Backend& backend) {
    const Shape cache{blocks, kv_heads, block_tokens, width};
    const Tensor k = put(backend, backend.kv_dtype(), cache, keys), v = put(backend, backend.kv_dtype(), cache, cached);
    const Tensor tables = put(backend, Shape{1, blocks}, table), table_rows = put(backend, std::vector<int32_t>(static_cast<size_t>(rows), 0));
    const Tensor length = put(backend, lengths), out = backend.make(backend.activation_dtype(), {rows, heads * width});
    backend.paged_attention(f32(backend, {rows, heads * width}, queries), {k, v}, {tables, table_rows, length}, out);
    return bytes(backend, out);
  };
  const auto expected = run(*whole_);
  const int64_t row = heads * 3 * (width * 4 + 8);
  for (const int64_t limit : {int64_t{1}, row, 2 * row, 5 * row}) EXPECT_EQ(run(*in_turns({.attention_sums = limit})), expected) << limit << " bytes at once";
}

}  // namespace
}  // namespace ardiff::test
