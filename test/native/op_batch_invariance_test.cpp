// The promise behind "same bytes in every batch": a row's result does not depend on how many rows there are,
// where it stands among them, what its neighbours hold, or where its cached blocks lie. Compared bit for bit.
#include <algorithm>

#include "support/op_fixture.h"

namespace ardiff::test {
namespace {

class BatchInvariance : public OpTest {
 protected:
  using Rows = std::vector<std::vector<std::byte>>;

  Rows rows_of(const Tensor& tensor) {
    const auto raw = bytes(*backend_, tensor);
    const auto count = static_cast<size_t>(tensor.view.rows());
    Rows out;
    for (size_t m = 0; m < count; ++m) {
      const auto begin = raw.begin() + static_cast<std::ptrdiff_t>(m * raw.size() / count);
      out.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(raw.size() / count));
    }
    return out;
  }

  // `op` maps the rows picked from `total` to a tensor with one row each. Runs all rows at once, then other
  // selections and orders, and expects the same bits for the same row.
  template <typename Op>
  void expect_row_bits(int32_t total, const std::vector<int32_t>& batch_sizes, const std::string& what, Op&& op) {
    const std::vector<int32_t> everyone = values_.order(total);
    const Rows together = rows_of(op(everyone));
    for (int32_t size : batch_sizes) {
      std::vector<int32_t> picked = values_.order(total);
      picked.resize(static_cast<size_t>(size));
      const Rows apart = rows_of(op(picked));
      for (size_t i = 0; i < picked.size(); ++i) {
        const auto at = std::find(everyone.begin(), everyone.end(), picked[i]) - everyone.begin();
        ASSERT_EQ(apart[i], together[static_cast<size_t>(at)]) << what << ": row " << i << " of " << size << " differs from the same row among " << total;
      }
    }
  }

