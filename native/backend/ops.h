// Every op of the engine, once: equation, shapes, dtypes. The reference backend implements each as plain
// float32 loops and thereby defines it; other backends agree within the tolerances of the conformance tests.
//
// Rules that make pictures the same bytes in every batch (docs/contract.md, Same bytes). For every op, on
// every backend: a result row depends on its own input row(s) and the model's shapes only. The order of each
// reduction never depends on the number of rows, on neighbours, on thread timing or on where KV blocks lie.
//
// Notation: M rows; f32/act/kv = float32, Backend::activation_dtype(), Backend::kv_dtype(). Accumulation is
// float32 whatever the inputs. Views of rank 2 may have a row stride unless "contiguous" is said. Outputs may
// alias an input only where stated. Index views are kI32, contiguous, already checked by the caller.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "tensor/tensor_view.h"

namespace ardiff {

// ---- prepared weights (opaque, owned by the model, bound to the backend that made them) ----

class Linear {
 public:
  Linear(int64_t in, int64_t out) : in_features(in), out_features(out) {}
  virtual ~Linear() = default;
  const int64_t in_features;
  const int64_t out_features;
};

// One block of output rows of a linear layer. weight: (out, in) in any float dtype; bias: (out) or empty.
struct LinearPart {
  HostTensor weight;
  HostTensor bias;
};

enum class ConvPadding {
  kSame,        // zeros, (kernel - 1) / 2 on every side, stride 1
  kDownsample,  // one zero row at the bottom, one zero column at the right, stride 2 (kernel 3)
};

class Conv2d {
 public:
  Conv2d(int64_t in, int64_t out, int64_t kernel, ConvPadding pad) : in_channels(in), out_channels(out), kernel_size(kernel), padding(pad) {}
  virtual ~Conv2d() = default;
  const int64_t in_channels;
  const int64_t out_channels;
  const int64_t kernel_size;
  const ConvPadding padding;
};

// What happens to a linear layer's (or convolution's) result r on its way into y.
struct Epilogue {
  enum class Kind {
    kStore,     // y = r
    kSilu,      // y = r * sigmoid(r)
    kGelu,      // y = r * (1 + erf(r / sqrt 2)) / 2
    kAdd,       // y = y + r                 (y f32)
    kGatedAdd,  // y = y + gate * r          (y f32; gate (M, out) f32, or (T, out) with gate_rows)
  };
  Kind kind = Kind::kStore;
  TensorView gate;
  TensorView gate_rows = {};  // (M) i32: the row of gate for each row of r; empty: row m has row m

  static Epilogue store() { return {}; }
  static Epilogue silu() { return {Kind::kSilu, {}}; }
  static Epilogue add() { return {Kind::kAdd, {}}; }
  static Epilogue gelu() { return {Kind::kGelu, {}}; }
  static Epilogue gated_add(const TensorView& gate, const TensorView& gate_rows = {}) { return {Kind::kGatedAdd, gate, gate_rows}; }
};

// A norm in front of a product, as rms_norm, layer_norm and ada_layer_norm take it.
struct RowNorm {
  enum class Kind { kRms, kLayer, kModulated };
  Kind kind;
  TensorView weight;
  TensorView bias;
  float eps;
  TensorView shift, scale, modulation_rows;  // kModulated alone

