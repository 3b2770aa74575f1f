// Drafts that the target itself would draw, computed by a copy of it with a cache of its own (so nothing is shared with
// what is tested but the drawn tokens), or drafts a stated distance from them.
#pragma once

#include <functional>
#include <random>

#include "engine/drafter.h"
#include "model/weights.h"

namespace ardiff::testing_support {

class TargetDrafter final : public Drafter {
 public:
  // How far the feature that a draft is drawn from is off the target's, per number; 0 draws the target's own token.
  using Spread = std::function<float(const Sequence&, int64_t token)>;

  TargetDrafter(const DraftParts& parts, const std::filesystem::path& model, Spread spread = [](const Sequence&, int64_t) { return 0.0f; })
      : p_(parts),
        config_(read_nextstep_config(model)),
        checkpoint_(model, "model"),
        backbone_(parts.backend, config_.backbone, load_backbone(parts.backend, checkpoint_, config_)),
        sampler_(parts.backend, parts.scratch, FlowHead(parts.backend, load_flow_head(parts.backend, checkpoint_, config_))),
        kv_(parts.backend, config_.backbone, kBlocks),
        spread_(std::move(spread)) {}

  std::vector<Drafts> draft(std::span<const DraftRequest> requests, const PathRecord& paths) override {
    std::vector<Drafts> out(requests.size());
    for (size_t i = 0; i < requests.size(); ++i) {
      int32_t row = requests[i].first_row;
      for (int64_t j = 0; j < requests[i].max_tokens; ++j) row += draw(*requests[i].sequence, requests[i].sequence->emitted + j, paths, row);
      out[i].tokens = requests[i].max_tokens;
    }
    return out;
  }

 private:
  static constexpr int64_t kBlocks = 16;

  TensorView index(const std::vector<int32_t>& values) const {
    const TensorView view = p_.scratch.take(DType::kI32, {static_cast<int64_t>(values.size())});
    p_.backend.upload(view, values.data());
    return view;
  }

  // The state that `token` is drawn from: prompt and tokens before it, all at once. (1, H)
  void feature(const Sequence& sequence, size_t row, int64_t token, const TensorView& out) {
    const Scratch::Frame frame(p_.scratch);
    const std::vector<int32_t>& prompt = sequence.rows[row].prompt;
    const auto text = static_cast<int64_t>(prompt.size()), m = text + token;
    const TensorView x = p_.scratch.take(DType::kF32, {m, out.cols()});
    p_.backend.embed(backbone_.weights().embed_tokens, index(prompt), x.row_slice(0, text));
    if (token > 0) {
      const TensorView inputs = p_.scratch.take(DType::kF32, {token, p_.tokens.view().cols()});
      p_.backend.gather_rows(p_.tokens.view(), index({sequence.token_rows.begin(), sequence.token_rows.begin() + token}), inputs);
      p_.backend.linear(inputs, *backbone_.weights().image_in, x.row_slice(text, m), Epilogue::store());
    }
    std::vector<int32_t> positions, lengths, blocks;
    for (int32_t position = 0; position < m; ++position) {
      positions.push_back(position);
      lengths.push_back(position + 1);
    }
    for (int32_t block = 0; block < kBlocks; ++block) blocks.push_back(block);
    const TensorView slots = index(positions);
    const BackboneBatch batch{slots, slots, {index(blocks).reshape({1, kBlocks}), index(std::vector<int32_t>(static_cast<size_t>(m), 0)), index(lengths)}};
    backbone_.forward(x, batch, kv_.layers(), p_.scratch);
    backbone_.final_norm(x.row_slice(m - 1, m), out);
  }

  // Its path goes to rows `first` and on; returns how many.
  int32_t draw(const Sequence& sequence, int64_t token, const PathRecord& paths, int32_t first) {
    const Scratch::Frame frame(p_.scratch);
    const bool few_step = sequence.spec.few_step > 0;
    const TokenSampler& sampler = few_step ? *p_.few_step : sampler_;
    const std::shared_ptr<const TimestepTable> table = few_step ? sequence.timesteps : sampler_.timesteps(sequence.spec.sampler);
    const auto rows = static_cast<int64_t>(sequence.rows.size());
    const TensorView hidden = p_.scratch.take(DType::kF32, {rows, p_.hidden.view().cols()});
    for (int64_t r = 0; r < rows; ++r) feature(sequence, static_cast<size_t>(r), token, hidden.row_slice(r, r + 1));
    if (const float spread = spread_(sequence, token); spread > 0) {
      std::vector<float> values(static_cast<size_t>(hidden.shape.size()));
      p_.backend.download(hidden, values.data());
      std::mt19937 noise(static_cast<uint32_t>(sequence.spec.seed * 1000 + static_cast<uint64_t>(token)));
      for (float& value : values) value += spread * (static_cast<float>(noise()) * 0x1p-31f - 1.0f);
      p_.backend.upload(hidden, values.data());
    }
    const TensorView condition = p_.conditions.embed(hidden, std::vector<int32_t>(static_cast<size_t>(rows), static_cast<int32_t>(token)), sampler.head());
    const TensorView x = p_.scratch.take(DType::kF32, {1, p_.tokens.view().cols()});
    const PathRecord record{paths.states, paths.velocity, few_step ? TensorView() : paths.noise};
    const auto num_rows = static_cast<int32_t>(rows);
    const TokenDraw only{&sequence, table.get(), token, sequence.attempt(token), 0, num_rows, 0, first};
    sampler.sample({&only, 1}, condition, x, &record);
    // What was recorded is one row's; the path was made with the guided one.
    const PathPoints points{&sequence, table.get(), token, 0, num_rows, first};
    sampler.evaluate({&points, 1}, condition, paths.states, paths.velocity, {});
    const Sequence* owner = &sequence;
    p_.store.write(x, {&owner, 1}, {&token, 1}, TokenStore::Place::kContext);
    return static_cast<int32_t>(table->steps.size());
  }

  DraftParts p_;
  NextStepConfig config_;
  Checkpoint checkpoint_;
  Backbone backbone_;
  TokenSampler sampler_;
  KvCache kv_;
  Spread spread_;
};

}  // namespace ardiff::testing_support
