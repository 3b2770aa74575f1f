#include "backend/op_checks.h"

#include <initializer_list>

namespace ardiff::op_checks {
namespace {

constexpr int64_t kAny = -1;

// Bit set of element types.
constexpr unsigned kF32 = 1u << static_cast<unsigned>(DType::kF32);
constexpr unsigned kBF16 = 1u << static_cast<unsigned>(DType::kBF16);
constexpr unsigned kF16 = 1u << static_cast<unsigned>(DType::kF16);
constexpr unsigned kI32 = 1u << static_cast<unsigned>(DType::kI32);
constexpr unsigned kU8 = 1u << static_cast<unsigned>(DType::kU8);
constexpr unsigned kF64 = 1u << static_cast<unsigned>(DType::kF64);
constexpr unsigned kActivation = kF32 | kBF16;

// One argument of one op: every check below reports under this name.
struct Argument {
  const char* op;
  const char* name;
  const TensorView& view;
};

std::string expected_text(std::initializer_list<int64_t> dims) {
  std::string out = "[";
  for (int64_t dim : dims) out += (out.size() > 1 ? ", " : "") + (dim == kAny ? std::string("*") : std::to_string(dim));
  return out + "]";
}

void expect_dtype(const Argument& a, unsigned allowed) {
  if (allowed >> static_cast<unsigned>(a.view.dtype) & 1u) return;
  std::string names;
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kI32, DType::kU8, DType::kF64}) {
    if (allowed >> static_cast<unsigned>(dtype) & 1u) names += (names.empty() ? "" : " or ") + std::string(dtype_name(dtype));
  }
  fail(ErrorCode::kInternal, a.op, ": expected ", a.name, " of type ", names, ", got ", dtype_name(a.view.dtype));
}

void expect_shape(const Argument& a, std::initializer_list<int64_t> dims, unsigned allowed) {
  const Shape& shape = a.view.shape;
  bool same = shape.rank() == static_cast<int>(dims.size());
  int i = 0;
  for (int64_t dim : dims) {
    if (!same) break;
    same = shape[i] >= 0 && (dim == kAny || shape[i] == dim);
    ++i;
  }
  if (!same) [[unlikely]] fail(ErrorCode::kInternal, a.op, ": expected ", a.name, " ", expected_text(dims), ", got ", shape.text());
  if (!a.view.data && shape.size() > 0) [[unlikely]] fail(ErrorCode::kInternal, a.op, ": ", a.name, " has no data");
  if (shape.rank() == 2 && a.view.row_stride < shape[1]) [[unlikely]] {
    fail(ErrorCode::kInternal, a.op, ": row stride ", a.view.row_stride, " of ", a.name, " is below its ", shape[1], " columns");
  }
  expect_dtype(a, allowed);
}

void expect_contiguous(const Argument& a) {
  if (!a.view.contiguous()) [[unlikely]] fail(ErrorCode::kInternal, a.op, ": ", a.name, " must be contiguous, row stride is ", a.view.row_stride);
}

void expect(bool condition, const char* op, const char* what, int64_t actual) {
  if (!condition) [[unlikely]] fail(ErrorCode::kInternal, op, ": expected ", what, ", got ", actual);
}

// Affine parameters of a norm: both (C), or both empty where that is allowed.
void expect_affine(const char* op, const TensorView& w, const TensorView& b, int64_t c) {
  if (!w && !b) return;
  expect_shape({op, "w", w}, {c}, kF32);
  expect_shape({op, "b", b}, {c}, kF32);
}

void expect_kv(const char* op, const KvLayer& kv) {
  expect_shape({op, "keys", kv.keys}, {kAny, kAny, kAny, kAny}, kActivation);
  const Shape& s = kv.keys.shape;
  expect_shape({op, "values", kv.values}, {s[0], s[1], s[2], s[3]}, 1u << static_cast<unsigned>(kv.keys.dtype));
}

// Queries of an attention op and what of the cache they see.
void expect_queries(const char* op, const TensorView& q, const KvLayer& kv, const PagedContext& context) {
  expect_kv(op, kv);
  const int64_t group_width = kv.keys.shape[1] * kv.keys.shape[3];
  expect_shape({op, "q", q}, {kAny, kAny}, kF32);
  expect(group_width > 0 && q.cols() > 0 && q.cols() % group_width == 0, op, "query heads in whole groups", q.cols());
  expect_shape({op, "block_tables", context.block_tables}, {kAny, kAny}, kI32);
  expect_contiguous({op, "block_tables", context.block_tables});
  expect_shape({op, "table_rows", context.table_rows}, {q.rows()}, kI32);
  expect_shape({op, "context_lengths", context.context_lengths}, {q.rows()}, kI32);
}

