#include "engine/class_features.h"

#include <algorithm>

namespace ardiff {

namespace {

// Of a released model a class takes about 1 MB: this holds the popular ones.
constexpr int64_t kKeptBytes = int64_t{256} << 20;

}  // namespace

ClassFeatures::ClassFeatures(Backend& backend, Scratch& scratch, const TransDiffConfig& config, const ClassTransformer& transformer,
                             const DiffusionDecoder& decoder, const DiffusionDecoder* few_step, bool keep_classes)
    : backend_(backend),
      scratch_(scratch),
      config_(config),
      transformer_(transformer),
      decoder_(decoder),
      few_step_(few_step),
      keep_classes_(keep_classes) {
  if (config.multi_reference) return;
  one_class_ = std::make_unique<KvCache>(backend, KvShape{config.transformer_blocks, config.num_heads, config.positions(), config.head_dim()}, 1);
}

KvShape ClassFeatures::kv_shape(const TransDiffConfig& config, int64_t few_step_blocks) {
  return {config.multi_reference ? config.transformer_blocks : 0, config.num_heads, config.block_tokens(), config.head_dim(),
          config.diffusion_blocks + few_step_blocks};
}

int64_t ClassFeatures::compute(std::span<const Request> requests, const TensorView& latents, const KvCache& kv, const TensorView& features,
                               std::span<const TensorView> conditions) {
  if (requests.empty()) return 0;
  const Scratch::Frame frame(scratch_);
  if (config_.multi_reference) return run_passes(requests, latents, kv, features, conditions);
  int64_t rows = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (!keep_classes_) kept_.clear();
    const TensorView& condition = features_of_class(requests[i].label, rows);
    store(requests.subspan(i, 1), condition, kv);
    if (!conditions.empty()) backend_.convert(condition, conditions[i]);  // copies, both
    if (features) {
      const auto m = config_.pass_tokens;
      backend_.convert(condition, features.row_slice(static_cast<int64_t>(i) * m, static_cast<int64_t>(i + 1) * m));
    }
  }
  return rows;
}

// Rows of the pass: class and mask tokens of those that begin, then all references.
int64_t ClassFeatures::run_passes(std::span<const Request> requests, const TensorView& latents, const KvCache& kv, const TensorView& features,
                                  std::span<const TensorView> conditions) {
  const int64_t b = config_.block_tokens(), first_rows = config_.positions_of_pass(0), m = config_.pass_tokens, d = config_.width;
  std::vector<int32_t> classes, slots, table_rows, lengths, tables;
  size_t max_blocks = 0;
  for (const Request& request : requests) max_blocks = std::max(max_blocks, request.blocks.size());
  const auto add_row = [&](size_t index, int64_t position, int64_t sees) {
    slots.push_back(KvCache::slot(requests[index].blocks, position, b));
    table_rows.push_back(static_cast<int32_t>(index));
    lengths.push_back(static_cast<int32_t>(sees));
  };
  for (size_t i = 0; i < requests.size(); ++i) {
    tables.insert(tables.end(), requests[i].blocks.begin(), requests[i].blocks.end());
    tables.resize((i + 1) * max_blocks, 0);
    if (requests[i].first > 0) continue;
    classes.push_back(requests[i].label);
    for (int64_t p = 0; p < first_rows; ++p) add_row(i, p, p < config_.class_tokens ? config_.class_tokens : first_rows);
  }
  std::vector<int64_t> reference_rows(requests.size());  // where each request's references begin
  const auto all_first = static_cast<int64_t>(slots.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    reference_rows[i] = static_cast<int64_t>(slots.size());
    for (int64_t pass = std::max<int64_t>(1, requests[i].first); pass < requests[i].end; ++pass) {
      for (int64_t token = 0; token < m; ++token) add_row(i, config_.positions_of_pass(pass - 1) + token, config_.positions_of_pass(pass));
    }
  }
  const auto total = static_cast<int64_t>(slots.size());
  const TensorView x = scratch_.take(DType::kF32, {total, d}), out = scratch_.take(DType::kF32, {total, d});
  if (all_first > 0) transformer_.embed_first(classes, x.row_slice(0, all_first), scratch_);
  for (size_t i = 0; i < requests.size(); ++i) {
    int64_t row = reference_rows[i];
    for (int64_t pass = std::max<int64_t>(1, requests[i].first); pass < requests[i].end; ++pass, row += m) {
      const int64_t latent = requests[i].latents[static_cast<size_t>(pass - 1)];
      transformer_.embed_reference(latents.row_slice(latent, latent + 1).reshape({1, config_.grid, config_.grid, config_.latent_channels}), pass,
                                   x.row_slice(row, row + m), scratch_);
    }
  }
  const PagedContext context{scratch_.index(tables).reshape({static_cast<int64_t>(requests.size()), static_cast<int64_t>(max_blocks)}),
                             scratch_.index(table_rows), scratch_.index(lengths), true};
  transformer_.forward(x, scratch_.index(slots), context, kv.layers(), out, scratch_);

  // Into the order of requests and tokens, without the class tokens.
  std::vector<int32_t> rows, tokens;
  int64_t begun = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    int64_t reference = reference_rows[i];
    for (int64_t pass = requests[i].first; pass < requests[i].end; ++pass) {
      const int64_t from = pass == 0 ? begun * first_rows + config_.class_tokens : reference;
      for (int64_t token = 0; token < m; ++token) {
        rows.push_back(static_cast<int32_t>(from + token));
        tokens.push_back(static_cast<int32_t>(pass * m + token));
      }
      if (pass > 0) reference += m;
    }
    if (requests[i].first == 0) ++begun;
  }
  const TensorView ordered = features ? features : scratch_.take(DType::kF32, {static_cast<int64_t>(rows.size()), d});
  const TensorView condition = scratch_.take(DType::kF32, ordered.shape);
  backend_.gather_rows(out, scratch_.index(rows), ordered);
  transformer_.add_positions(ordered, tokens, condition, scratch_);
  store(requests, condition, kv);
  int64_t at = 0;
  for (const TensorView& one : conditions) {
    backend_.convert(condition.row_slice(at, at + one.rows()), one);  // a copy
    at += one.rows();
  }
  return total;
}