  static RowNorm rms(const TensorView& w, float eps) { return {Kind::kRms, w, {}, eps, {}, {}, {}}; }
  static RowNorm layer(const TensorView& w, const TensorView& b, float eps) { return {Kind::kLayer, w, b, eps, {}, {}, {}}; }
  static RowNorm modulated(const TensorView& w, const TensorView& b, float eps, const TensorView& shift, const TensorView& scale,
                           const TensorView& modulation_rows) {
    return {Kind::kModulated, w, b, eps, shift, scale, modulation_rows};
  }
};

// ---- paged key/value cache of one layer ----
//
//   keys, values: (blocks, kv_heads, block_tokens, head_dim) kv, contiguous
//   slot of a position = block * block_tokens + position % block_tokens
struct KvLayer {
  TensorView keys;
  TensorView values;
};

// Which cached positions each query row sees: row m attends to positions [0, context_lengths[m]) of the row
// table_rows[m] of block_tables, where block_tables[t][i] is the block of positions [i*block_tokens, ...).
struct PagedContext {
  TensorView block_tables;     // (T, max_blocks) i32
  TensorView table_rows;       // (M) i32
  TensorView context_lengths;  // (M) i32, >= 1
  // For models whose rows mostly stand together and see the same positions. A backend may then round queries and softmax weights to
  // act and multiply them tile by tile. Always the same for a use of an op in a model: it may change a row's bits.
  bool tiled = false;
};

// ---- speculation (docs/speculation.md, Verification) ----
//
// Paths that tokens were drafted by: R rows, one for every step of every draft, all f32 and contiguous.
struct DraftedPaths {
  TensorView states;           // (R, D) x before the step; read by Judge::kChain alone
  TensorView noise;            // (R, D) z the draft drew for it; read by kChain and kGap, else empty or anything
  TensorView draft_velocity;   // (R, D) v_q the draft's step was made with
  TensorView target_velocity;  // (R, D) guided v_p at the same state and time
  TensorView next;             // (R, D) the target's state after the step, without noise; empty where no sequence has kFinished > 0
};

// What decides how many drafts stay.
enum class Judge : int32_t {
  kChain,  // exact: block verification over all steps of all drafts, V4
  kGap,    // relaxed: D = sqrt(sum over steps of d²) at most the tolerance
  kJump,   // relaxed: the largest over steps of (1 - t) |v_p - v_q| / sqrt(D) at most the tolerance
};

// The sequences to judge. Of each, drafts j = 0 ... T - 1 of K steps: row kFirstRow + j K + k of the paths.
struct DraftedSequences {
  enum Word {
    kFirstRow,
    kDrafts,      // T >= 1
    kSteps,       // K >= 1
    kFirstStep,   // row of `steps` for k = 0
    kJudge,
    kFirstDraft,  // of `attempts` and of Verdicts::statistic, for j = 0
    kPending,     // row of Verdicts::pending; rows of different sequences are distinct
    kFinished,    // T or T + 1: `next` holds that many finished tokens of the target, one step each; 0: it holds none
    kSeedLow,
    kSeedHigh,
    kImageToken,  // of draft 0
    kWords
  };
  TensorView words;      // (A, kWords) i32, bit patterns where the value is uint32
  TensorView tolerance;  // (A) f64
  TensorView attempts;   // (N) i32, of every draft: part of the keys of its random numbers; read by kChain
  TensorView steps;      // (S, 4) f32: t, a, b, gamma
};

struct Verdicts {
  TensorView outcome;    // (A, 2) i32: accepted drafts, and the step the next token goes on with (0: it starts from noise)
  TensorView statistic;  // (N) f64, of every draft: D of kGap (kChain's, too), or what kJump compares
  TensorView pending;    // (P, D) f32: the next token's state, where it goes on with a step > 0
};

class Ops {
 public:
  virtual ~Ops() = default;

  // ---- weights ----
  // The parts stacked along the output dimension; all share `in`. Copies what it needs from the host tensors.
  virtual std::unique_ptr<Linear> prepare_linear(std::span<const LinearPart> parts) = 0;
  // The same, of a layer that only ever sees the rows of whole pictures, or of whole passes over them: hundreds at a time, never the few
  // of a decode step. A backend may take another product for these. What decides is this declaration, never how many rows a call has.
  virtual std::unique_ptr<Linear> prepare_picture_linear(std::span<const LinearPart> parts) { return prepare_linear(parts); }
  // weight: (out, in, k, k) any float dtype; bias (out). k is 1 or 3.
  virtual std::unique_ptr<Conv2d> prepare_conv2d(const HostTensor& weight, const HostTensor& bias, ConvPadding padding) = 0;