bool is_float(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16; }

void expect_bias(const HostTensor& bias, int64_t out) {
  if (!bias) return;
  check(bias.shape == Shape({out}) && is_float(bias.dtype), ErrorCode::kInvalidModel, "bias ", bias.name, ": expected ", out, " floats, got ",
        dtype_name(bias.dtype), " ", bias.shape.text());
}

}  // namespace

void prepare_linear(std::span<const LinearPart> parts) {
  check(!parts.empty(), ErrorCode::kInternal, "prepare_linear: no parts");
  for (const LinearPart& part : parts) {
    const HostTensor& w = part.weight;
    check(w && w.shape.rank() == 2 && w.shape[0] > 0 && w.shape[1] > 0 && is_float(w.dtype), ErrorCode::kInvalidModel, "weight ", w.name,
          ": expected a float matrix, got ", dtype_name(w.dtype), " ", w.shape.text());
    check(w.shape[1] == parts[0].weight.shape[1], ErrorCode::kInvalidModel, "weight ", w.name, ": expected ", parts[0].weight.shape[1],
          " columns as in ", parts[0].weight.name, ", got ", w.shape.text());
    expect_bias(part.bias, w.shape[0]);
  }
}

void prepare_conv2d(const HostTensor& weight, const HostTensor& bias, ConvPadding padding) {
  const Shape& s = weight.shape;
  check(weight && s.rank() == 4 && s[0] > 0 && s[1] > 0 && s[2] == s[3] && (s[2] == 1 || s[2] == 3) && is_float(weight.dtype),
        ErrorCode::kInvalidModel, "weight ", weight.name, ": expected floats [out, in, k, k] with k 1 or 3, got ", dtype_name(weight.dtype),
        " ", s.text());
  check(padding == ConvPadding::kSame || s[2] == 3, ErrorCode::kInvalidModel, "weight ", weight.name, ": downsampling wants a 3x3 kernel");
  check(static_cast<bool>(bias), ErrorCode::kInvalidModel, "weight ", weight.name, ": a convolution has a bias");
  expect_bias(bias, s[0]);
}

void linear(const TensorView& x, const Linear& w, const TensorView& y, const Epilogue& epilogue) {
  expect_shape({"linear", "x", x}, {kAny, w.in_features}, kActivation);
  const bool reads_y = epilogue.kind == Epilogue::Kind::kAdd || epilogue.kind == Epilogue::Kind::kGatedAdd;
  expect_shape({"linear", "y", y}, {x.rows(), w.out_features}, reads_y ? kF32 : kActivation);
  if (epilogue.kind != Epilogue::Kind::kGatedAdd) return;
  if (epilogue.gate_rows) expect_shape({"linear", "gate_rows", epilogue.gate_rows}, {x.rows()}, kI32);
  expect_shape({"linear", "gate", epilogue.gate}, {epilogue.gate_rows ? kAny : x.rows(), w.out_features}, kF32);
}

void embed(const TensorView& table, const TensorView& ids, const TensorView& y) {
  expect_shape({"embed", "table", table}, {kAny, kAny}, kF32 | kBF16 | kF16);
  expect_shape({"embed", "ids", ids}, {kAny}, kI32);
  expect_shape({"embed", "y", y}, {ids.shape[0], table.cols()}, kF32);
}

void gather_rows(const TensorView& x, const TensorView& index, const TensorView& y) {
  expect_shape({"gather_rows", "x", x}, {kAny, kAny}, kF32 | kBF16 | kF16 | kI32);
  expect_shape({"gather_rows", "index", index}, {kAny}, kI32);
  expect_shape({"gather_rows", "y", y}, {index.shape[0], x.cols()}, 1u << static_cast<unsigned>(x.dtype));
}

void scatter_rows(const TensorView& x, const TensorView& index, const TensorView& y) {
  expect_shape({"scatter_rows", "x", x}, {kAny, kAny}, kF32 | kBF16 | kF16 | kI32);
  expect_shape({"scatter_rows", "index", index}, {x.rows()}, kI32);
  expect_shape({"scatter_rows", "y", y}, {kAny, x.cols()}, 1u << static_cast<unsigned>(x.dtype));
}

