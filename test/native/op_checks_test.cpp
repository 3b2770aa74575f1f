// Wrong shapes, dtypes and strides are typed errors that say what was expected, on every backend.
#include "support/op_fixture.h"

namespace ardiff::test {
namespace {

class OpChecks : public OpTest {
 protected:
  template <typename Call>
  void expect_refused(ErrorCode code, const std::string& part_of_message, Call&& call) {
    try {
      call();
      ADD_FAILURE() << "expected an error with: " << part_of_message;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      EXPECT_NE(std::string(error.what()).find(part_of_message), std::string::npos) << error.what();
    }
  }
  Tensor zeros(const Shape& shape, DType dtype = DType::kF32) { return backend_->make(dtype, shape); }
};

TEST_P(OpChecks, WrongArguments) {
  Backend& b = *backend_;
  const ErrorCode internal = ErrorCode::kInternal;
  const std::vector<float> weight(6 * 4, 0.0f);
  const LinearPart part{host(weight, {6, 4}), {}};
  const auto w = b.prepare_linear({&part, 1});
  expect_refused(internal, "expected x [*, 4], got [2, 5]", [&] { b.linear(zeros({2, 5}), *w, zeros({2, 6}), {}); });
  expect_refused(internal, "expected y [2, 6], got [3, 6]", [&] { b.linear(zeros({2, 4}), *w, zeros({3, 6}), {}); });
  expect_refused(internal, "y of type F32, got BF16", [&] { b.linear(zeros({2, 4}), *w, zeros({2, 6}, DType::kBF16), Epilogue::add()); });
  expect_refused(internal, "expected gate [2, 6], got []", [&] { b.linear(zeros({2, 4}), *w, zeros({2, 6}), Epilogue::gated_add({})); });
  expect_refused(internal, "x of type F32 or BF16, got I32", [&] { b.linear(zeros({2, 4}, DType::kI32), *w, zeros({2, 6}), {}); });
  expect_refused(internal, "expected w [8], got [9]", [&] { b.rms_norm(zeros({2, 8}), zeros({9}), 1e-5f, zeros({2, 8})); });
  expect_refused(internal, "expected b [8], got []", [&] { b.layer_norm(zeros({2, 8}), zeros({8}), {}, 1e-5f, zeros({2, 8})); });
  expect_refused(internal, "expected gate_up [2, 16], got [2, 8]", [&] { b.silu_mul(zeros({2, 8}), zeros({2, 8})); });
  expect_refused(internal, "row stride 3 of x is below", [&] {
    TensorView narrow = zeros({2, 8});
    narrow.row_stride = 3;
    b.rms_norm(narrow, zeros({8}), 1e-5f, zeros({2, 8}));
  });
  expect_refused(internal, "x has no data", [&] { b.rms_norm(TensorView(nullptr, DType::kF32, {2, 8}), zeros({8}), 1e-5f, zeros({2, 8})); });
  const KvLayer kv{zeros({4, 2, 16, 8}, b.kv_dtype()), zeros({4, 2, 16, 8}, b.kv_dtype())};
  expect_refused(internal, "expected qkv [3, 64]", [&] {
    b.rope_store(zeros({3, 60}), zeros({3, 4}), zeros({3, 4}), zeros({3}, DType::kI32), zeros({3, 32}), kv);
  });
  const PagedContext context{zeros({2, 3}, DType::kI32), zeros({2}, DType::kI32), zeros({2}, DType::kI32)};
  expect_refused(internal, "paged_attention: expected query heads in whole groups, got 24", [&] { b.paged_attention(zeros({2, 24}), kv, context, zeros({2, 24})); });
  expect_refused(internal, "attention_entropy: expected table_rows [3], got [2]", [&] {
    b.attention_entropy(zeros({3, 32}), kv, context, zeros({3}, DType::kI32), zeros({3}));
  });
  expect_refused(internal, "expected first_keys [2], got [1]", [&] { b.attention_entropy(zeros({2, 32}), kv, context, zeros({1}, DType::kI32), zeros({2})); });
  expect_refused(internal, "attention_entropy: expected out [2], got [2, 32]", [&] {
    b.attention_entropy(zeros({2, 32}), kv, context, zeros({2}, DType::kI32), zeros({2, 32}));
  });
  expect_refused(internal, "a block of the cache, got 4", [&] { b.copy_blocks(kv, std::vector<int32_t>{0, 4}); });
  expect_refused(internal, "pairs of blocks, got 3", [&] { b.copy_blocks(kv, std::vector<int32_t>{0, 1, 2}); });
  expect_refused(internal, "channels in whole groups, got 20", [&] { b.group_norm(zeros({1, 2, 2, 20}), zeros({20}), zeros({20}), 32, 1e-6f, true, zeros({1, 2, 2, 20})); });
  const std::vector<float> taps(static_cast<size_t>(5 * 5 * 9)), none(5);
  const auto conv = [&](ConvPadding padding) { return b.prepare_conv2d(host(taps, {5, 5, 3, 3}), host(none, {5}), padding); };
  const auto same = conv(ConvPadding::kSame), down = conv(ConvPadding::kDownsample);
  expect_refused(internal, "expected y [1, 4, 6, 5]", [&] { b.upsample_conv2d(zeros({1, 2, 3, 5}), *same, zeros({1, 4, 4, 5})); });
  expect_refused(internal, "a convolution that keeps the size", [&] { b.upsample_conv2d(zeros({1, 2, 3, 5}), *down, zeros({1, 4, 6, 5})); });
  expect_refused(internal, "rectangular token grid", [&] { b.unpatchify(zeros({5, 16}), 2, 1.0f, 0.0f, zeros({1, 4, 4, 4})); });
  expect_refused(internal, "an even width, got 3", [&] { b.timestep_features(zeros({1}), zeros({1, 3})); });
  const DraftedPaths paths{zeros({6, 4}), zeros({6, 4}), zeros({6, 4}), zeros({6, 4}), {}};
  const DraftedSequences drafted{zeros({2, DraftedSequences::kWords}, DType::kI32), zeros({2}, DType::kF64), zeros({3}, DType::kI32), zeros({5, 4})};
  const Verdicts verdicts{zeros({2, 2}, DType::kI32), zeros({3}, DType::kF64), zeros({7, 4})};
  const auto refuses = [&](const std::string& what, const auto& change) {
    DraftedPaths p = paths;
    DraftedSequences s = drafted;
    Verdicts v = verdicts;
    change(p, s, v);
    expect_refused(internal, "verify_drafts: " + what, [&] { b.verify_drafts(p, s, v); });
  };
  refuses("expected draft_velocity [6, 4], got [5, 4]", [&](auto& p, auto&, auto&) { p.draft_velocity = zeros({5, 4}); });
  refuses("expected noise [6, 4], got [6, 3]", [&](auto& p, auto&, auto&) { p.noise = zeros({6, 3}); });
  refuses("states must be contiguous", [&](auto& p, auto&, auto&) { p.states = zeros({6, 8}).view.col_slice(0, 4); });
  refuses("expected words [*, 11], got [2, 10]", [&](auto&, auto& s, auto&) { s.words = zeros({2, 10}, DType::kI32); });
  refuses("expected tolerance of type F64, got F32", [&](auto&, auto& s, auto&) { s.tolerance = zeros({2}); });
  refuses("expected steps [*, 4], got [5, 3]", [&](auto&, auto& s, auto&) { s.steps = zeros({5, 3}); });
  refuses("expected outcome [2, 2], got [3, 2]", [&](auto&, auto&, auto& v) { v.outcome = zeros({3, 2}, DType::kI32); });
  refuses("expected statistic [3], got [2]", [&](auto&, auto&, auto& v) { v.statistic = zeros({2}, DType::kF64); });
  refuses("expected pending [*, 4], got [7, 5]", [&](auto&, auto&, auto& v) { v.pending = zeros({7, 5}); });
  expect_refused(internal, "expected y [3, 3, 2]", [&] { b.convert(zeros({3, 3, 2}), zeros({3, 2, 3})); });
}

TEST_P(OpChecks, WeightsThatDoNotFit) {
  Backend& b = *backend_;
  const std::vector<float> zeros(1000, 0.0f);
  const std::vector<LinearPart> mixed = {{host(zeros, {6, 4}), {}}, {host(zeros, {6, 5}), {}}};
  expect_refused(ErrorCode::kInvalidModel, "expected 4 columns", [&] { b.prepare_linear(mixed); });
  const LinearPart long_bias{host(zeros, {6, 4}), host(zeros, {5})};
  expect_refused(ErrorCode::kInvalidModel, "expected 6 floats", [&] { b.prepare_linear({&long_bias, 1}); });
  expect_refused(ErrorCode::kInvalidModel, "k 1 or 3", [&] { b.prepare_conv2d(host(zeros, {4, 4, 5, 5}), host(zeros, {4}), ConvPadding::kSame); });
  expect_refused(ErrorCode::kInvalidModel, "3x3 kernel", [&] { b.prepare_conv2d(host(zeros, {4, 4, 1, 1}), host(zeros, {4}), ConvPadding::kDownsample); });
}

TEST_P(OpChecks, EmptyBatchesAreNothingToDo) {
  Backend& b = *backend_;
  const std::vector<float> weight(6 * 4, 0.0f);
  const LinearPart part{host(weight, {6, 4}), {}};
  b.linear(zeros({0, 4}), *b.prepare_linear({&part, 1}), zeros({0, 6}), Epilogue::silu());
  b.rms_norm(zeros({0, 8}), zeros({8}), 1e-5f, zeros({0, 8}));
  b.gather_rows(zeros({3, 8}), zeros({0}, DType::kI32), zeros({0, 8}));
}

TEST_P(OpChecks, TooMuchMemoryIsATypedError) {
  expect_refused(ErrorCode::kOutOfMemory, "out of memory", [&] { backend_->allocate(size_t{1} << 60); });
}

TEST(MakeBackend, RefusesWhatItCannotDo) {
  for (const BackendOptions& options : {BackendOptions{"tpu", "auto", 0}, BackendOptions{"reference", "bfloat16", 0}, BackendOptions{"reference", "int8", 0},
                                        BackendOptions{"cpu", "int8", 0}, BackendOptions{"cpu", "auto", -1},
                                        BackendOptions{"cuda", "int8", 0}, BackendOptions{"cuda:", "auto", 0}, BackendOptions{"cuda:-1", "auto", 0},
                                        BackendOptions{"cuda:1x", "auto", 0}, BackendOptions{"cuda:9999", "auto", 0}, BackendOptions{"cudax", "auto", 0}}) {
    EXPECT_THROW(make_backend(options), Error) << options.name << " " << options.dtype;
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, OpChecks, testing::ValuesIn(variants()), variant_name);

}  // namespace
}  // namespace ardiff::test
