// Ops in a row (ops.h): the bits of the ops they name, on every backend, whichever way it takes for the number of rows.
#include <span>

#include "support/op_fixture.h"

namespace ardiff::test {
namespace {

class ComposedOps : public OpTest {
 protected:
  // Around every bound: eight rows of a tile, those of the kernel for few.
  static constexpr int64_t kRows[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33};
  static constexpr int64_t kVeryFewRows[] = {1, 2};
  // More tiles of features than a device has multiprocessors: for very few rows alone, which take their time in emulation.
  static constexpr int64_t kManyFeatures = 257 * 16;
  static std::span<const int64_t> rows_for(int64_t features) { return features == kManyFeatures ? std::span<const int64_t>(kVeryFewRows) : kRows; }

  // With columns beside those that are normed: 6 more make rows begin anywhere, 8 at whole 16 bytes.
  static std::vector<std::pair<int64_t, int64_t>> rows_with_others_beside(int64_t features) {
    std::vector<std::pair<int64_t, int64_t>> out;
    for (const int64_t rows : rows_for(features)) out.emplace_back(rows, 6);
    for (const int64_t rows : kVeryFewRows) out.emplace_back(rows, 8);
    return out;
  }

  std::unique_ptr<Linear> layer(int64_t in, int64_t out) {
    const auto weight = values_.normal(in * out, 0.1f), bias = values_.normal(out);
    const LinearPart part{host(weight, {out, in}), host(bias, {out})};
    return backend_->prepare_linear({&part, 1});
  }
  Tensor random(const Shape& shape, float scale = 1.0f) { return f32(*backend_, shape, values_.normal(shape.size(), scale)); }
  Tensor activations(const Shape& shape) { return backend_->make(backend_->activation_dtype(), shape); }
  Tensor results(const Shape& shape) { return backend_->make(DType::kF32, shape); }
  KvLayer cache(const Shape& shape) {
    storage_.push_back(backend_->make(backend_->kv_dtype(), shape));
    storage_.push_back(backend_->make(backend_->kv_dtype(), shape));
    return {storage_[storage_.size() - 2], storage_.back()};
  }
  void expect_equal(const TensorView& one, const TensorView& other, const std::string& what) {
    ASSERT_EQ(bytes(*backend_, one), bytes(*backend_, other)) << what;
  }