  // ---- dense ----
  // r = x Wᵀ + b, then the epilogue. x: (M, in) act (f32 also accepted and rounded to act); y: (M, out) f32 or act.
  virtual void linear(const TensorView& x, const Linear& w, const TensorView& y, const Epilogue& epilogue) = 0;
  // y[m] = table[ids[m]]. table: (V, H) f32/bf16/f16; ids: (M); y: (M, H) f32.
  virtual void embed(const TensorView& table, const TensorView& ids, const TensorView& y) = 0;
  // y[m] = x[index[m]]. x: (R, C), y: (M, C), same dtype.
  virtual void gather_rows(const TensorView& x, const TensorView& index, const TensorView& y) = 0;
  // y[index[m]] = x[m]; indices distinct. x: (M, C), y: (R, C), same dtype.
  virtual void scatter_rows(const TensorView& x, const TensorView& index, const TensorView& y) = 0;
  // y = x with conversion between f32 and act; same shape, any rank, contiguous.
  virtual void convert(const TensorView& x, const TensorView& y) = 0;
  // y = a + b, f32, contiguous, same size; y may alias a or b.
  virtual void add(const TensorView& a, const TensorView& b, const TensorView& y) = 0;

  // ---- norms ----
  // y = x / sqrt(mean(x²) + eps) * w. x: (M, C) f32; w: (C) f32; y: (M, C) f32/act, may alias x if f32.
  virtual void rms_norm(const TensorView& x, const TensorView& w, float eps, const TensorView& y) = 0;
  // y = (x - mean) / sqrt(var + eps) * w + b with biased variance; w, b (C) f32 or both empty. y f32/act, may alias x if f32.
  virtual void layer_norm(const TensorView& x, const TensorView& w, const TensorView& b, float eps, const TensorView& y) = 0;
  // y = layer_norm(x; w, b, eps) * (1 + scale) + shift. shift, scale: (M, C) f32 (slices of the modulation), or (T, C) with
  // modulation_rows (M) i32 naming the row for each row of x; y (M, C) f32/act.
  virtual void ada_layer_norm(const TensorView& x, const TensorView& w, const TensorView& b, float eps, const TensorView& shift,
                              const TensorView& scale, const TensorView& modulation_rows, const TensorView& y) = 0;

  // ---- backbone ----
  // y = silu(g) * u with [g | u] = gate_up. gate_up: (M, 2I) f32; y: (M, I) act.
  virtual void silu_mul(const TensorView& gate_up, const TensorView& y) = 0;
  // angle[m][i] = positions[m] * theta^(-2i/d) in float32; cos, sin: (M, d/2) f32. d = 2 * cos.cols().
  virtual void rope_angles(const TensorView& positions, float theta, const TensorView& cos, const TensorView& sin) = 0;
  // Splits qkv, rotates q and k ("rotate half": x1 = x[0:d/2], x2 = x[d/2:d] -> [x1 c - x2 s, x2 c + x1 s]) and
  // stores k, v at slots[m] of the cache. qkv: (M, (nh + 2 nkv) d) f32; q: (M, nh d) f32; slots: (M).
  virtual void rope_store(const TensorView& qkv, const TensorView& cos, const TensorView& sin, const TensorView& slots, const TensorView& q,
                          const KvLayer& kv) = 0;
  // Stores keys and values as they are at slots[m] of the cache, for models without rotary positions.
  // key_values: (M, 2 nkv d) f32, [k | v]; slots: (M), distinct.
  virtual void store_kv(const TensorView& key_values, const TensorView& slots, const KvLayer& kv) = 0;
  // o[m][h] = softmax(q[m][h] · K[kv(h)]ᵀ / sqrt(d)) · V[kv(h)], kv(h) = h / (nh / nkv), softmax in float32.
  // q: (M, nh d) f32; out: (M, nh d) act.
  virtual void paged_attention(const TensorView& q, const KvLayer& kv, const PagedContext& context, const TensorView& out) = 0;
  // out[m] = mean over heads h of E, E = sum over c of -p_c log p_c / log n, p = softmax over c of q[m][h] · K[kv(h)][c] / sqrt(d)
  // for the n = context_lengths[m] - first_keys[m] positions c from first_keys[m] on: 1 where attention is spread evenly,
  // 0 where one position has it all. Rows with n < 2 give 0. q: (M, nh d) f32; first_keys: (M) i32, >= 0 and at most the
  // context length; out: (M) f32. kv.values are not read.
  virtual void attention_entropy(const TensorView& q, const KvLayer& kv, const PagedContext& context, const TensorView& first_keys,
                                 const TensorView& out) = 0;
  // Copies whole blocks: pairs (source, destination), flattened, host memory; no destination is a source.
  virtual void copy_blocks(const KvLayer& kv, std::span<const int32_t> pairs) = 0;