void convert(const TensorView& x, const TensorView& y) {
  expect_dtype({"convert", "x", x}, kActivation);
  expect_dtype({"convert", "y", y}, kActivation);
  if (!(x.shape == y.shape)) fail(ErrorCode::kInternal, "convert: expected y ", x.shape.text(), ", got ", y.shape.text());
  expect_contiguous({"convert", "x", x});
  expect_contiguous({"convert", "y", y});
}

void add(const TensorView& a, const TensorView& b, const TensorView& y) {
  for (const Argument& argument : {Argument{"add", "a", a}, Argument{"add", "b", b}, Argument{"add", "y", y}}) {
    expect_dtype(argument, kF32);
    expect_contiguous(argument);
    expect(argument.view.shape.size() == a.shape.size(), "add", "operands of one size", argument.view.shape.size());
  }
}

void rms_norm(const TensorView& x, const TensorView& w, const TensorView& y) {
  expect_shape({"rms_norm", "x", x}, {kAny, kAny}, kF32);
  expect_shape({"rms_norm", "w", w}, {x.cols()}, kF32);
  expect_shape({"rms_norm", "y", y}, {x.rows(), x.cols()}, kActivation);
}

void layer_norm(const TensorView& x, const TensorView& w, const TensorView& b, const TensorView& y) {
  expect_shape({"layer_norm", "x", x}, {kAny, kAny}, kF32);
  expect_affine("layer_norm", w, b, x.cols());
  expect_shape({"layer_norm", "y", y}, {x.rows(), x.cols()}, kActivation);
}

void ada_layer_norm(const TensorView& x, const TensorView& w, const TensorView& b, const TensorView& shift, const TensorView& scale,
                    const TensorView& modulation_rows, const TensorView& y) {
  expect_shape({"ada_layer_norm", "x", x}, {kAny, kAny}, kF32);
  expect_affine("ada_layer_norm", w, b, x.cols());
  if (modulation_rows) expect_shape({"ada_layer_norm", "modulation_rows", modulation_rows}, {x.rows()}, kI32);
  const int64_t rows = modulation_rows ? kAny : x.rows();
  expect_shape({"ada_layer_norm", "shift", shift}, {rows, x.cols()}, kF32);
  expect_shape({"ada_layer_norm", "scale", scale}, {rows, x.cols()}, kF32);
  expect_shape({"ada_layer_norm", "y", y}, {x.rows(), x.cols()}, kActivation);
}

void silu_mul(const TensorView& gate_up, const TensorView& y) {
  expect_shape({"silu_mul", "y", y}, {kAny, kAny}, kActivation);
  expect_shape({"silu_mul", "gate_up", gate_up}, {y.rows(), 2 * y.cols()}, kF32);
}

void rope_angles(const TensorView& positions, const TensorView& cos, const TensorView& sin) {
  expect_shape({"rope_angles", "positions", positions}, {kAny}, kI32);
  expect_shape({"rope_angles", "cos", cos}, {positions.shape[0], kAny}, kF32);
  expect_shape({"rope_angles", "sin", sin}, {positions.shape[0], cos.cols()}, kF32);
}

void rope_store(const TensorView& qkv, const TensorView& cos, const TensorView& sin, const TensorView& slots, const TensorView& q,
                const KvLayer& kv) {
  expect_kv("rope_store", kv);
  const int64_t d = kv.keys.shape[3];
  expect(d > 0 && d % 2 == 0, "rope_store", "an even head size", d);
  expect_shape({"rope_store", "q", q}, {kAny, kAny}, kF32);
  expect(q.cols() % d == 0, "rope_store", "q columns in whole heads", q.cols());
  expect_shape({"rope_store", "qkv", qkv}, {q.rows(), q.cols() + 2 * kv.keys.shape[1] * d}, kF32);
  expect_shape({"rope_store", "cos", cos}, {q.rows(), d / 2}, kF32);
  expect_shape({"rope_store", "sin", sin}, {q.rows(), d / 2}, kF32);
  expect_shape({"rope_store", "slots", slots}, {q.rows()}, kI32);
}

