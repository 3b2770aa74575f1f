#include "engine/nextstep_engine.h"


namespace ardiff {

NextStepEngine::NextStepEngine(Backend& backend, const std::filesystem::path& directory, const LoadOptions& options)
    : Engine(backend), config_(read_nextstep_config(directory)) {
  check(options.kv_blocks >= 1 && options.kv_blocks <= (1 << 26), ErrorCode::kInvalidArgument, "kvBlocks ", options.kv_blocks, " is out of range");
  check(options.max_step_tokens >= 3 && options.max_step_tokens <= (1 << 20), ErrorCode::kInvalidArgument, "maxStepTokens ",
        options.max_step_tokens, " is out of range");
  check(options.caches, ErrorCode::kInvalidArgument, "caches: false is for TransDiff models");
  max_step_tokens_ = options.max_step_tokens;
  const VaeConfig vae_config = read_vae_config(config_.vae_directory);
  check(vae_config.latent_channels == config_.image.latent_channels, ErrorCode::kInvalidModel, "vae/config.json: z_channels ",
        vae_config.latent_channels, " differs from the model's ", config_.image.latent_channels, " latent channels");
  const Checkpoint checkpoint(directory, "model", options.progress);
  if (!std::filesystem::exists(config_.vae_directory / "model.safetensors") && std::filesystem::exists(config_.vae_directory / "checkpoint.pt")) {
    fail(ErrorCode::kInvalidModel, "vae/checkpoint.pt is a pickle, which is not loaded; convert it once with `npm run convert -- DIR`");
  }
  const Checkpoint vae_checkpoint(config_.vae_directory, "model", options.progress);

  backbone_ = std::make_unique<Backbone>(backend_, config_.backbone, load_backbone(backend_, checkpoint, config_));
  sampler_ = std::make_unique<TokenSampler>(backend_, scratch_, FlowHead(backend_, load_flow_head(backend_, checkpoint, config_)));
  vae_ = std::make_unique<Vae>(backend_, vae_checkpoint, vae_config);
  if (!options.accelerator.empty()) load_accelerator(options.accelerator, options.progress);
  kv_ = std::make_unique<KvCache>(backend_, config_.backbone, options.kv_blocks, info_.accelerator.draft_layers);
  hidden_ = std::make_unique<RowPool>(backend_, config_.backbone.hidden_size);
  tokens_ = std::make_unique<RowPool>(backend_, config_.image.token_size());
  conditions_ = std::make_unique<Conditions>(backend_, scratch_, config_, *backbone_->weights().image_out);
  store_ = std::make_unique<TokenStore>(backend_, scratch_, *tokens_);
  paths_ = std::make_unique<DraftPaths>(backend_, config_.image.token_size());
  verification_ = std::make_unique<Verification>(backend_, scratch_, *conditions_, *hidden_, *tokens_, *paths_);
  if (draft_) drafter_ = std::make_unique<ModelDrafter>(draft_parts());

  info_.family = "nextstep";
  info_.hidden_size = config_.backbone.hidden_size;
  info_.num_layers = config_.backbone.num_layers;
  info_.vocab_size = config_.backbone.vocab_size;
  info_.token_size = config_.image.token_size();
  info_.latent_channels = config_.image.latent_channels;
  info_.latent_patch_size = config_.image.latent_patch_size;
  info_.pixel_factor = vae_config.factor() * config_.image.latent_patch_size;
  info_.max_positions = config_.backbone.max_positions;
  info_.boi_token_id = config_.image.boi_token_id;
  info_.image_placeholder_id = config_.image.image_placeholder_id;
  info_.block_tokens = KvCache::kBlockTokens;
  info_.block_bytes = KvCache::block_bytes(backend_, KvCache::shape_of(config_.backbone, info_.accelerator.draft_layers));
  info_.kv_blocks = options.kv_blocks;
  info_.parameters = checkpoint.parameters() + vae_checkpoint.parameters();
  info_.weight_bytes = static_cast<int64_t>(checkpoint.bytes() + vae_checkpoint.bytes());
}

NextStepEngine::~NextStepEngine() = default;

// Whichever of the two files is there.
void NextStepEngine::load_accelerator(const std::filesystem::path& directory, const std::shared_ptr<LoadProgress>& progress) {
  const bool has_draft = std::filesystem::exists(directory / "draft.safetensors");
  const bool has_few_step = std::filesystem::exists(directory / "few_step.safetensors");
  check(has_draft || has_few_step, ErrorCode::kInvalidModel, directory.string(), ": neither draft.safetensors nor few_step.safetensors");
  AcceleratorInfo& info = info_.accelerator;
  if (has_draft) {
    const Checkpoint checkpoint(directory, "draft", progress);
    draft_ = std::make_unique<DraftModel>(backend_, config_.backbone, load_draft(backend_, checkpoint, config_));
    info.draft_layers = draft_->num_layers();
    // By any of its tensors: a head of which one is missing is an error.
    info.draft_head = checkpoint.find("head.net.cond_embed.weight") || checkpoint.count_numbered("head.net.res_blocks.") > 0;
    if (info.draft_head) {
      draft_head_ = std::make_unique<TokenSampler>(backend_, scratch_, FlowHead(backend_, load_accelerator_head(backend_, checkpoint, "head.net.", config_)));
      check(!draft_head_->head().is_few_step(), ErrorCode::kInvalidModel, checkpoint.label(), ": the draft's head is a few-step head");
    }
    info.parameters += checkpoint.parameters();
  }
  if (has_few_step) {
    const Checkpoint checkpoint(directory, "few_step", progress);
    few_step_ = std::make_unique<TokenSampler>(backend_, scratch_, FlowHead(backend_, load_accelerator_head(backend_, checkpoint, "image_head.net.", config_)));
    check(few_step_->head().is_few_step(), ErrorCode::kInvalidModel, checkpoint.label(), ": the few-step head has no interval_embed");
    info.few_step = true;
    info.parameters += checkpoint.parameters();
  }
}

DraftParts NextStepEngine::draft_parts() {
  return {backend_, scratch_, *draft_, *backbone_->weights().image_in, *conditions_, *store_, *kv_, *hidden_, *tokens_, draft_head_.get(), few_step_.get()};
}

PlanLimits NextStepEngine::limits() const {
  return {kv_->num_blocks(),      max_step_tokens_, info_.max_positions, info_.vocab_size, info_.token_size, static_cast<int32_t>(info_.boi_token_id),
          static_cast<int32_t>(info_.image_placeholder_id),  info_.accelerator};
}

void NextStepEngine::check_step(const StepPlan& plan) const { check_plan(plan, sequences_, limits()); }

void NextStepEngine::run_step(const StepPlan& plan, StepResult& result) {
  kv_->copy(plan.copies);
  run_rounds(plan, result);
  read_tokens(plan, result);
  decode_images(plan, result);
}

void NextStepEngine::release_all() {
  while (!sequences_.empty()) release(sequences_.begin()->first);
}

void NextStepEngine::admit(const SequenceSpec& spec) {
  // In the map before it owns anything, so that release() finds whatever was taken when a later line throws.
  Sequence& sequence = sequences_.insert_or_assign(spec.id, Sequence{}).first->second;
  sequence.spec = spec;
  sequence.spec.sampler = sampler_of(spec);
  sequence.timesteps = sampler_for(sequence).timesteps(sequence.spec.sampler);
  const int64_t num_tokens = spec.grid_height * spec.grid_width;
  if (spec.speculation) {
    sequence.draft_timesteps = (spec.few_step > 0 ? *few_step_ : *draft_head_).timesteps(sequence.spec.sampler);
    sequence.speculation.emplace();
    sequence.pending_row = tokens_->take(1);
    if (spec.few_step == 1) sequence.picture_rows = tokens_->take(num_tokens);
    sequence.speculation->attempts.resize(static_cast<size_t>(num_tokens));
    sequence.speculation->target_entropy = speculation::initial_average(spec.speculation->gate);
  }
  const auto input_tokens = static_cast<int64_t>(spec.input_image_tokens.size()) / info_.token_size;
  sequence.input_rows = tokens_->take(input_tokens);
  sequence.token_rows = tokens_->take(num_tokens);
  sequence.hidden_rows = hidden_->take(static_cast<int64_t>(spec.prompt_rows.size()) * (spec.speculation ? num_tokens : 1));
  for (const auto& prompt : spec.prompt_rows) {
    GuidanceRow row;
    row.prompt = prompt;
    size_t next_input = 0;
    for (const int32_t id : prompt) {
      const bool placeholder = id == info_.image_placeholder_id && !sequence.input_rows.empty();
      row.image_rows.push_back(placeholder ? sequence.input_rows[next_input++] : -1);
    }
    sequence.rows.push_back(std::move(row));
  }
  if (input_tokens > 0) {
    const Scratch::Frame frame(scratch_);
    const TensorView staged = scratch_.take(DType::kF32, {input_tokens, info_.token_size});
    backend_.upload(staged, spec.input_image_tokens.data());
    backend_.scatter_rows(staged, scratch_.index(sequence.input_rows), tokens_->view());
  }
  sequence.cancelled = cancel_flags_.add(spec.id);
}

void NextStepEngine::release(uint32_t id) {
  const auto found = sequences_.find(id);
  tokens_->give_back(found->second.input_rows);
  tokens_->give_back(found->second.token_rows);
  tokens_->give_back(found->second.picture_rows);
  tokens_->give_back(found->second.pending_row);
  hidden_->give_back(found->second.hidden_rows);
  cancel_flags_.remove(id);
  sequences_.erase(found);
}

}  // namespace ardiff