  // ---- ops in a row (composed_ops.cpp) ----
  // What layers do again and again, so that a backend can make it in fewer kernels. Each is the ops it names, one after the other, and
  // has their bits: a backend may take either way, by the number of rows as well. Views in brackets are for what is between the ops;
  // what stands in them afterwards is not defined. No output overlaps an input.
  //
  // The norm that `norm` says, x -> y.
  void row_norm(const TensorView& x, const RowNorm& norm, const TensorView& y);
  // norm: x -> [normed]; linear: normed -> y. x: (M, in) f32; normed: (M, in) act.
  void norm_linear(const TensorView& x, const RowNorm& norm, const TensorView& normed, const Linear& w, const TensorView& y,
                   const Epilogue& epilogue);
  // norm: x -> [normed]; linear: normed -> [qkv]; rope_store: qkv -> q, kv.
  virtual void norm_linear_rope_store(const TensorView& x, const RowNorm& norm, const TensorView& normed, const Linear& w, const TensorView& qkv,
                                      const TensorView& cos, const TensorView& sin, const TensorView& slots, const TensorView& q,
                                      const KvLayer& kv);
  // norm: x -> [normed]; linear: normed -> [gate_up]; silu_mul: gate_up -> y.
  virtual void norm_linear_silu_mul(const TensorView& x, const RowNorm& norm, const TensorView& normed, const Linear& w,
                                    const TensorView& gate_up, const TensorView& y);
  // linear: x -> [projected]; gather_rows: projected, index -> y.
  virtual void linear_gather(const TensorView& x, const Linear& w, const TensorView& projected, const TensorView& index, const TensorView& y);

  // ---- flow head ----
  // y[n] = [cos(t f_0) ... cos(t f_{h-1}), sin(t f_0) ...], f_i = exp(-ln(10000) i / h), h = cols/2. t: (N) f32; y: (N, 2h) f32.
  virtual void timestep_features(const TensorView& t, const TensorView& y) = 0;
  // y[m] = silu(a[a_index[m]] + b[b_index[m]]). a: (A, C) f32; b: (B, C) f32; y: (M, C) act.
  virtual void silu_add(const TensorView& a, const TensorView& a_index, const TensorView& b, const TensorView& b_index,
                        const TensorView& y) = 0;
  // One affine sampler step for A sequences with guidance (nextstep.md 7.3, 7.5), float32:
  //   rows r = row_begin[i] ... row_begin[i+1] - 1 of v are the sequence's 1, 2 or 3 guidance rows (c[, i], u);
  //   g = v_c | v_u + cfg (v_c - v_u) | v_u + cfg_img (v_i - v_u) + cfg (v_c - v_i)
  //   x[state[i]] = coefficients[i].a * x[state[i]] + .b * g + .gamma * noise[noise_index[i]]
  // x: (S, D) f32 in place; v: (R, D) f32; row_begin: (A + 1); state, noise_index: (A);
  // coefficients: (A, 5) f32 = a, b, gamma, cfg, cfg_img; noise: (K, D) f32, not read where gamma = 0.
  virtual void flow_step(const TensorView& x, const TensorView& v, const TensorView& row_begin, const TensorView& state,
                         const TensorView& coefficients, const TensorView& noise, const TensorView& noise_index) = 0;
  // Standard normals, counter based (Philox 4x32-10, Box-Muller; docs/contract.md, Randomness).
  // keys: (M, 5) i32 = seed low, seed high, timestep | purpose << 16, token, attempt (bit patterns of uint32); y: (M, D) f32.
  virtual void philox_normal(const TensorView& keys, const TensorView& y) = 0;