void store_kv(const TensorView& key_values, const TensorView& slots, const KvLayer& kv) {
  expect_kv("store_kv", kv);
  expect_shape({"store_kv", "key_values", key_values}, {kAny, 2 * kv.keys.shape[1] * kv.keys.shape[3]}, kF32);
  expect_shape({"store_kv", "slots", slots}, {key_values.rows()}, kI32);
}

void paged_attention(const TensorView& q, const KvLayer& kv, const PagedContext& context, const TensorView& out) {
  expect_queries("paged_attention", q, kv, context);
  expect_shape({"paged_attention", "out", out}, {q.rows(), q.cols()}, kActivation);
}

void attention_entropy(const TensorView& q, const KvLayer& kv, const PagedContext& context, const TensorView& first_keys, const TensorView& out) {
  expect_queries("attention_entropy", q, kv, context);
  expect_shape({"attention_entropy", "first_keys", first_keys}, {q.rows()}, kI32);
  expect_shape({"attention_entropy", "out", out}, {q.rows()}, kF32);
}

void copy_blocks(const KvLayer& kv, std::span<const int32_t> pairs) {
  expect_kv("copy_blocks", kv);
  expect(pairs.size() % 2 == 0, "copy_blocks", "pairs of blocks", static_cast<int64_t>(pairs.size()));
  for (int32_t block : pairs) expect(block >= 0 && block < kv.keys.shape[0], "copy_blocks", "a block of the cache", block);
}

void timestep_features(const TensorView& t, const TensorView& y) {
  expect_shape({"timestep_features", "t", t}, {kAny}, kF32);
  expect_shape({"timestep_features", "y", y}, {t.shape[0], kAny}, kF32);
  expect(y.cols() > 0 && y.cols() % 2 == 0, "timestep_features", "an even width", y.cols());
}

void silu_add(const TensorView& a, const TensorView& a_index, const TensorView& b, const TensorView& b_index, const TensorView& y) {
  expect_shape({"silu_add", "y", y}, {kAny, kAny}, kActivation);
  expect_shape({"silu_add", "a", a}, {kAny, y.cols()}, kF32);
  expect_shape({"silu_add", "a_index", a_index}, {y.rows()}, kI32);
  expect_shape({"silu_add", "b", b}, {kAny, y.cols()}, kF32);
  expect_shape({"silu_add", "b_index", b_index}, {y.rows()}, kI32);
}

void flow_step(const TensorView& x, const TensorView& v, const TensorView& row_begin, const TensorView& state,
               const TensorView& coefficients, const TensorView& noise, const TensorView& noise_index) {
  expect_shape({"flow_step", "x", x}, {kAny, kAny}, kF32);
  expect_shape({"flow_step", "v", v}, {kAny, x.cols()}, kF32);
  expect_shape({"flow_step", "state", state}, {kAny}, kI32);
  expect_shape({"flow_step", "row_begin", row_begin}, {state.shape[0] + 1}, kI32);
  expect_shape({"flow_step", "coefficients", coefficients}, {state.shape[0], 5}, kF32);
  expect_shape({"flow_step", "noise_index", noise_index}, {state.shape[0]}, kI32);
  if (noise) expect_shape({"flow_step", "noise", noise}, {kAny, x.cols()}, kF32);
}

void philox_normal(const TensorView& keys, const TensorView& y) {
  expect_shape({"philox_normal", "keys", keys}, {kAny, 5}, kI32);
  expect_shape({"philox_normal", "y", y}, {keys.rows(), kAny}, kF32);
}

void conv2d(const TensorView& x, const Conv2d& w, const TensorView& y, const Epilogue& epilogue) {
  expect_shape({"conv2d", "x", x}, {kAny, kAny, kAny, w.in_channels}, kActivation);
  const Shape& s = x.shape;
  const bool down = w.padding == ConvPadding::kDownsample;
  expect(!down || (s[1] >= 2 && s[2] >= 2), "conv2d", "a picture of at least 2x2 to downsample", s[1]);
  expect_shape({"conv2d", "y", y}, {s[0], down ? (s[1] - 2) / 2 + 1 : s[1], down ? (s[2] - 2) / 2 + 1 : s[2], w.out_channels}, kF32);
  expect(epilogue.kind == Epilogue::Kind::kStore || epilogue.kind == Epilogue::Kind::kAdd, "conv2d", "epilogue store or add",
         static_cast<int64_t>(epilogue.kind));
}