  std::vector<Tensor> storage_;
};

INSTANTIATE_TEST_SUITE_P(Backends, ComposedOps, testing::ValuesIn(variants()), variant_name);

std::string named(const char* op, int64_t rows, int64_t in, int64_t out) {
  return std::string(op) + " of " + std::to_string(rows) + " rows, " + std::to_string(in) + " to " + std::to_string(out);
}

// Widths of the demo's, the 14B's and its flow head's, rows at whole 16 bytes and others, and depths that are padded.
TEST_P(ComposedOps, NormLinear) {
  const std::pair<int64_t, int64_t> shapes[] = {{64, 96}, {96, 33}, {250, 80}, {1536, 48}, {5120, 16}, {32, kManyFeatures}};
  for (const auto& [in, out] : shapes) {
    const auto w = layer(in, out);
    const Tensor weight = random({in}), bias = random({in});
    for (const auto& [rows, beside] : rows_with_others_beside(out)) {
      const Tensor all = random({rows, in + beside}, 3.0f), modulation = random({rows, 3 * in}), table = random({5, 2 * in});
      const TensorView x = all.view.col_slice(4, in + 4), shift = modulation.view.col_slice(0, in), scale = modulation.view.col_slice(in, 2 * in);
      const Tensor table_rows = put(*backend_, values_.below(rows, 5));
      const auto expect_same = [&](const char* what, const RowNorm& norm, auto&& apply, const Epilogue& epilogue, DType dtype) {
        const Tensor normed = activations({rows, in}), between = activations({rows, in});
        const Tensor before = put(*backend_, dtype, {rows, out}, values_.normal(rows * out));
        const Tensor y = backend_->make(dtype, {rows, out}), expected = backend_->make(dtype, {rows, out});
        backend_->convert(before, y), backend_->convert(before, expected);
        apply(normed.view);
        backend_->linear(normed, *w, expected, epilogue);
        backend_->norm_linear(x, norm, between, *w, y, epilogue);
        expect_equal(y, expected, named(what, rows, in, out));
      };
      expect_same("rms", RowNorm::rms(weight, 1e-6f), [&](const TensorView& to) { backend_->rms_norm(x, weight, 1e-6f, to); }, Epilogue::add(), DType::kF32);
      expect_same("layer", RowNorm::layer(weight, bias, 1e-6f), [&](const TensorView& to) { backend_->layer_norm(x, weight, bias, 1e-6f, to); }, Epilogue::gelu(),
                  backend_->activation_dtype());
      expect_same("layer without weights", RowNorm::layer({}, {}, 1e-5f), [&](const TensorView& to) { backend_->layer_norm(x, {}, {}, 1e-5f, to); },
                  Epilogue::store(), DType::kF32);
      expect_same("modulated", RowNorm::modulated(weight, bias, 1e-6f, shift, scale, {}),
                  [&](const TensorView& to) { backend_->ada_layer_norm(x, weight, bias, 1e-6f, shift, scale, {}, to); }, Epilogue::silu(),
                  backend_->activation_dtype());
      const Tensor gate = random({rows, out});
      const TensorView t_shift = table.view.col_slice(0, in), t_scale = table.view.col_slice(in, 2 * in);
      expect_same("modulated by table", RowNorm::modulated({}, {}, 1e-6f, t_shift, t_scale, table_rows),
                  [&](const TensorView& to) { backend_->ada_layer_norm(x, {}, {}, 1e-6f, t_shift, t_scale, table_rows, to); }, Epilogue::gated_add(gate), DType::kF32);
    }
  }
}

// Heads of 16 numbers are too small for pairs of tiles; of 96, halves of 48, are three.
TEST_P(ComposedOps, NormLinearRopeStore) {
  struct Case {
    int64_t in, heads, kv_heads, head_dim;
  };
  for (const auto& [in, heads, kv_heads, head_dim] : {Case{64, 4, 2, 16}, {64, 2, 1, 32}, {250, 3, 1, 64}, {96, 2, 2, 96}, {1536, 1, 1, 128}, {5120, 1, 1, 64}}) {
    const int64_t block_tokens = 4, blocks = 10, columns = (heads + 2 * kv_heads) * head_dim;
    const auto w = layer(in, columns);
    const Tensor weight = random({in});
    for (const int64_t rows : kRows) {
      const Tensor x = random({rows, in}, 2.0f), cos = results({rows, head_dim / 2}), sin = results({rows, head_dim / 2});
      backend_->rope_angles(put(*backend_, values_.below(rows, 5000)), 1e4f, cos, sin);
      std::vector<int32_t> slots = values_.order(static_cast<int32_t>(blocks * block_tokens));
      slots.resize(static_cast<size_t>(rows));
      const Tensor to = put(*backend_, slots);
      const Shape shape{blocks, kv_heads, block_tokens, head_dim};
      const KvLayer kv = cache(shape), expected_kv = cache(shape);
      const Tensor normed = activations({rows, in}), between = activations({rows, in}), qkv = results({rows, columns}), between_qkv = results({rows, columns});
      const Tensor q = results({rows, heads * head_dim}), expected_q = results({rows, heads * head_dim});
      backend_->rms_norm(x, weight, 1e-6f, normed);
      backend_->linear(normed, *w, qkv, Epilogue::store());
      backend_->rope_store(qkv, cos, sin, to, expected_q, expected_kv);
      backend_->norm_linear_rope_store(x, RowNorm::rms(weight, 1e-6f), between, *w, between_qkv, cos, sin, to, q, kv);
      const std::string what = named("rope store", rows, in, columns);
      expect_equal(q, expected_q, what + ": queries");
      expect_equal(kv.keys, expected_kv.keys, what + ": keys");
      expect_equal(kv.values, expected_kv.values, what + ": values");
      storage_.clear();
    }
  }
}

TEST_P(ComposedOps, NormLinearSiluMul) {
  const std::pair<int64_t, int64_t> shapes[] = {{64, 48}, {96, 40}, {250, 16}, {1536, 32}, {5120, 16}, {32, kManyFeatures}};
  for (const auto& [in, inner] : shapes) {
    const auto w = layer(in, 2 * inner);
    const Tensor weight = random({in});
    for (const int64_t rows : rows_for(inner)) {
      const Tensor x = random({rows, in}, 2.0f), normed = activations({rows, in}), between = activations({rows, in});
      const Tensor gate_up = results({rows, 2 * inner}), between_gate_up = results({rows, 2 * inner}), y = activations({rows, inner}), expected = activations({rows, inner});
      backend_->rms_norm(x, weight, 1e-6f, normed);
      backend_->linear(normed, *w, gate_up, Epilogue::store());
      backend_->silu_mul(gate_up, expected);
      backend_->norm_linear_silu_mul(x, RowNorm::rms(weight, 1e-6f), between, *w, between_gate_up, y);
      expect_equal(y, expected, named("silu mul", rows, in, inner));
    }
  }
}

TEST_P(ComposedOps, LinearGather) {
  for (const int64_t in : {16, 64, 50}) {
    const int64_t out = 72;
    const auto w = layer(in, out);
    for (const int64_t rows : kRows) {
      const int64_t states = (rows + 1) / 2;
      const Tensor x = random({states, in}), index = put(*backend_, values_.below(rows, static_cast<int32_t>(states)));
      const Tensor projected = results({states, out}), between = results({states, out}), y = results({rows, out}), expected = results({rows, out});
      backend_->linear(x, *w, projected, Epilogue::store());
      backend_->gather_rows(projected, index, expected);
      backend_->linear_gather(x, *w, between, index, y);
      expect_equal(y, expected, named("gather", rows, in, out));
    }
  }
}

}  // namespace
}  // namespace ardiff::test