  // ---- speculation ----
  // Judges drafts and begins what follows them, all of a sequence at once, in float64 from float32 inputs:
  //   d_k = |b (v_p - v_q) / gamma|, l_k = (b (v_p - v_q) / gamma) · z - d_k²/2, sums over the D numbers in their order;
  //   kChain: p_k = min(1, p_{k-1} e^l_k), h_k = Z_k / (Z_k + 1 - p_k), Z_k = p_k Phi(log p_k / d + d/2) - Phi(log p_k / d - d/2) with d of
  //           step k + 1, h = p at the last one; the chain ends behind the last k with u_k <= h_k. If it ends within draft j behind its
  //           steps 0 ... i - 1, accepted = j, next step = i + 1, pending = m_q + gamma (xi + s e), e along the step's gap, xi normal and
  //           orthogonal to it, s ~ (p phi(s - d) - phi(s))+ by rejection.
  //   kGap, kJump: accepted = drafts before the first whose statistic is not at most the tolerance; where kFinished > accepted,
  //           next step = 1 and pending = next[kFirstRow + accepted].
  // u, xi and the proposals of s are Philox numbers (speculation/philox_counters.h). Steps of kChain and kGap have gamma > 0.
  virtual void verify_drafts(const DraftedPaths& paths, const DraftedSequences& sequences, const Verdicts& verdicts) = 0;

  // ---- convolutional autoencoder; images are (B, H, W, C), channels last, contiguous ----
  // x: (B, H, W, in) act; y: (B, H', W', out) f32; epilogue kStore or kAdd.
  virtual void conv2d(const TensorView& x, const Conv2d& w, const TensorView& y, const Epilogue& epilogue) = 0;
  // GroupNorm over (H, W, C/groups) per image, then silu if asked. x f32; w, b (C) f32; y f32/act.
  virtual void group_norm(const TensorView& x, const TensorView& w, const TensorView& b, int64_t groups, float eps, bool silu,
                          const TensorView& y) = 0;
  // y = conv2d(u), u[i][j] = x[i/2][j/2]: the nearest neighbour at twice the size. x: (B, H, W, in) f32; y: (B, 2H, 2W, out) f32;
  // w with ConvPadding::kSame.
  virtual void upsample_conv2d(const TensorView& x, const Conv2d& w, const TensorView& y) = 0;
  // Single head over all pixels of one image: softmax(q kᵀ * scale) v. q, k, v: (T, C) f32; out: (T, C) act.
  virtual void dense_attention(const TensorView& q, const TensorView& k, const TensorView& v, float scale, const TensorView& out) = 0;
  // z[i p + a][j p + b][c] = tok[i w + j][c p² + a p + b] / scaling + shift (nextstep.md 8). tokens: (h w, C p²) f32;
  // z: (1, h p, w p, C) f32/act. patch p = z.shape[1] / h with h = grid_height.
  virtual void unpatchify(const TensorView& tokens, int64_t grid_height, float scaling, float shift, const TensorView& z) = 0;
  // The inverse: tok = (z - shift) * scaling. z: (1, h p, w p, C) f32.
  virtual void patchify(const TensorView& z, int64_t grid_height, float scaling, float shift, const TensorView& tokens) = 0;
  // u8 = round_half_even(clamp(y / 2 + 0.5, 0, 1) * 255). y: (1, H, W, 3) f32; rgb: (1, H, W, 3) u8.
  virtual void to_rgb8(const TensorView& y, const TensorView& rgb) = 0;
};

}  // namespace ardiff
