// What every op of ops.h asks of its arguments, checked once for all backends: rank, shape, dtype, stride.
// Pointers are never followed (the memory may be on a device), so index values are the caller's business.
// A violation is a bug above the backend and throws kInternal naming op, argument, expected and actual;
// weights that do not fit together throw kInvalidModel.
#pragma once

#include <span>

#include "backend/ops.h"

namespace ardiff::op_checks {

void prepare_linear(std::span<const LinearPart> parts);
void prepare_conv2d(const HostTensor& weight, const HostTensor& bias, ConvPadding padding);

void linear(const TensorView& x, const Linear& w, const TensorView& y, const Epilogue& epilogue);
void embed(const TensorView& table, const TensorView& ids, const TensorView& y);
void gather_rows(const TensorView& x, const TensorView& index, const TensorView& y);
void scatter_rows(const TensorView& x, const TensorView& index, const TensorView& y);
void convert(const TensorView& x, const TensorView& y);
void add(const TensorView& a, const TensorView& b, const TensorView& y);

void rms_norm(const TensorView& x, const TensorView& w, const TensorView& y);
void layer_norm(const TensorView& x, const TensorView& w, const TensorView& b, const TensorView& y);
void ada_layer_norm(const TensorView& x, const TensorView& w, const TensorView& b, const TensorView& shift, const TensorView& scale,
                    const TensorView& modulation_rows, const TensorView& y);

void silu_mul(const TensorView& gate_up, const TensorView& y);
void rope_angles(const TensorView& positions, const TensorView& cos, const TensorView& sin);
void rope_store(const TensorView& qkv, const TensorView& cos, const TensorView& sin, const TensorView& slots, const TensorView& q,
                const KvLayer& kv);
void store_kv(const TensorView& key_values, const TensorView& slots, const KvLayer& kv);
void paged_attention(const TensorView& q, const KvLayer& kv, const PagedContext& context, const TensorView& out);
void attention_entropy(const TensorView& q, const KvLayer& kv, const PagedContext& context, const TensorView& first_keys, const TensorView& out);
void copy_blocks(const KvLayer& kv, std::span<const int32_t> pairs);

void timestep_features(const TensorView& t, const TensorView& y);
void silu_add(const TensorView& a, const TensorView& a_index, const TensorView& b, const TensorView& b_index, const TensorView& y);
void flow_step(const TensorView& x, const TensorView& v, const TensorView& row_begin, const TensorView& state,
               const TensorView& coefficients, const TensorView& noise, const TensorView& noise_index);
void philox_normal(const TensorView& keys, const TensorView& y);

void verify_drafts(const DraftedPaths& paths, const DraftedSequences& sequences, const Verdicts& verdicts);

void conv2d(const TensorView& x, const Conv2d& w, const TensorView& y, const Epilogue& epilogue);
void group_norm(const TensorView& x, const TensorView& w, const TensorView& b, int64_t groups, const TensorView& y);
void upsample_conv2d(const TensorView& x, const Conv2d& w, const TensorView& y);
void dense_attention(const TensorView& q, const TensorView& k, const TensorView& v, const TensorView& out);
// Either direction of the patch permutation; returns the patch size.
int64_t patches(const char* op, const TensorView& tokens, int64_t grid_height, const TensorView& z);
void to_rgb8(const TensorView& y, const TensorView& rgb);

}  // namespace ardiff::op_checks
