#include "model/flow_head.h"

#include "model/released_constants.h"

namespace ardiff {

void FlowHead::embed_times(std::span<const float> t, std::span<const float> r, const TensorView& tau, Scratch& scratch) const {
  const auto n = static_cast<int64_t>(t.size());
  const Scratch::Frame frame(scratch);
  const TensorView numbers = scratch.take(DType::kF32, {n});
  const TensorView features = scratch.take(DType::kF32, {n, weights_.time_in->in_features});
  const TensorView inner = scratch.take(backend_.activation_dtype(), {n, width_});
  const auto embed = [&](std::span<const float> values, const Linear& in, const Linear& out, const Epilogue& epilogue) {
    backend_.upload(numbers, values.data());
    backend_.timestep_features(numbers, features);
    backend_.linear(features, in, inner, Epilogue::silu());
    backend_.linear(inner, out, tau, epilogue);
  };
  embed(t, *weights_.time_in, *weights_.time_out, Epilogue::store());
  if (!is_few_step()) return;
  check(r.size() == t.size(), ErrorCode::kInternal, r.size(), " ends for ", t.size(), " times");
  std::vector<float> lengths;
  lengths.reserve(t.size());
  for (size_t i = 0; i < t.size(); ++i) lengths.push_back(r[i] - t[i]);
  embed(lengths, *weights_.interval_in, *weights_.interval_out, Epilogue::add());
}

void FlowHead::embed_condition(const TensorView& c, const TensorView& y) const {
  backend_.linear(c, *weights_.condition, y, Epilogue::store());
}

void FlowHead::modulate(const TensorView& tau, const TensorView& tau_index, const TensorView& condition, const TensorView& condition_index,
                        const TensorView& modulation, Scratch& scratch) const {
  const Scratch::Frame frame(scratch);
  const TensorView g = scratch.take(backend_.activation_dtype(), {modulation.rows(), width_});
  backend_.silu_add(tau, tau_index, condition, condition_index, g);
  backend_.linear(g, *weights_.modulation, modulation, Epilogue::store());
}

void FlowHead::velocity(const TensorView& x, const TensorView& x_row, const TensorView& modulation, const TensorView& v,
                        Scratch& scratch) const {
  StretchKey key(owner_);
  key.add(x).add(x_row).add(modulation).add(v);
  scratch.add_place(key);
  backend_.run_stretch(key, [&] {
    const int64_t r = modulation.rows(), w = width_;
    const DType act = backend_.activation_dtype();
    const Scratch::Frame frame(scratch);
    const TensorView projected = scratch.take(DType::kF32, {x.rows(), w});
    const TensorView h = scratch.take(DType::kF32, {r, w});
    const TensorView u = scratch.take(act, {r, w});
    backend_.linear_gather(x, *weights_.input, projected, x_row, h);
    int64_t at = 0;  // column of the current block's shift | scale | gate
    const auto modulated = [&](const TensorView& weight, const TensorView& bias) {
      return RowNorm::modulated(weight, bias, kNormEps, modulation.col_slice(at, at + w), modulation.col_slice(at + w, at + 2 * w), {});
    };
    for (const FlowHeadBlockWeights& block : weights_.blocks) {
      const Scratch::Frame inner_frame(scratch);
      const TensorView inner = scratch.take(act, {r, block.up->out_features});
      backend_.norm_linear(h, modulated(block.norm_weight, block.norm_bias), u, *block.up, inner, Epilogue::silu());
      backend_.linear(inner, *block.down, h, Epilogue::gated_add(modulation.col_slice(at + 2 * w, at + 3 * w)));
      at += 3 * w;
    }
    backend_.norm_linear(h, modulated({}, {}), u, *weights_.output, v, Epilogue::store());
  });
}

}  // namespace ardiff
