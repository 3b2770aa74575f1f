#include "model/diffusion_decoder.h"

#include <algorithm>

#include "model/class_transformer.h"
#include "model/released_constants.h"

namespace ardiff {

void DiffusionDecoder::embed_times(std::span<const float> times, std::span<const float> ends, const TensorView& modulation, Scratch& scratch) const {
  const Scratch::Frame frame(scratch);
  const auto n = static_cast<int64_t>(times.size());
  const int64_t d = config_.width;
  const TensorView numbers = scratch.take(DType::kF32, {n}), features = scratch.take(DType::kF32, {n, weights_.time_in->in_features});
  const TensorView inner = scratch.take(backend_.activation_dtype(), {n, d}), e = scratch.take(DType::kF32, {n, d});
  // The reference rounds to bfloat16 here whatever it computes in; a model may be told not to.
  const DType rounded = config_.bf16_time_projection ? DType::kBF16 : backend_.activation_dtype();
  const TensorView activated = scratch.take(rounded, {n, d}), m = scratch.take(DType::kF32, {n, 6 * d});
  const auto embed = [&](std::span<const float> values, const Linear& in, const Linear& out, const Epilogue& epilogue) {
    backend_.upload(numbers, values.data());
    backend_.timestep_features(numbers, features);
    backend_.linear(features, in, inner, Epilogue::silu());
    backend_.linear(inner, out, e, epilogue);
  };
  embed(times, *weights_.time_in, *weights_.time_out, Epilogue::store());
  if (is_few_step()) {
    check(ends.size() == times.size(), ErrorCode::kInternal, ends.size(), " ends for ", times.size(), " times");
    std::vector<float> lengths;
    for (size_t i = 0; i < times.size(); ++i) lengths.push_back(times[i] - ends[i]);
    embed(lengths, *weights_.interval_in, *weights_.interval_out, Epilogue::add());
  }
  std::vector<int32_t> own(times.size());
  for (size_t i = 0; i < own.size(); ++i) own[i] = static_cast<int32_t>(i);
  const TensorView nothing = scratch.take(DType::kF32, {1, d});
  const std::vector<float> zeros(static_cast<size_t>(d), 0.0f);
  backend_.upload(nothing, zeros.data());
  backend_.silu_add(e, scratch.index(own), nothing, scratch.index(std::vector<int32_t>(times.size(), 0)), activated);
  backend_.linear(activated, *weights_.time_modulation, m, Epilogue::store());

  // Sums with every block's own table, on the host: once per setting.
  std::vector<float> of_blocks(static_cast<size_t>(n * 6 * d)), of_output(static_cast<size_t>(n * d)), out;
  backend_.download(m, of_blocks.data());
  backend_.download(e, of_output.data());
  out.reserve(static_cast<size_t>(n * modulation_size()));
  for (int64_t i = 0; i < n; ++i) {
    for (const DiffusionBlockWeights& block : weights_.blocks) {
      for (int64_t c = 0; c < 6 * d; ++c) out.push_back(block.modulation[static_cast<size_t>(c)] + of_blocks[static_cast<size_t>(i * 6 * d + c)]);
    }
    for (int64_t c = 0; c < 2 * d; ++c) out.push_back(weights_.final_modulation[static_cast<size_t>(c)] + of_output[static_cast<size_t>(i * d + c % d)]);
  }
  backend_.upload(modulation, out.data());
}

void DiffusionDecoder::store_condition(const TensorView& condition, const TensorView& slots, std::span<const KvLayer> kv, Scratch& scratch) const {
  const Scratch::Frame frame(scratch);
  const TensorView c = scratch.take(backend_.activation_dtype(), condition.shape);
  const TensorView key_values = scratch.take(DType::kF32, {condition.rows(), 2 * config_.width});
  backend_.linear(condition, *weights_.condition, c, Epilogue::store());
  for (size_t i = 0; i < weights_.blocks.size(); ++i) {
    backend_.linear(c, *weights_.blocks[i].cross_kv, key_values, Epilogue::store());
    backend_.store_kv(key_values, slots, kv[i]);
  }
}

DiffusionDecoder::Batch DiffusionDecoder::prepare(std::span<const int32_t> states, std::span<const ConditionRow> conditions, Scratch& scratch) const {
  const int64_t n = config_.latent_tokens();
  const auto rows = static_cast<int64_t>(states.size());
  size_t max_blocks = 1;
  for (const ConditionRow& row : conditions) max_blocks = std::max(max_blocks, row.blocks.size());
  std::vector<int32_t> inputs, slots, table_rows, condition_lengths, own_tables, condition_tables;
  for (int64_t r = 0; r < rows; ++r) {
    const ConditionRow& condition = conditions[static_cast<size_t>(r)];
    own_tables.push_back(static_cast<int32_t>(r));
    condition_tables.insert(condition_tables.end(), condition.blocks.begin(), condition.blocks.end());
    condition_tables.resize(static_cast<size_t>(r + 1) * max_blocks, 0);
    for (int64_t token = 0; token < n; ++token) {
      inputs.push_back(static_cast<int32_t>(states[static_cast<size_t>(r)] * n + token));
      slots.push_back(static_cast<int32_t>(r * n + token));
      table_rows.push_back(static_cast<int32_t>(r));
      condition_lengths.push_back(static_cast<int32_t>(condition.tokens));
    }
  }
  Batch out;
  out.rows = rows;
  out.inputs = scratch.index(inputs);
  out.slots = scratch.index(slots);
  const TensorView tables = scratch.index(table_rows);
  out.own = {scratch.index(own_tables).reshape({rows, 1}), tables,
             scratch.index(std::vector<int32_t>(static_cast<size_t>(rows * n), static_cast<int32_t>(n))), true};
  out.condition = {scratch.index(condition_tables).reshape({rows, static_cast<int64_t>(max_blocks)}), tables, scratch.index(condition_lengths), true};
  return out;
}

void DiffusionDecoder::velocity(const TensorView& x, const Batch& batch, const TensorView& modulation, std::span<const int32_t> times,
                                std::span<const KvLayer> kv, const TensorView& v, Scratch& scratch) const {
  const Scratch::Frame frame(scratch);
  const int64_t n = config_.latent_tokens(), d = config_.width, c = config_.latent_channels, m = batch.rows * n;
  std::vector<int32_t> position_rows, modulation_index;
  for (int64_t s = 0; s < x.rows(); ++s) {
    for (int64_t token = 0; token < n; ++token) position_rows.push_back(static_cast<int32_t>(token));
  }
  for (const int32_t time : times) modulation_index.insert(modulation_index.end(), static_cast<size_t>(n), time);
  const TensorView modulation_rows = scratch.index(modulation_index);
  const TensorView positions = scratch.index(position_rows);
  StretchKey key(owner_);
  key.add(x).add(batch.inputs).add(batch.slots).add(batch.own).add(batch.condition).add(modulation).add(modulation_rows).add(positions).add(kv).add(v);
  scratch.add_place(key);
  backend_.run_stretch(key, [&] {
    // Guidance rows of one latent share its embedded tokens.
    const TensorView embedded = scratch.take(DType::kF32, {x.rows() * n, d}), h = scratch.take(DType::kF32, {m, d});
    backend_.gather_rows(weights_.positions, positions, embedded);
    backend_.linear(x.reshape({x.rows() * n, c}), *weights_.input, embedded, Epilogue::add());
    backend_.gather_rows(embedded, batch.inputs, h);

    // Keys and values of the rows themselves: a block of N positions each, written anew by every block of the network.
    const Shape cache{batch.rows, config_.num_heads, n, config_.head_dim()};
    const KvLayer own{scratch.take(backend_.kv_dtype(), cache), scratch.take(backend_.kv_dtype(), cache)};
    int64_t at = 0;  // column of the block's six parts: shift, scale, gate of attention, then of the MLP
    for (size_t i = 0; i < weights_.blocks.size(); ++i, at += 6 * d) {
      const DiffusionBlockWeights& block = weights_.blocks[i];
      const auto part = [&](int64_t number) { return modulation.col_slice(at + number * d, at + (number + 1) * d); };
      self_attention(h, block, batch, modulation.col_slice(at, at + 3 * d), modulation_rows, own, scratch);
      cross_attention(h, block, batch, kv[i], scratch);
      const Scratch::Frame mlp_frame(scratch);
      const TensorView u = scratch.take(backend_.activation_dtype(), {m, d});
      backend_.ada_layer_norm(h, block.mlp_norm.weight, block.mlp_norm.bias, kNormEps, part(3), part(4), modulation_rows, u);
      add_gelu_mlp(backend_, block.mlp, u, h, Epilogue::gated_add(part(5), modulation_rows), scratch);
    }
    const TensorView u = scratch.take(backend_.activation_dtype(), {m, d});
    backend_.ada_layer_norm(h, {}, {}, kNormEps, modulation.col_slice(at, at + d), modulation.col_slice(at + d, at + 2 * d), modulation_rows, u);
    backend_.linear(u, *weights_.output, v.reshape({m, c}), Epilogue::store());
  });
}

void DiffusionDecoder::self_attention(const TensorView& h, const DiffusionBlockWeights& block, const Batch& batch, const TensorView& modulation,
                                      const TensorView& modulation_rows, const KvLayer& own, Scratch& scratch) const {
  const Scratch::Frame frame(scratch);
  const int64_t d = config_.width;
  const TensorView u = scratch.take(backend_.activation_dtype(), h.shape), out = scratch.take(backend_.activation_dtype(), h.shape);
  const TensorView qkv = scratch.take(DType::kF32, {h.rows(), 3 * d});
  backend_.ada_layer_norm(h, block.self_norm.weight, block.self_norm.bias, kNormEps, modulation.col_slice(0, d), modulation.col_slice(d, 2 * d),
                          modulation_rows, u);
  backend_.linear(u, *block.qkv, qkv, Epilogue::store());
  backend_.store_kv(qkv.col_slice(d, 3 * d), batch.slots, own);
  backend_.paged_attention(qkv.col_slice(0, d), own, batch.own, out);
  backend_.linear(out, *block.self_out, h, Epilogue::gated_add(modulation.col_slice(2 * d, 3 * d), modulation_rows));
}

// Neither modulated nor gated.
void DiffusionDecoder::cross_attention(const TensorView& h, const DiffusionBlockWeights& block, const Batch& batch, const KvLayer& kv,
                                       Scratch& scratch) const {
  const Scratch::Frame frame(scratch);
  const TensorView u = scratch.take(backend_.activation_dtype(), h.shape), out = scratch.take(backend_.activation_dtype(), h.shape);
  const TensorView q = scratch.take(DType::kF32, h.shape);
  backend_.layer_norm(h, block.cross_norm.weight, block.cross_norm.bias, kNormEps, u);
  backend_.linear(u, *block.cross_q, q, Epilogue::store());
  backend_.paged_attention(q, kv, batch.condition, out);
  backend_.linear(out, *block.cross_out, h, Epilogue::add());
}

}  // namespace ardiff
