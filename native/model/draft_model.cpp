#include "model/draft_model.h"

namespace ardiff {

void DraftModel::forward(const TensorView& features, const TensorView& inputs, const BackboneBatch& batch, std::span<const KvLayer> kv,
                         const TensorView& out, Scratch& scratch, const EntropyProbe* probe) const {
  StretchKey key(owner_);
  key.add(features).add(inputs).add(batch.positions).add(batch.slots).add(batch.context).add(kv).add(out);
  if (probe != nullptr) key.add(probe->first_keys).add(std::span<const TensorView>(probe->entropy));
  scratch.add_place(key);
  backend_.run_stretch(key, [&] {
    const int64_t m = features.rows(), h = hidden_size_;
    const DType act = backend_.activation_dtype();
    const Scratch::Frame frame(scratch);
    const TensorView pair = scratch.take(act, {m, 2 * h});
    const TensorView z = scratch.take(DType::kF32, {m, h});
    const TensorView normed = scratch.take(act, {m, h});
    backend_.rms_norm(features, feature_norm_, eps_, pair.col_slice(0, h));
    backend_.rms_norm(inputs, token_norm_, eps_, pair.col_slice(h, 2 * h));
    backend_.linear(pair, *fuse_, z, Epilogue::store());
    blocks_.forward(z, batch, kv, scratch, probe);
    blocks_.final_norm(z, normed);
    backend_.convert(features, out);  // same dtype: a copy
    backend_.linear(normed, *out_, out, Epilogue::add());
  });
}

}  // namespace ardiff