  // The picked rows of a host matrix.
  static std::vector<float> pick(const std::vector<float>& matrix, int64_t width, const std::vector<int32_t>& picked) {
    std::vector<float> out;
    for (int32_t m : picked) out.insert(out.end(), matrix.begin() + m * width, matrix.begin() + (m + 1) * width);
    return out;
  }
};

TEST_P(BatchInvariance, Linear) {
  // The shapes of the demo model, of a 100M backbone, and awkward ones; plus every row count around tile sizes.
  const std::pair<int64_t, int64_t> shapes[] = {{64, 256}, {256, 768}, {256, 256}, {256, 1408}, {704, 256}, {384, 384}, {384, 1152},
                                                {384, 64}, {48, 80},   {65, 33},   {768, 768},  {640, 1280}, {1280, 640}, {4224, 128}, {5120, 64}};
  for (const auto& [in, out] : shapes) {
    const auto weight = values_.normal(in * out, 0.1f), bias = values_.normal(out);
    const LinearPart part{host(weight, {out, in}), host(bias, {out})};
    const auto w = backend_->prepare_linear({&part, 1});
    const bool large = in * out > 100000;
    const int32_t total = large ? 26 : 100;
    const auto x = values_.normal(total * in);
    std::vector<int32_t> sizes = {1, 2, 3, 4, 7, 12, 13, 25};
    if (!large) sizes.insert(sizes.end(), {5, 11, 16, 17, 23, 32, 48, 64, 95, 97});
    expect_row_bits(total, sizes, std::to_string(in) + " to " + std::to_string(out), [&](const std::vector<int32_t>& picked) {
      const auto rows = static_cast<int64_t>(picked.size());
      const Tensor y = backend_->make(DType::kF32, {rows, out});
      backend_->linear(act(*backend_, {rows, in}, pick(x, in, picked)), *w, y, Epilogue::silu());
      return y;
    });
  }
}

TEST_P(BatchInvariance, LinearOfManyRows) {
  const int64_t in = 384, out = 384;
  const auto weight = values_.normal(in * out, 0.1f);
  const LinearPart part{host(weight, {out, in}), {}};
  const auto w = backend_->prepare_linear({&part, 1});
  const auto x = values_.normal(512 * in);
  expect_row_bits(512, {1, 2, 96, 128, 193, 256, 511}, "512 rows", [&](const std::vector<int32_t>& picked) {
    const auto rows = static_cast<int64_t>(picked.size());
    const Tensor y = backend_->make(backend_->activation_dtype(), {rows, out});
    backend_->linear(act(*backend_, {rows, in}, pick(x, in, picked)), *w, y, Epilogue::store());
    return y;
  });
}

TEST_P(BatchInvariance, NormsAndActivations) {
  const int64_t width = 250;
  const int32_t total = 200;
  const auto x = values_.normal(total * width), modulation = values_.normal(total * 2 * width), w = values_.normal(width);
  const std::vector<int32_t> sizes = {1, 2, 3, 50, 199};
  auto check_op = [&](const char* what, auto&& run) {
    expect_row_bits(total, sizes, what, [&](const std::vector<int32_t>& picked) {
      const auto rows = static_cast<int64_t>(picked.size());
      const Tensor y = backend_->make(backend_->activation_dtype(), {rows, width});
      run(picked, rows, f32(*backend_, {rows, width}, pick(x, width, picked)), y);
      return y;
    });
  };
  const Tensor weights = f32(*backend_, {width}, w);
  check_op("rms_norm", [&](const auto&, int64_t, const Tensor& rows, const Tensor& y) { backend_->rms_norm(rows, weights, 1e-5f, y); });
  check_op("layer_norm", [&](const auto&, int64_t, const Tensor& rows, const Tensor& y) { backend_->layer_norm(rows, weights, weights, 1e-6f, y); });
  check_op("ada_layer_norm", [&](const auto& picked, int64_t count, const Tensor& rows, const Tensor& y) {
    const Tensor m = f32(*backend_, {count, 2 * width}, pick(modulation, 2 * width, picked));
    backend_->ada_layer_norm(rows, {}, {}, 1e-6f, m.view.col_slice(0, width), m.view.col_slice(width, 2 * width), {}, y);
  });
  check_op("silu_mul", [&](const auto& picked, int64_t count, const Tensor&, const Tensor& y) {
    backend_->silu_mul(f32(*backend_, {count, 2 * width}, pick(modulation, 2 * width, picked)), y);
  });
  const Tensor all = f32(*backend_, {total, width}, x);
  check_op("silu_add", [&](const auto& picked, int64_t count, const Tensor& rows, const Tensor& y) {
    std::vector<int32_t> own(static_cast<size_t>(count));
    for (size_t i = 0; i < own.size(); ++i) own[i] = static_cast<int32_t>(i);
    backend_->silu_add(all, put(*backend_, picked), rows, put(*backend_, own), y);
  });
}

// Widths on both sides of what a thread keeps of a row in every way to norm it, and rows enough for each.
TEST_P(BatchInvariance, NormsOfManyRows) {
  const int32_t total = 600;
  for (const int64_t width : {36, 1024, 1280, 2048, 2056, 5120, 6152}) {
    const bool wide = width > 2048;  // a block per row whatever the rows
    const int32_t rows_together = wide ? 6 : total;
    const auto x = values_.normal(rows_together * width, 2.0f), modulation = values_.normal(rows_together * 2 * width);
    const Tensor w = f32(*backend_, {width}, values_.normal(width)), b = f32(*backend_, {width}, values_.normal(width));
    const auto check_op = [&](const char* op, auto&& run) {
      const std::vector<int32_t> sizes = wide ? std::vector<int32_t>{1, 3} : std::vector<int32_t>{1, 7, 511};
      expect_row_bits(rows_together, sizes, op + (" of " + std::to_string(width)), [&](const std::vector<int32_t>& picked) {
        const auto rows = static_cast<int64_t>(picked.size());
        const Tensor y = backend_->make(backend_->activation_dtype(), {rows, width});
        run(f32(*backend_, {rows, width}, pick(x, width, picked)), f32(*backend_, {rows, 2 * width}, pick(modulation, 2 * width, picked)), y);
        return y;
      });
    };
    check_op("rms_norm", [&](const Tensor& rows, const Tensor&, const Tensor& y) { backend_->rms_norm(rows, w, 1e-5f, y); });
    check_op("ada_layer_norm", [&](const Tensor& rows, const Tensor& m, const Tensor& y) {
      backend_->ada_layer_norm(rows, w, b, 1e-6f, m.view.col_slice(0, width), m.view.col_slice(width, 2 * width), {}, y);
    });
    // A row at whole 16 bytes, and one that begins anywhere.
    const Tensor y = backend_->make(backend_->activation_dtype(), {1, width}), apart = backend_->make(backend_->activation_dtype(), {1, width});
    std::vector<float> shifted(static_cast<size_t>(width + 1));
    std::copy(x.begin(), x.begin() + width, shifted.begin() + 1);
    backend_->layer_norm(f32(*backend_, {1, width}, pick(x, width, {0})), w, b, 1e-6f, y);
    backend_->layer_norm(f32(*backend_, {1, width + 1}, shifted).view.col_slice(1, width + 1), w, b, 1e-6f, apart);
    EXPECT_EQ(bytes(*backend_, y), bytes(*backend_, apart)) << width;
  }
}

TEST_P(BatchInvariance, PhiloxAndFlowStep) {
  const int64_t width = 66;
  const int32_t total = 150;
  std::vector<int32_t> keys;
  for (int32_t i = 0; i < total; ++i) keys.insert(keys.end(), {i, 5, i % 7, 63, 0});
  auto keys_of = [&](const std::vector<int32_t>& picked) {
    std::vector<int32_t> out;
    for (int32_t m : picked) out.insert(out.end(), keys.begin() + 5 * m, keys.begin() + 5 * m + 5);
    return put(*backend_, {static_cast<int64_t>(picked.size()), 5}, out);
  };
  expect_row_bits(total, {1, 2, 3, 149}, "philox_normal", [&](const std::vector<int32_t>& picked) {
    const Tensor y = backend_->make(DType::kF32, {static_cast<int64_t>(picked.size()), width});
    backend_->philox_normal(keys_of(picked), y);
    return y;
  });
  const auto v = values_.normal(2 * total * width);
  expect_row_bits(total, {1, 2, 3, 149}, "flow_step", [&](const std::vector<int32_t>& picked) {
    const auto rows = static_cast<int64_t>(picked.size());
    const Tensor state = backend_->make(DType::kF32, {rows, width}), noise = backend_->make(DType::kF32, {rows, width});
    backend_->philox_normal(keys_of(picked), state);
    backend_->philox_normal(keys_of(picked), noise);
    std::vector<int32_t> begins = {0}, own;
    std::vector<float> coefficients;
    for (int32_t i = 0; i < static_cast<int32_t>(rows); ++i) {
      begins.push_back(2 * i + 2);
      own.push_back(i);
      coefficients.insert(coefficients.end(), {.9f, .1f, .3f, 3.0f, 1.0f});
    }
    backend_->flow_step(state, f32(*backend_, {2 * rows, width}, pick(v, 2 * width, picked)), put(*backend_, begins), put(*backend_, own),
                        f32(*backend_, {rows, 5}, coefficients), noise, put(*backend_, own));
    return state;
  });
}

// A cache with `sequences` sequences of `tokens` positions each, blocks placed as `placement` says, everything
// else NaN; rotated and stored a chunk of rows at a time.
struct CachedSequences {
  int64_t heads = 4, kv_heads = 2, head_dim = 40, block_tokens = 16;
  int64_t sequences = 5, tokens = 70;
  bool tiled = false;  // PagedContext::tiled
  int64_t max_blocks() const { return (tokens + block_tokens - 1) / block_tokens; }
  int64_t qkv_width() const { return (heads + 2 * kv_heads) * head_dim; }
};

class CacheInvariance : public BatchInvariance {
 protected:
  bool has_nan(const std::vector<std::byte>& raw) {
    const DType dtype = backend_->activation_dtype();
    const Tensor copy = backend_->make(dtype, {static_cast<int64_t>(raw.size() / dtype_size(dtype))});
    backend_->upload(copy, raw.data());
    const auto numbers = get(*backend_, copy);
    return std::any_of(numbers.begin(), numbers.end(), [](float value) { return std::isnan(value); });
  }

