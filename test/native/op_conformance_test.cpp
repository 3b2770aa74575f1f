// Every op of every backend against the reference, on odd shapes: tails of every vector width, strided views,
// one row and many. Inputs are bf16-representable, so what differs is the order of sums and the result's type.
#include <algorithm>

#include "support/op_fixture.h"

namespace ardiff::test {
namespace {

class OpConformance : public OpTest {
 protected:
  // Runs `op` on both backends and compares the f32 or act tensor it returns.
  template <typename Op>
  void compare(const std::string& what, Tolerance tolerance, Op&& op) {
    const Tensor expected = op(*reference_);
    const Tensor actual = op(*backend_);
    expect_near(get(*reference_, expected), get(*backend_, actual), actual.view.dtype, tolerance, what);
  }

  // Multiples of `scale` in [-limit, limit] * scale.
  std::vector<float> whole_numbers(int64_t count, int32_t limit, float scale) {
    std::vector<float> out;
    for (int32_t value : values_.below(count, 2 * limit + 1)) out.push_back(static_cast<float>(value - limit) * scale);
    return out;
  }
};

struct LinearShape {
  int64_t rows, in, out;
};

void PrintTo(const LinearShape& s, std::ostream* out) { *out << s.rows << "x" << s.in << "x" << s.out; }

const LinearShape kLinearShapes[] = {{1, 1, 1},    {1, 3, 5},     {2, 48, 80},   {3, 64, 33},    {4, 65, 64},    {5, 128, 96},
                                     {7, 64, 100}, {12, 100, 65}, {13, 80, 129}, {24, 384, 384}, {33, 256, 768}, {97, 130, 70},
                                     {200, 96, 40}, {3, 5000, 40}, {100, 4300, 34}, {40, 704, 256}, {17, 384, 1152}};

TEST_P(OpConformance, LinearWithEveryEpilogue) {
  for (const LinearShape& s : kLinearShapes) {
    const auto weight = values_.normal(s.out * s.in, 1.0f / std::sqrt(static_cast<float>(s.in)));
    const auto bias = values_.normal(s.out);
    const auto x = values_.normal(s.rows * (s.in + 5));  // with columns around it that belong to something else
    const std::vector<float> narrow(x.begin(), x.begin() + s.rows * s.in);
    const auto y = values_.normal(s.rows * s.out);
    const auto gate = values_.normal(s.rows * 2 * s.out);
    const int64_t first = s.out / 2;  // two parts, only the first with a bias
    std::vector<LinearPart> parts;
    if (first > 0) parts.push_back({host(weight, {first, s.in}), host(bias, {first})});
    parts.push_back({{weight.data() + first * s.in, DType::kF32, {s.out - first, s.in}, "second"}, {}});
    const auto kinds = {Epilogue::Kind::kStore, Epilogue::Kind::kSilu, Epilogue::Kind::kGelu, Epilogue::Kind::kAdd, Epilogue::Kind::kGatedAdd};
    for (Epilogue::Kind kind : kinds) {
      for (bool wide : {false, true}) {  // wide: x and gate are column slices
        const std::string what = testing::PrintToString(s) + " epilogue " + std::to_string(static_cast<int>(kind)) + (wide ? " strided" : "");
        compare(what, {4e-5f, 4e-5f}, [&](Backend& b) {
          const auto w = b.prepare_linear(parts);
          Tensor input = wide ? act(b, {s.rows, s.in + 5}, x) : act(b, {s.rows, s.in}, narrow);
          if (wide) input.view = input.view.col_slice(3, s.in + 3);
          const Tensor gates = f32(b, {s.rows, 2 * s.out}, gate);
          Epilogue epilogue{kind, {}};
          if (kind == Epilogue::Kind::kGatedAdd) epilogue.gate = gates.view.col_slice(s.out, 2 * s.out);
          const Tensor result = f32(b, {s.rows, s.out}, y);
          b.linear(input, *w, result, epilogue);
          return result;
        });
      }
    }
    // Gates that rows share, in any order.
    const std::vector<int32_t> gate_rows = values_.below(s.rows, static_cast<int32_t>(s.rows));
    compare(testing::PrintToString(s) + " gate rows", {4e-5f, 4e-5f}, [&](Backend& b) {
      const auto w = b.prepare_linear(parts);
      const Tensor gates = f32(b, {s.rows, 2 * s.out}, gate), result = f32(b, {s.rows, s.out}, y);
      b.linear(act(b, {s.rows, s.in}, narrow), *w, result, Epilogue::gated_add(gates.view.col_slice(0, s.out), put(b, gate_rows)));
      return result;
    });
    compare(testing::PrintToString(s) + " f32 input, act output", {4e-5f, 4e-5f}, [&](Backend& b) {
      const auto w = b.prepare_linear(parts);
      const Tensor result = b.make(b.activation_dtype(), {s.rows, s.out});
      b.linear(f32(b, {s.rows, s.in}, narrow), *w, result, Epilogue::silu());
      return result;
    });
  }
}

TEST_P(OpConformance, LinearReadsEveryWeightType) {
  const auto weight = values_.normal(20 * 24);
  std::vector<bf16_t> rounded;
  for (float value : weight) rounded.push_back(f32_to_bf16(value));
  const std::vector<uint16_t> ones(20 * 24, 0x3c00);  // f16 1.0
  const auto x = values_.normal(2 * 24);
  for (const HostTensor& w : {HostTensor{rounded.data(), DType::kBF16, {20, 24}, "bf16"}, HostTensor{ones.data(), DType::kF16, {20, 24}, "f16"}}) {
    compare(w.name, {2e-5f, 1e-5f}, [&](Backend& b) {
      const LinearPart part{w, {}};
      const Tensor result = b.make(DType::kF32, {2, 20});
      b.linear(act(b, {2, 24}, x), *b.prepare_linear({&part, 1}), result, Epilogue::store());
      return result;
    });
  }
}

TEST_P(OpConformance, RowsMove) {
  for (int64_t width : {1, 7, 16, 50, 256}) {
    const auto table = values_.normal(9 * width);
    const std::vector<int32_t> picked = {8, 0, 3, 3, 7};
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      compare("embed", {0, 0}, [&](Backend& b) {
        const Tensor y = b.make(DType::kF32, {5, width});
        b.embed(put(b, dtype, {9, width}, table), put(b, picked), y);
        return y;
      });
    }
    compare("gather", {0, 0}, [&](Backend& b) {
      const Tensor y = b.make(DType::kF32, {5, width});
      b.gather_rows(f32(b, {9, width}, table), put(b, picked), y);
      return y;
    });
    compare("scatter", {0, 0}, [&](Backend& b) {
      const Tensor y = b.make(DType::kF32, {12, width});
      b.scatter_rows(f32(b, {9, width}, table), put(b, {11, 3, 5, 7, 0, 1, 2, 4, 6}), y);
      return y;
    });
    compare("add", {1e-7f, 1e-7f}, [&](Backend& b) {
      const Tensor y = f32(b, {9, width}, table);
      b.add(y, y, y);
      return y;
    });
  }
}

TEST_P(OpConformance, EmbedReadsHalves) {
  std::vector<uint16_t> halves;
  for (uint32_t i = 0; i < 6 * 11; ++i) halves.push_back(static_cast<uint16_t>(i * 397));  // many exponents, subnormals too
  auto table = [&](Backend& b) {
    Tensor out = b.make(DType::kF16, {6, 11});
    b.upload(out, halves.data());
    return out;
  };
  compare("embed f16", {0, 0}, [&](Backend& b) {
    const Tensor y = b.make(DType::kF32, {2, 11});
    b.embed(table(b), put(b, {5, 1}), y);
    return y;
  });
}

TEST_P(OpConformance, ConvertRoundsToNearestEven) {
  auto x = values_.normal(1000);
  for (size_t i = 0; i < x.size(); i += 3) x[i] *= 1.0f + 0x1p-9f * static_cast<float>(i % 7);
  x[4] = INFINITY;
  x[5] = -INFINITY;
  x[6] = 1.00390625f;  // half way: to the even neighbour
  compare("there and back", {0, 0}, [&](Backend& b) {
    const Tensor rounded = b.make(DType::kBF16, {1000});
    b.convert(f32(b, {1000}, x), rounded);
    const Tensor y = b.make(DType::kF32, {1000});
    b.convert(rounded, y);
    // Infinities compare as their difference, which is NaN: make them finite and large.
    auto values = get(b, y);
    for (float& value : values) value = std::clamp(value, -1e30f, 1e30f);
    return f32(b, {1000}, values);
  });
  const Tensor nan = f32(*backend_, {3}, {NAN, 1.0f, -NAN});
  const Tensor half = backend_->make(DType::kBF16, {3});
  backend_->convert(nan, half);
  EXPECT_TRUE(std::isnan(get(*backend_, half)[0]));
  EXPECT_TRUE(std::isnan(get(*backend_, half)[2]));
}

TEST_P(OpConformance, Norms) {
  for (int64_t rows : {1, 3, 40}) {
    for (int64_t width : {1, 2, 15, 16, 17, 48, 64, 100, 256, 384, 1000, 2052}) {
      const auto x = values_.normal(rows * width, 3.0f);
      const auto w = values_.normal(width);
      const auto bias = values_.normal(width);
      const auto modulation = values_.normal(rows * 3 * width);
      const std::string what = std::to_string(rows) + "x" + std::to_string(width);
      auto output = [&](Backend& b, bool as_act) { return b.make(as_act ? b.activation_dtype() : DType::kF32, {rows, width}); };
      for (bool as_act : {false, true}) {
        compare("rms_norm " + what, {1e-6f, 1e-5f}, [&](Backend& b) {
          const Tensor y = output(b, as_act);
          b.rms_norm(f32(b, {rows, width}, x), f32(b, {width}, w), 1e-5f, y);
          return y;
        });
        for (bool affine : {false, true}) {
          compare("layer_norm " + what, {2e-5f, 1e-5f}, [&](Backend& b) {
            const Tensor y = output(b, as_act);
            const Tensor scale = affine ? f32(b, {width}, w) : Tensor{};
            const Tensor shift = affine ? f32(b, {width}, bias) : Tensor{};
            b.layer_norm(f32(b, {rows, width}, x), scale, shift, 1e-6f, y);
            return y;
          });
          compare("ada_layer_norm " + what, {4e-5f, 1e-5f}, [&](Backend& b) {
            const Tensor y = output(b, as_act);
            const Tensor scale = affine ? f32(b, {width}, w) : Tensor{};
            const Tensor shift = affine ? f32(b, {width}, bias) : Tensor{};
            const Tensor m = f32(b, {rows, 3 * width}, modulation);
            b.ada_layer_norm(f32(b, {rows, width}, x), scale, shift, 1e-6f, m.view.col_slice(0, width), m.view.col_slice(width, 2 * width), {}, y);
            return y;
          });
        }
      }
      const auto modulation_rows = values_.below(rows, static_cast<int32_t>(rows));
      compare("ada_layer_norm of rows that share a modulation " + what, {4e-5f, 1e-5f}, [&](Backend& b) {
        const Tensor y = output(b, true);
        const Tensor m = f32(b, {rows, 3 * width}, modulation);
        b.ada_layer_norm(f32(b, {rows, width}, x), {}, {}, 1e-6f, m.view.col_slice(width, 2 * width), m.view.col_slice(0, width), put(b, modulation_rows), y);
        return y;
      });
      compare("rms_norm in place " + what, {1e-6f, 1e-5f}, [&](Backend& b) {
        const Tensor y = f32(b, {rows, width}, x);
        b.rms_norm(y, f32(b, {width}, w), 1e-5f, y);
        return y;
      });
    }
  }
}

TEST_P(OpConformance, Silu) {
  for (int64_t width : {1, 16, 33, 704}) {
    auto gate_up = values_.normal(3 * 2 * width, 4.0f);
    gate_up[0] = 90.0f;  // exp overflows on one side, underflows on the other
    gate_up[static_cast<size_t>(2 * width)] = -120.0f;
    compare("silu_mul", {1e-6f, 2e-6f}, [&](Backend& b) {
      const Tensor y = b.make(b.activation_dtype(), {3, width});
      b.silu_mul(f32(b, {3, 2 * width}, gate_up), y);
      return y;
    });
    const auto a = values_.normal(4 * width), c = values_.normal(2 * width);
    compare("silu_add", {1e-6f, 2e-6f}, [&](Backend& b) {
      const Tensor y = b.make(b.activation_dtype(), {3, width});
      b.silu_add(f32(b, {4, width}, a), put(b, {3, 0, 3}), f32(b, {2, width}, c), put(b, {0, 1, 1}), y);
      return y;
    });
  }
}

// Through a product with the number itself: where GELU bends, where it is nearly 0 or the identity, far out on both sides.
TEST_P(OpConformance, Gelu) {
  std::vector<float> x;
  for (float v = -16.0f; v <= 16.0f; v += 0.0625f) x.push_back(v);
  for (const float v : {0.0f, -0.0f, 1e-6f, -1e-6f, 300.0f, -300.0f, 1e20f, -1e20f}) x.push_back(bf16_to_f32(f32_to_bf16(v)));
  const std::vector<float> one = {1.0f};
  const LinearPart identity{host(one, {1, 1}), {}};
  const auto rows = static_cast<int64_t>(x.size());
  compare("gelu", {6e-7f, 2e-6f}, [&](Backend& b) {
    const auto w = b.prepare_linear({&identity, 1});
    const Tensor y = b.make(b.activation_dtype(), {rows, 1});
    b.linear(act(b, {rows, 1}, x), *w, y, Epilogue::gelu());
    return y;
  });
}

TEST_P(OpConformance, RopeAnglesAndTimestepFeatures) {
  for (int64_t half : {4, 5, 32, 64}) {
    for (bool sine : {false, true}) {
      compare("rope_angles", {1e-6f, 0}, [&](Backend& b) {
        const Tensor cos = b.make(DType::kF32, {5, half}), sin = b.make(DType::kF32, {5, half});
        b.rope_angles(put(b, {0, 1, 63, 1000, 131071}), 1e6f, cos, sin);
        return sine ? sin : cos;
      });
    }
    compare("timestep_features", {1e-6f, 0}, [&](Backend& b) {
      const Tensor y = b.make(DType::kF32, {3, 2 * half});
      b.timestep_features(f32(b, {3}, {0.0f, 0.25f, 0.96f}), y);
      return y;
    });
  }
  // Published check values (nextstep.md 7.1).
  const Tensor y = backend_->make(DType::kF32, {1, 256});
  backend_->timestep_features(f32(*backend_, {1}, {0.25f}), y);
  const auto features = get(*backend_, y);
  EXPECT_NEAR(features[1], 0.9730604f, 1e-6f);
  EXPECT_NEAR(features[64], 0.9999969f, 1e-6f);
  EXPECT_NEAR(features[128], 0.2474040f, 1e-6f);
  EXPECT_NEAR(features[129], 0.2305501f, 1e-6f);
}

struct AttentionShape {
  int64_t heads, kv_heads, head_dim, block_tokens;
};

TEST_P(OpConformance, RopeStoreAndPagedAttention) {
  const std::vector<int32_t> lengths = {1, 2, 15, 16, 17, 40, 63, 64};
  for (const AttentionShape& s : {AttentionShape{6, 2, 8, 16}, {4, 4, 64, 16}, {4, 4, 64, 64}, {10, 2, 128, 16}, {3, 1, 18, 5}, {2, 2, 80, 1}}) {
    const auto rows = static_cast<int64_t>(lengths.size());
    const int64_t max_blocks = (64 + s.block_tokens - 1) / s.block_tokens;
    const int64_t blocks = rows * max_blocks;
    const auto tables = values_.order(static_cast<int32_t>(blocks));
    const auto table_rows = values_.order(static_cast<int32_t>(rows));
    const int64_t width = (s.heads + 2 * s.kv_heads) * s.head_dim;
    // Position p of every row is filled by one rope_store call of all rows.
    std::vector<std::vector<float>> filled;
    for (int p = 0; p < 64; ++p) filled.push_back(values_.normal(rows * width));
    for (bool queries : {true, false}) {
      compare("heads " + std::to_string(s.heads) + " of " + std::to_string(s.head_dim), {2e-5f, 2e-5f}, [&](Backend& b) {
        const Shape cache{blocks, s.kv_heads, s.block_tokens, s.head_dim};
        const Tensor keys = b.make(b.kv_dtype(), cache), values = b.make(b.kv_dtype(), cache);
        const KvLayer kv{keys, values};
        const Tensor q = b.make(DType::kF32, {rows, s.heads * s.head_dim});
        const Tensor cos = b.make(DType::kF32, {rows, s.head_dim / 2}), sin = b.make(DType::kF32, {rows, s.head_dim / 2});
        for (int32_t p = 0; p < 64; ++p) {
          std::vector<int32_t> slots;
          for (int64_t m = 0; m < rows; ++m) {
            const int64_t block = tables[static_cast<size_t>(table_rows[static_cast<size_t>(m)] * max_blocks + p / s.block_tokens)];
            slots.push_back(static_cast<int32_t>(block * s.block_tokens + p % s.block_tokens));
          }
          // Rotated by position 0 but for the last: such keys and values are exact in a bf16 cache too.
          const std::vector<int32_t> positions(static_cast<size_t>(rows), queries && p == 63 ? p : 0);
          b.rope_angles(put(b, positions), 1e6f, cos, sin);
          b.rope_store(f32(b, {rows, width}, filled[static_cast<size_t>(p)]), cos, sin, put(b, slots), q, kv);
        }
        if (queries) return q;
        const Tensor out = b.make(b.activation_dtype(), {rows, s.heads * s.head_dim});
        b.paged_attention(q, kv, {put(b, {rows, max_blocks}, tables), put(b, table_rows), put(b, lengths)}, out);
        return out;
      });
    }
  }
}

// Contexts beyond what a backend may take at a time, one to ten query heads for each of keys.
TEST_P(OpConformance, PagedAttentionOverLongContexts) {
  for (const AttentionShape& s : {AttentionShape{10, 2, 128, 16}, {4, 4, 64, 16}, {3, 1, 18, 5}, {20, 2, 32, 16}, {6, 3, 256, 16}, {7, 1, 40, 64}}) {
    const std::vector<int32_t> lengths = {300, 1, 127, 128, 129, 255, 256, 257};
    const auto rows = static_cast<int64_t>(lengths.size());
    const int64_t max_blocks = (300 + s.block_tokens - 1) / s.block_tokens, blocks = 2 * max_blocks;
    const auto tables = values_.order(static_cast<int32_t>(blocks));  // of two sequences
    const auto table_rows = values_.below(rows, 2);
    const Shape cache{blocks, s.kv_heads, s.block_tokens, s.head_dim};
    const auto keys = values_.normal(cache.size()), values = values_.normal(cache.size()), queries = values_.normal(rows * s.heads * s.head_dim);
    compare(std::to_string(s.heads) + " heads of " + std::to_string(s.head_dim), {2e-5f, 2e-5f}, [&](Backend& b) {
      const Tensor k = put(b, b.kv_dtype(), cache, keys), v = put(b, b.kv_dtype(), cache, values);
      const Tensor out = b.make(b.activation_dtype(), {rows, s.heads * s.head_dim});
      b.paged_attention(f32(b, {rows, s.heads * s.head_dim}, queries), {k, v},
                        {put(b, {2, max_blocks}, tables), put(b, table_rows), put(b, lengths)}, out);
      return out;
    });
  }
}

// Rows of three sequences that mostly see the same positions, and some that do not; queries beside other columns. bf16 backends may also
// round the weights, to 2^-9 of each.
TEST_P(OpConformance, TiledAttention) {
  const float tolerance = backend_->activation_dtype() == DType::kBF16 ? 6e-3f : 2e-5f;
  for (const AttentionShape& s : {AttentionShape{2, 2, 64, 64}, {6, 3, 80, 16}, {4, 1, 40, 5}, {3, 3, 17, 7}, {2, 1, 1, 1}, {1, 1, 256, 256}}) {
    std::vector<int32_t> lengths, table_rows;
    for (const auto& [table, length, rows] : {std::tuple{2, 256, 150}, {0, 1, 3}, {0, 47, 13}, {0, 48, 12}, {1, 33, 1}, {1, 250, 25}, {2, 15, 64}}) {
      lengths.insert(lengths.end(), static_cast<size_t>(rows), length);
      table_rows.insert(table_rows.end(), static_cast<size_t>(rows), table);
    }
    const auto rows = static_cast<int64_t>(lengths.size());
    const int64_t max_blocks = (256 + s.block_tokens - 1) / s.block_tokens, blocks = 3 * max_blocks, width = s.heads * s.head_dim, beside = 5;
    const auto tables = values_.order(static_cast<int32_t>(blocks));
    const Shape cache{blocks, s.kv_heads, s.block_tokens, s.head_dim};
    const auto keys = values_.normal(cache.size()), values = values_.normal(cache.size()), queries = values_.normal(rows * (width + beside));
    compare(std::to_string(s.heads) + " heads of " + std::to_string(s.head_dim), {tolerance, 2e-5f}, [&](Backend& b) {
      const Tensor k = put(b, b.kv_dtype(), cache, keys), v = put(b, b.kv_dtype(), cache, values), q = f32(b, {rows, width + beside}, queries);
      const Tensor out = b.make(b.activation_dtype(), {rows, width});
      b.paged_attention(q.view.col_slice(beside, beside + width), {k, v}, {put(b, {3, max_blocks}, tables), put(b, table_rows), put(b, lengths), true}, out);
      return out;
    });
  }
}

// Keys and values, at whole 16 bytes or not, land at their slots unrotated, and no other place of the cache is touched. Exact: copies, or bf16 of bf16.
TEST_P(OpConformance, StoreKv) {
  for (const AttentionShape& s : {AttentionShape{2, 2, 8, 16}, {4, 4, 80, 5}, {3, 3, 17, 1}}) {
    const int64_t rows = 6, blocks = 12, width = 2 * s.kv_heads * s.head_dim, beside = s.block_tokens == 5 ? 8 : 7;
    const auto qkv = values_.normal(rows * (width + beside));
    auto slots = values_.order(static_cast<int32_t>(blocks * s.block_tokens));
    slots.resize(rows);
    const Shape cache{blocks, s.kv_heads, s.block_tokens, s.head_dim};
    const std::vector<float> before(static_cast<size_t>(cache.size()), 0.25f);
    for (const bool of_keys : {true, false}) {
      compare("store_kv", {0, 0}, [&](Backend& b) {
        const Tensor keys = put(b, b.kv_dtype(), cache, before), values = put(b, b.kv_dtype(), cache, before);
        const Tensor all = f32(b, {rows, width + beside}, qkv);
        b.store_kv(all.view.col_slice(beside, width + beside), put(b, slots), {keys, values});
        const Tensor out = b.make(DType::kF32, cache);
        b.convert(of_keys ? keys : values, out);
        return out;
      });
    }
  }
}

// Rows of scores with a known entropy, then random ones of every length and first key.
TEST_P(OpConformance, AttentionEntropy) {
  for (const AttentionShape& s : {AttentionShape{6, 2, 8, 16}, {4, 4, 64, 16}, {4, 4, 64, 64}, {10, 2, 128, 16}, {3, 1, 18, 5}, {2, 2, 80, 1}}) {
    const std::vector<int32_t> lengths = {1, 64, 64, 64, 40, 17, 33, 64, 5, 2}, firsts = {0, 64, 63, 62, 3, 16, 0, 31, 4, 0};
    const auto rows = static_cast<int64_t>(lengths.size());
    const int64_t max_blocks = (64 + s.block_tokens - 1) / s.block_tokens, blocks = rows * max_blocks;
    const auto tables = values_.order(static_cast<int32_t>(blocks));
    const auto table_rows = values_.order(static_cast<int32_t>(rows));
    const Shape cache{blocks, s.kv_heads, s.block_tokens, s.head_dim};
    for (const float size : {0.0f, 0.1f, 1.0f, 40.0f}) {
      const auto cached = values_.normal(cache.size()), queries = values_.normal(rows * s.heads * s.head_dim, size);
      Tensor actual;
      compare("heads of " + std::to_string(s.head_dim) + ", queries of size " + std::to_string(size), {2e-5f, 2e-5f}, [&](Backend& b) {
        const Tensor keys = put(b, b.kv_dtype(), cache, cached), values = b.make(b.kv_dtype(), cache), out = b.make(DType::kF32, {rows});
        b.attention_entropy(f32(b, {rows, s.heads * s.head_dim}, queries), {keys, values},
                            {put(b, {rows, max_blocks}, tables), put(b, table_rows), put(b, lengths)}, put(b, firsts), out);
        actual = out;
        return out;
      });
      const auto entropies = get(*backend_, actual);
      for (size_t m = 0; m < entropies.size(); ++m) {
        const bool counted = lengths[m] - firsts[m] >= 2;
        const float known = counted ? 1.0f : 0.0f;  // of rows without scores to compare, and of even ones
        if (!counted || size == 0.0f) { EXPECT_NEAR(entropies[m], known, 1e-6f) << "row " << m; }
        EXPECT_GE(entropies[m], 0.0f) << "row " << m;
        EXPECT_LE(entropies[m], 1.0f + 1e-6f) << "row " << m;
      }
    }
  }
}

TEST_P(OpConformance, CopyBlocks) {
  const auto cached = values_.normal(6 * 2 * 4 * 8);
  for (bool keys : {true, false}) {
    compare("copy_blocks", {0, 0}, [&](Backend& b) {
      const Tensor k = put(b, b.kv_dtype(), {6, 2, 4, 8}, cached), v = put(b, b.kv_dtype(), {6, 2, 4, 8}, cached);
      const std::vector<int32_t> pairs = {0, 5, 1, 3, 0, 2};
      b.copy_blocks({k, v}, pairs);
      return keys ? k : v;
    });
  }
}

TEST_P(OpConformance, FlowStep) {
  for (int64_t width : {3, 16, 64}) {
    const auto x = values_.normal(4 * width), v = values_.normal(6 * width), noise = values_.normal(2 * width);
    const std::vector<float> coefficients = {.75f, .25f, .7f, 1.f, 1.f, .5f, .3f, .0f, 3.f, 1.f, .9f, .1f, .2f, 7.5f, 2.f};
    compare("flow_step", {2e-6f, 2e-6f}, [&](Backend& b) {
      const Tensor state = f32(b, {4, width}, x);
      b.flow_step(state, f32(b, {6, width}, v), put(b, {0, 1, 3, 6}), put(b, {2, 0, 3}), f32(b, {3, 5}, coefficients), f32(b, {2, width}, noise),
                  put(b, {1, 0, 0}));
      return state;
    });
  }
}

struct ConvShape {
  int64_t batch, height, width, in, out, kernel;
  ConvPadding padding;
};

TEST_P(OpConformance, Conv2d) {
  const auto same = ConvPadding::kSame;
  const auto down = ConvPadding::kDownsample;
  for (const ConvShape& s : {ConvShape{1, 1, 1, 3, 5, 3, same}, {2, 5, 7, 4, 32, 3, same}, {1, 8, 8, 32, 64, 1, same}, {1, 16, 12, 64, 3, 3, same},
                             {3, 9, 6, 32, 32, 3, down}, {1, 8, 8, 3, 32, 3, down}, {2, 8, 8, 64, 64, 3, same}, {2, 19, 37, 128, 3, 3, same},
                             {1, 6, 9, 32, 3, 3, down}}) {
    const auto weight = values_.normal(s.out * s.in * s.kernel * s.kernel, 0.2f);
    const auto bias = values_.normal(s.out);
    const auto x = values_.normal(s.batch * s.height * s.width * s.in);
    const bool halves = s.padding == down;
    const Shape result{s.batch, halves ? (s.height - 2) / 2 + 1 : s.height, halves ? (s.width - 2) / 2 + 1 : s.width, s.out};
    const auto before = values_.normal(result.size());
    for (bool adds : {false, true}) {
      for (bool as_act : {true, false}) {
        // bf16 backends may transform inputs and weights before they multiply (Winograd) and round what comes out:
        // up to 2^-8 of each product, hundreds of which have sums of this size: six standard deviations of what then differs.
        const bool bf16 = backend_->activation_dtype() == DType::kBF16;
        const float size = 0.2f * std::sqrt(static_cast<float>(s.in * s.kernel * s.kernel));
        compare("conv2d " + std::to_string(s.in) + " to " + std::to_string(s.out), {bf16 ? 2.2e-2f * size : 1e-4f, 1e-4f}, [&](Backend& b) {
          const auto w = b.prepare_conv2d(host(weight, {s.out, s.in, s.kernel, s.kernel}), host(bias, {s.out}), s.padding);
          const Tensor y = f32(b, result, before);
          const Shape shape{s.batch, s.height, s.width, s.in};
          b.conv2d(as_act ? act(b, shape, x) : f32(b, shape, x), *w, y, adds ? Epilogue::add() : Epilogue::store());
          return y;
        });
      }
    }
  }
}

// Whole numbers small enough that no way to convolve rounds anything (weights divide by 4, as Winograd's transform does):
// every backend must be exact, so a wrong tap, edge or order of channels cannot hide in a tolerance.
TEST_P(OpConformance, Conv2dOfWholeNumbersIsExact) {
  for (const ConvShape& s : {ConvShape{1, 1, 1, 32, 16, 3, ConvPadding::kSame}, {1, 2, 2, 32, 32, 3, ConvPadding::kSame}, {2, 5, 7, 32, 48, 3, ConvPadding::kSame},
                             {1, 16, 16, 64, 64, 3, ConvPadding::kSame}, {3, 4, 49, 96, 40, 3, ConvPadding::kSame}, {1, 33, 6, 64, 32, 3, ConvPadding::kSame},
                             {1, 9, 8, 16, 64, 3, ConvPadding::kSame}, {2, 6, 5, 32, 8, 1, ConvPadding::kSame}, {1, 8, 8, 32, 32, 3, ConvPadding::kDownsample},
                             {2, 17, 33, 32, 3, 3, ConvPadding::kSame}, {1, 5, 3, 48, 8, 3, ConvPadding::kSame}}) {
    const bool halves = s.padding == ConvPadding::kDownsample;
    const Shape result{s.batch, halves ? (s.height - 2) / 2 + 1 : s.height, halves ? (s.width - 2) / 2 + 1 : s.width, s.out};
    const auto weight = whole_numbers(s.out * s.in * s.kernel * s.kernel, 5, 4.0f), bias = whole_numbers(s.out, 9, 1.0f);
    const auto x = whole_numbers(s.batch * s.height * s.width * s.in, 9, 1.0f), before = whole_numbers(result.size(), 9, 1.0f);
    for (bool adds : {false, true}) {
      compare("whole numbers, " + std::to_string(s.in) + " to " + std::to_string(s.out), {0, 0}, [&](Backend& b) {
        const auto w = b.prepare_conv2d(host(weight, {s.out, s.in, s.kernel, s.kernel}), host(bias, {s.out}), s.padding);
        const Tensor y = f32(b, result, before);
        b.conv2d(act(b, {s.batch, s.height, s.width, s.in}, x), *w, y, adds ? Epilogue::add() : Epilogue::store());
        return y;
      });
    }
  }
}

// Exact like the plain one: the doubled picture may be skipped, not its numbers.
TEST_P(OpConformance, UpsampleConv2d) {
  for (const ConvShape& s : {ConvShape{2, 3, 5, 20, 7, 3, ConvPadding::kSame}, {1, 1, 1, 32, 16, 3, ConvPadding::kSame}, {2, 5, 7, 32, 48, 3, ConvPadding::kSame},
                             {1, 16, 16, 64, 64, 3, ConvPadding::kSame}, {1, 3, 26, 96, 32, 3, ConvPadding::kSame}, {1, 4, 4, 32, 32, 1, ConvPadding::kSame}, {2, 9, 17, 32, 3, 3, ConvPadding::kSame}}) {
    const auto weight = whole_numbers(s.out * s.in * s.kernel * s.kernel, 5, 4.0f), bias = whole_numbers(s.out, 9, 1.0f);
    const auto x = whole_numbers(s.batch * s.height * s.width * s.in, 9, 1.0f);
    compare("upsampled, " + std::to_string(s.in) + " to " + std::to_string(s.out), {0, 0}, [&](Backend& b) {
      const auto w = b.prepare_conv2d(host(weight, {s.out, s.in, s.kernel, s.kernel}), host(bias, {s.out}), s.padding);
      const Tensor y = b.make(DType::kF32, {s.batch, 2 * s.height, 2 * s.width, s.out});
      b.upsample_conv2d(f32(b, {s.batch, s.height, s.width, s.in}, x), *w, y);
      return y;
    });
  }
}

TEST_P(OpConformance, GroupNorm) {
  // Groups of 1, 2, 3, 4, 16 and 64 channels; pictures of one chunk of pixels and of many, the last not full; more groups than a block has.
  for (const Shape& shape : {Shape{1, 1, 1, 32}, Shape{2, 5, 7, 64}, Shape{1, 40, 40, 32}, Shape{1, 4, 4, 96}, Shape{2, 17, 16, 8}, Shape{2, 23, 31, 128},
                             Shape{1, 7, 9, 512}, Shape{2, 3, 5, 2048}}) {
    auto x = values_.normal(shape.size());
    for (float& value : x) value += 10.0f;  // a mean that eats digits
    const auto w = values_.normal(shape[3]), bias = values_.normal(shape[3]);
    for (bool silu : {false, true}) {
      for (bool as_act : {false, true}) {
        compare("group_norm " + shape.text(), {5e-5f, 2e-5f}, [&](Backend& b) {
          const Tensor y = b.make(as_act ? b.activation_dtype() : DType::kF32, shape);
          b.group_norm(f32(b, shape, x), f32(b, {shape[3]}, w), f32(b, {shape[3]}, bias), shape[3] == 8 ? 4 : 32, 1e-6f, silu, y);
          return y;
        });
      }
    }
  }
}

TEST_P(OpConformance, Patches) {
  const auto tokens = values_.normal(6 * 16);
  compare("unpatchify", {1e-6f, 1e-6f}, [&](Backend& b) {
    const Tensor z = b.make(DType::kF32, {1, 4, 6, 4});
    b.unpatchify(f32(b, {6, 16}, tokens), 2, 1.25f, 0.125f, z);
    return z;
  });
  const Tensor z = backend_->make(DType::kF32, {1, 4, 6, 4});
  const Tensor back = backend_->make(DType::kF32, {6, 16});
  backend_->unpatchify(f32(*backend_, {6, 16}, tokens), 2, 1.25f, 0.125f, z);
  backend_->patchify(z, 2, 1.25f, 0.125f, back);
  expect_near(tokens, get(*backend_, back), DType::kF32, {1e-6f, 1e-6f}, "patchify undoes unpatchify");
}

TEST_P(OpConformance, DenseAttention) {
  for (const auto& [tokens, width] : {std::pair<int64_t, int64_t>{1, 1}, {5, 3}, {64, 32}, {100, 64}, {257, 40}, {33, 257}}) {
    const auto q = values_.normal(tokens * width), k = values_.normal(tokens * width), v = values_.normal(tokens * width);
    // bf16 backends also round the attention weights, to 2^-9 of each.
    const bool bf16 = backend_->activation_dtype() == DType::kBF16;
    compare("dense_attention " + std::to_string(tokens), {bf16 ? 6e-3f : 2e-5f, 2e-5f}, [&, t = tokens, c = width](Backend& b) {
      const Tensor out = b.make(b.activation_dtype(), {t, c});
      b.dense_attention(f32(b, {t, c}, q), f32(b, {t, c}, k), f32(b, {t, c}, v), 1.0f / std::sqrt(static_cast<float>(c)), out);
      return out;
    });
  }
}

TEST_P(OpConformance, PixelsRoundHalfToEven) {
  std::vector<float> y = values_.normal(3 * 7 * 3, 0.7f);
  const std::vector<float> special = {-1.0f, 1.0f, -5.0f, 5.0f, 0.0f, NAN, INFINITY, -INFINITY, 2.0f * (0.5f / 255.0f) - 1.0f};
  std::copy(special.begin(), special.end(), y.begin());
  for (Backend* b : {reference_.get(), backend_.get()}) {
    const Tensor rgb = b->make(DType::kU8, {1, 3, 7, 3});
    b->to_rgb8(f32(*b, {1, 3, 7, 3}, y), rgb);
    std::vector<uint8_t> pixels(63);
    b->download(rgb, pixels.data());
    EXPECT_EQ(std::vector<uint8_t>(pixels.begin(), pixels.begin() + 8), (std::vector<uint8_t>{0, 255, 0, 255, 128, 0, 255, 0}));
    for (size_t i = 9; i < y.size(); ++i) {
      EXPECT_EQ(pixels[i], std::nearbyint(std::clamp(y[i] / 2.0f + 0.5f, 0.0f, 1.0f) * 255.0f)) << y[i];
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, OpConformance, testing::ValuesIn(variants()), variant_name);

}  // namespace
}  // namespace ardiff::test