const TensorView& ClassFeatures::features_of_class(int32_t label, int64_t& rows_run) {
  const auto found = std::find_if(kept_.begin(), kept_.end(), [label](const Kept& one) { return one.label == label; });
  if (found != kept_.end()) {
    kept_.splice(kept_.begin(), kept_, found);
    return kept_.front().condition.view;
  }
  const int64_t rows = config_.positions(), m = config_.pass_tokens, d = config_.width;
  Kept fresh{label, backend_.make(DType::kF32, {m, d})};
  const Scratch::Frame frame(scratch_);
  const TensorView x = scratch_.take(DType::kF32, {rows, d}), out = scratch_.take(DType::kF32, {rows, d});
  std::vector<int32_t> slots, tokens;
  for (int64_t p = 0; p < rows; ++p) slots.push_back(static_cast<int32_t>(p));
  for (int64_t token = 0; token < m; ++token) tokens.push_back(static_cast<int32_t>(token));
  const auto everywhere = [&](int64_t value) { return scratch_.index(std::vector<int32_t>(static_cast<size_t>(rows), static_cast<int32_t>(value))); };
  const PagedContext context{scratch_.index({0}).reshape({1, 1}), everywhere(0), everywhere(rows), true};
  transformer_.embed_first({&label, 1}, x, scratch_);
  transformer_.forward(x, scratch_.index(slots), context, one_class_->layers(), out, scratch_);
  transformer_.add_positions(out.row_slice(config_.class_tokens, rows), tokens, fresh.condition, scratch_);
  rows_run += rows;
  const auto most = static_cast<size_t>(std::max<int64_t>(2, kKeptBytes / (m * d * static_cast<int64_t>(sizeof(float)))));
  while (kept_.size() >= most) kept_.pop_back();
  kept_.push_front(std::move(fresh));
  return kept_.front().condition.view;
}

// condition: (M, D) f32, the requests' condition tokens in order.
void ClassFeatures::store(std::span<const Request> requests, const TensorView& condition, const KvCache& kv) {
  const auto store_for = [&](const DiffusionDecoder& decoder, std::span<const KvLayer> layers, auto&& wants) {
    const Scratch::Frame frame(scratch_);
    std::vector<int32_t> rows, slots;
    int32_t row = 0;
    for (const Request& request : requests) {
      for (int64_t token = request.first * config_.pass_tokens; token < request.end * config_.pass_tokens; ++token, ++row) {
        if (!wants(request)) continue;
        rows.push_back(row);
        slots.push_back(KvCache::slot(request.blocks, config_.class_tokens + token, config_.block_tokens()));
      }
    }
    if (rows.empty()) return;
    TensorView wanted = condition;
    if (static_cast<int64_t>(rows.size()) < condition.rows()) {
      wanted = scratch_.take(DType::kF32, {static_cast<int64_t>(rows.size()), condition.cols()});
      backend_.gather_rows(condition, scratch_.index(rows), wanted);
    }
    decoder.store_condition(wanted, scratch_.index(slots), layers, scratch_);
  };
  store_for(decoder_, model_layers(kv), [](const Request& request) { return request.for_model; });
  if (few_step_ != nullptr) store_for(*few_step_, few_step_layers(kv), [](const Request& request) { return request.for_few_step; });
}

}  // namespace ardiff