void group_norm(const TensorView& x, const TensorView& w, const TensorView& b, int64_t groups, const TensorView& y) {
  expect_shape({"group_norm", "x", x}, {kAny, kAny, kAny, kAny}, kF32);
  const Shape& s = x.shape;
  expect(groups > 0 && s[3] % groups == 0, "group_norm", "channels in whole groups", s[3]);
  expect_shape({"group_norm", "w", w}, {s[3]}, kF32);
  expect_shape({"group_norm", "b", b}, {s[3]}, kF32);
  expect_shape({"group_norm", "y", y}, {s[0], s[1], s[2], s[3]}, kActivation);
}

void verify_drafts(const DraftedPaths& paths, const DraftedSequences& sequences, const Verdicts& verdicts) {
  const char* const op = "verify_drafts";
  const auto matrix = [op](const char* name, const TensorView& view, int64_t rows, int64_t cols, unsigned types) {
    expect_shape({op, name, view}, {rows, cols}, types);
    expect_contiguous({op, name, view});
  };
  matrix("target_velocity", paths.target_velocity, kAny, kAny, kF32);
  const int64_t rows = paths.target_velocity.rows(), width = paths.target_velocity.cols();
  matrix("draft_velocity", paths.draft_velocity, rows, width, kF32);
  if (paths.states) matrix("states", paths.states, rows, width, kF32);
  if (paths.noise) matrix("noise", paths.noise, rows, width, kF32);
  if (paths.next) matrix("next", paths.next, rows, width, kF32);
  matrix("words", sequences.words, kAny, DraftedSequences::kWords, kI32);
  expect_shape({op, "tolerance", sequences.tolerance}, {sequences.words.rows()}, kF64);
  expect_shape({op, "attempts", sequences.attempts}, {kAny}, kI32);
  matrix("steps", sequences.steps, kAny, 4, kF32);
  matrix("outcome", verdicts.outcome, sequences.words.rows(), 2, kI32);
  expect_shape({op, "statistic", verdicts.statistic}, {sequences.attempts.shape[0]}, kF64);
  matrix("pending", verdicts.pending, kAny, width, kF32);
}

void upsample_conv2d(const TensorView& x, const Conv2d& w, const TensorView& y) {
  expect_shape({"upsample_conv2d", "x", x}, {kAny, kAny, kAny, w.in_channels}, kF32);
  const Shape& s = x.shape;
  expect(w.padding == ConvPadding::kSame, "upsample_conv2d", "a convolution that keeps the size", static_cast<int64_t>(w.padding));
  expect_shape({"upsample_conv2d", "y", y}, {s[0], 2 * s[1], 2 * s[2], w.out_channels}, kF32);
}

void dense_attention(const TensorView& q, const TensorView& k, const TensorView& v, const TensorView& out) {
  expect_shape({"dense_attention", "q", q}, {kAny, kAny}, kF32);
  expect(q.rows() > 0 && q.cols() > 0, "dense_attention", "at least one row", q.rows());
  expect_shape({"dense_attention", "k", k}, {q.rows(), q.cols()}, kF32);
  expect_shape({"dense_attention", "v", v}, {q.rows(), q.cols()}, kF32);
  expect_shape({"dense_attention", "out", out}, {q.rows(), q.cols()}, kActivation);
}

int64_t patches(const char* op, const TensorView& tokens, int64_t grid_height, const TensorView& z) {
  expect_shape({op, "tokens", tokens}, {kAny, kAny}, kF32);
  expect_shape({op, "z", z}, {1, kAny, kAny, kAny}, kActivation);
  expect(grid_height > 0 && tokens.rows() > 0 && tokens.rows() % grid_height == 0, op, "a rectangular token grid, rows", tokens.rows());
  const Shape& s = z.shape;
  const int64_t patch = s[1] / grid_height;
  expect(patch > 0, op, "a latent at least as high as the grid", s[1]);
  expect_shape({op, "z", z}, {1, grid_height * patch, tokens.rows() / grid_height * patch, s[3]}, kActivation);
  expect(tokens.cols() == s[3] * patch * patch, op, "tokens of channels x patch x patch numbers", tokens.cols());
  return patch;
}

void to_rgb8(const TensorView& y, const TensorView& rgb) {
  expect_shape({"to_rgb8", "y", y}, {1, kAny, kAny, 3}, kF32);
  expect_shape({"to_rgb8", "rgb", rgb}, {1, y.shape[1], y.shape[2], 3}, kU8);
}

}  // namespace ardiff::op_checks