  // Outputs of attention for every (sequence, position), with `chunk` positions of each sequence at a time and
  // all sequences in `batch` together (or each alone).
  std::vector<std::byte> run(const CachedSequences& s, const std::vector<float>& qkv, int64_t chunk, bool batch) {
    const int64_t blocks = s.sequences * s.max_blocks() + 3;
    const std::vector<int32_t> placement = values_.order(static_cast<int32_t>(blocks));
    const std::vector<float> poison(static_cast<size_t>(blocks * s.kv_heads * s.block_tokens * s.head_dim), NAN);
    const Shape cache{blocks, s.kv_heads, s.block_tokens, s.head_dim};
    const Tensor keys = put(*backend_, backend_->kv_dtype(), cache, poison), values = put(*backend_, backend_->kv_dtype(), cache, poison);
    const int64_t out_width = s.heads * s.head_dim;
    const size_t row_bytes = static_cast<size_t>(out_width) * dtype_size(backend_->activation_dtype());
    std::vector<std::byte> result(static_cast<size_t>(s.sequences * s.tokens) * row_bytes);
    const std::vector<int32_t> tables(placement.begin(), placement.begin() + s.sequences * s.max_blocks());
    for (int64_t begin = 0; begin < s.tokens; begin += chunk) {
      const int64_t end = std::min(begin + chunk, s.tokens);
      const int64_t groups = batch ? 1 : s.sequences;
      for (int64_t group = 0; group < groups; ++group) {
        std::vector<int32_t> positions, slots, table_rows, lengths;
        std::vector<float> rows;
        std::vector<size_t> targets;
        for (int64_t sequence = batch ? 0 : group; sequence < (batch ? s.sequences : group + 1); ++sequence) {
          for (int64_t p = begin; p < end; ++p) {
            positions.push_back(static_cast<int32_t>(p));
            const int64_t block = tables[static_cast<size_t>(sequence * s.max_blocks() + p / s.block_tokens)];
            slots.push_back(static_cast<int32_t>(block * s.block_tokens + p % s.block_tokens));
            table_rows.push_back(static_cast<int32_t>(sequence));
            lengths.push_back(static_cast<int32_t>(p + 1));
            const auto at = qkv.begin() + (sequence * s.tokens + p) * s.qkv_width();
            rows.insert(rows.end(), at, at + s.qkv_width());
            targets.push_back(static_cast<size_t>(sequence * s.tokens + p));
          }
        }
        const auto count = static_cast<int64_t>(positions.size());
        Backend& b = *backend_;
        const Tensor cos = b.make(DType::kF32, {count, s.head_dim / 2}), sin = b.make(DType::kF32, {count, s.head_dim / 2});
        const Tensor q = b.make(DType::kF32, {count, out_width}), out = b.make(b.activation_dtype(), {count, out_width});
        b.rope_angles(put(b, positions), 1e6f, cos, sin);
        b.rope_store(f32(b, {count, s.qkv_width()}, rows), cos, sin, put(b, slots), q, {keys, values});
        b.paged_attention(q, {keys, values}, {put(b, {s.sequences, s.max_blocks()}, tables), put(b, table_rows), put(b, lengths), s.tiled}, out);
        const auto raw = bytes(b, out);
        for (size_t i = 0; i < targets.size(); ++i) std::memcpy(result.data() + targets[i] * row_bytes, raw.data() + i * row_bytes, row_bytes);
      }
    }
    return result;
  }
};

TEST_P(CacheInvariance, PrefillEqualsDecodesWhereverBlocksLie) {
  for (int64_t block_tokens : {16, 5, 64}) {
    for (int64_t head_dim : {40, 64}) {
      CachedSequences s;
      s.block_tokens = block_tokens;
      s.head_dim = head_dim;
      const auto qkv = values_.normal(s.sequences * s.tokens * s.qkv_width());
      const auto decodes = run(s, qkv, 1, true);
      ASSERT_FALSE(has_nan(decodes)) << "something outside of the context was read";
      EXPECT_EQ(decodes, run(s, qkv, 1, true)) << "blocks elsewhere";
      EXPECT_EQ(decodes, run(s, qkv, 1, false)) << "every sequence alone";
      EXPECT_EQ(decodes, run(s, qkv, s.tokens, true)) << "prefill of everything";
      EXPECT_EQ(decodes, run(s, qkv, s.tokens, false)) << "prefill one by one";
      EXPECT_EQ(decodes, run(s, qkv, 7, true)) << "chunked prefill";
    }
  }
}

// The same beyond what a backend may take of a context at a time.
TEST_P(CacheInvariance, LongPrefillEqualsDecodes) {
  CachedSequences s;
  s.sequences = 2;
  s.tokens = 270;
  const auto qkv = values_.normal(s.sequences * s.tokens * s.qkv_width());
  const auto decodes = run(s, qkv, 1, true);
  ASSERT_FALSE(has_nan(decodes)) << "something outside of the context was read";
  EXPECT_EQ(decodes, run(s, qkv, s.tokens, true)) << "prefill of everything";
  EXPECT_EQ(decodes, run(s, qkv, 65, false)) << "chunked prefill, one by one";
}

// Every row by itself, as none sees what the next one does.
TEST_P(CacheInvariance, TiledPrefillEqualsDecodes) {
  for (int64_t head_dim : {40, 64}) {
    CachedSequences s;
    s.tiled = true;
    s.head_dim = head_dim;
    s.block_tokens = 5;
    const auto qkv = values_.normal(s.sequences * s.tokens * s.qkv_width());
    const auto decodes = run(s, qkv, 1, true);
    ASSERT_FALSE(has_nan(decodes)) << "something outside of the context was read";
    EXPECT_EQ(decodes, run(s, qkv, s.tokens, true)) << "prefill of everything";
    EXPECT_EQ(decodes, run(s, qkv, 7, false)) << "chunked prefill, one by one";
  }
}

// Rows that share what they see, with neighbours of their own sequence and of others, in any number and order; what is not seen is NaN.
TEST_P(BatchInvariance, TiledAttention) {
  constexpr int32_t kRows = 300;
  constexpr int64_t kSequences = 3, kBlockTokens = 24, kMaxBlocks = 4, kHeads = 4, kKvHeads = 2;
  const std::vector<int32_t> seen = {96, 49, 15};
  for (int64_t head_dim : {17, 64, 80}) {
    const auto queries = values_.normal(kRows * kHeads * head_dim);
    const Shape cache{kSequences * kMaxBlocks, kKvHeads, kBlockTokens, head_dim};
    auto keys = values_.normal(cache.size()), values = values_.normal(cache.size());
    const auto tables = values_.order(static_cast<int32_t>(kSequences * kMaxBlocks));
    for (int64_t sequence = 0; sequence < kSequences; ++sequence) {
      for (int64_t p = seen[static_cast<size_t>(sequence)]; p < kMaxBlocks * kBlockTokens; ++p) {
        for (int64_t h = 0; h < kKvHeads; ++h) {
          const int64_t at = ((tables[static_cast<size_t>(sequence * kMaxBlocks + p / kBlockTokens)] * kKvHeads + h) * kBlockTokens + p % kBlockTokens) * head_dim;
          std::fill_n(keys.begin() + at, head_dim, NAN);
          std::fill_n(values.begin() + at, head_dim, NAN);
        }
      }
    }
    Backend& b = *backend_;
    const Tensor k = put(b, b.kv_dtype(), cache, keys), v = put(b, b.kv_dtype(), cache, values);
    expect_row_bits(kRows, {1, 2, 12, 13, 100, 299}, "tiled attention", [&](const std::vector<int32_t>& picked) {
      const auto rows = static_cast<int64_t>(picked.size());
      // Even numbers of rows in the order of their sequences, so that many stand together, and back into the order asked for.
      std::vector<int32_t> sorted = picked, back, table_rows, lengths;
      if (rows % 2 == 0) std::sort(sorted.begin(), sorted.end());
      for (const int32_t row : picked) back.push_back(static_cast<int32_t>(std::find(sorted.begin(), sorted.end(), row) - sorted.begin()));
      for (const int32_t row : sorted) {
        table_rows.push_back(row / 100);
        lengths.push_back(seen[static_cast<size_t>(row / 100)]);
      }
      const Tensor out = b.make(b.activation_dtype(), {rows, kHeads * head_dim}), unsorted = b.make(b.activation_dtype(), {rows, kHeads * head_dim});
      b.paged_attention(f32(b, {rows, kHeads * head_dim}, pick(queries, kHeads * head_dim, sorted)), {k, v},
                        {put(b, {kSequences, kMaxBlocks}, tables), put(b, table_rows), put(b, lengths), true}, out);
      b.gather_rows(out, put(b, back), unsorted);
      for (float value : get(b, out)) EXPECT_FALSE(std::isnan(value)) << "something outside of the seen keys was read";
      return unsorted;
    });
  }
}

// Rows of several sequences, each with keys of its own in blocks that lie anywhere; what is not seen is NaN.
TEST_P(BatchInvariance, AttentionEntropy) {
  constexpr int32_t kRows = 40;
  constexpr int64_t kTokens = 70, kBlockTokens = 16, kMaxBlocks = 5, kHeads = 4, kKvHeads = 2;
  for (int64_t head_dim : {40, 64}) {
    const auto queries = values_.normal(kRows * kHeads * head_dim);
    const auto cached = values_.normal(kRows * kTokens * kKvHeads * head_dim);
    const auto firsts = values_.below(kRows, 20), more = values_.below(kRows, static_cast<int32_t>(kTokens) - 20);
    expect_row_bits(kRows, {1, 2, 3, 17, 39}, "attention_entropy", [&](const std::vector<int32_t>& picked) {
      const auto rows = static_cast<int64_t>(picked.size());
      const auto placement = values_.order(static_cast<int32_t>(rows * kMaxBlocks + 3));
      const Shape cache{rows * kMaxBlocks + 3, kKvHeads, kBlockTokens, head_dim};
      std::vector<float> keys(static_cast<size_t>(cache.size()), NAN);
      std::vector<int32_t> tables(placement.begin(), placement.begin() + rows * kMaxBlocks), table_rows, first, length;
      for (int64_t i = 0; i < rows; ++i) {
        const auto row = static_cast<size_t>(picked[static_cast<size_t>(i)]);
        table_rows.push_back(static_cast<int32_t>(i));
        first.push_back(firsts[row]);
        length.push_back(firsts[row] + std::max(1, more[row]));
        for (int64_t p = first.back(); p < length.back(); ++p) {
          for (int64_t g = 0; g < kKvHeads; ++g) {
            const int64_t block = tables[static_cast<size_t>(i * kMaxBlocks + p / kBlockTokens)];
            const auto from = cached.begin() + ((static_cast<int64_t>(row) * kTokens + p) * kKvHeads + g) * head_dim;
            std::copy_n(from, head_dim, keys.begin() + ((block * kKvHeads + g) * kBlockTokens + p % kBlockTokens) * head_dim);
          }
        }
      }
      Backend& b = *backend_;
      const Tensor k = put(b, b.kv_dtype(), cache, keys), v = b.make(b.kv_dtype(), cache), out = b.make(DType::kF32, {rows});
      b.attention_entropy(f32(b, {rows, kHeads * head_dim}, pick(queries, kHeads * head_dim, picked)), {k, v},
                          {put(b, {rows, kMaxBlocks}, tables), put(b, table_rows), put(b, length)}, put(b, first), out);
      for (float value : get(b, out)) EXPECT_FALSE(std::isnan(value)) << "something outside of the seen keys was read";
      return out;
    });
  }
}

TEST_P(BatchInvariance, PicturesOfABatch) {
  const int64_t height = 12, width = 10, in = 32;
  const auto norm = values_.normal(in), x = values_.normal(3 * height * width * in);
  for (const int64_t out : {48, 3}) {
    const auto weight = values_.normal(out * in * 9, 0.1f), bias = values_.normal(out);
    const auto w = backend_->prepare_conv2d(host(weight, {out, in, 3, 3}), host(bias, {out}), ConvPadding::kSame);
    expect_row_bits(3, {1, 2}, "group_norm and conv2d", [&](const std::vector<int32_t>& picked) {
      Backend& b = *backend_;
      const auto images = static_cast<int64_t>(picked.size());
      const Tensor normed = b.make(b.activation_dtype(), {images, height, width, in});
      b.group_norm(f32(b, {images, height, width, in}, pick(x, height * width * in, picked)), f32(b, {in}, norm), f32(b, {in}, norm), 32, 1e-6f,
                   true, normed);
      Tensor y = b.make(DType::kF32, {images, height, width, out});
      b.conv2d(normed, *w, y, Epilogue::store());
      y.view = y.view.reshape({images, height * width * out});
      return y;
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, BatchInvariance, testing::ValuesIn(variants()), variant_name);
INSTANTIATE_TEST_SUITE_P(Backends, CacheInvariance, testing::ValuesIn(variants()), variant_name);

}  // namespace
}  // namespace ardiff::test
