#include "engine/transdiff_engine.h"

#include <algorithm>
#include <limits>

#include "engine/decode_picture.h"
#include "engine/stopwatch.h"

namespace ardiff {

namespace {

const LoadOptions& checked(const LoadOptions& options) {
  const int64_t pool = options.kv_pictures > 0 ? options.kv_pictures : options.kv_blocks;
  check(pool >= 1 && pool <= (1 << 20), ErrorCode::kInvalidArgument, "kvBlocks ", options.kv_blocks, " or kvPictures ", options.kv_pictures, " is out of range");
  check(options.max_step_tokens >= 1 && options.max_step_tokens <= (1 << 20), ErrorCode::kInvalidArgument, "maxStepTokens ",
        options.max_step_tokens, " is out of range");
  // A draft is judged along its path from keys and values that are there.
  check(options.caches || options.accelerator.empty(), ErrorCode::kInvalidArgument, "caches: false is for a model without its accelerator");
  return options;
}

// Every picture takes the same: two rows, all positions.
int64_t pool_blocks(const LoadOptions& options, const TransDiffConfig& config) {
  constexpr int64_t kRows = 2;
  const int64_t blocks = options.kv_pictures > 0 ? options.kv_pictures * kRows * KvCache::blocks_for(config.positions(), config.block_tokens()) : options.kv_blocks;
  // A slot of the cache is an int32.
  check(blocks <= std::numeric_limits<int32_t>::max() / config.block_tokens(), ErrorCode::kInvalidArgument, "a KV cache of ", blocks, " blocks of ",
        config.block_tokens(), " positions is too large");
  return blocks;
}

// "model", or the name of the only safetensors file there.
std::string vae_stem(const std::filesystem::path& directory) {
  if (std::filesystem::exists(directory / "model.safetensors") || std::filesystem::exists(directory / "model.safetensors.index.json")) return "model";
  std::vector<std::string> stems;
  if (std::filesystem::is_directory(directory)) {
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
      if (entry.path().extension() == ".safetensors") stems.push_back(entry.path().stem().string());
    }
  }
  check(stems.size() == 1, ErrorCode::kInvalidModel, directory.string(), ": neither model.safetensors nor a single other .safetensors file");
  return stems[0];
}

}  // namespace

TransDiffEngine::TransDiffEngine(Backend& backend, const std::filesystem::path& directory, const LoadOptions& options)
    : TransDiffEngine(backend, directory, Checkpoint(directory, "model", options.progress), checked(options)) {}

TransDiffEngine::TransDiffEngine(Backend& backend, const std::filesystem::path& directory, const Checkpoint& checkpoint, const LoadOptions& options)
    : Engine(backend),
      config_(read_transdiff_config(directory, checkpoint)),
      transformer_(backend, config_, load_class_transformer(backend, checkpoint, config_)),
      decoder_(backend, config_, load_diffusion_decoder(backend, checkpoint, config_)),
      few_step_decoder_(load_few_step(options)),
      features_(backend, scratch_, config_, transformer_, decoder_, few_step_decoder_.get(), options.caches),
      sampler_(backend, scratch_, config_, decoder_, options.caches),
      kv_(backend, ClassFeatures::kv_shape(config_, few_step_blocks()), pool_blocks(options, config_)),
      latents_(backend, config_.latent_size()),
      max_step_tokens_(options.max_step_tokens),
      caches_(options.caches) {
  if (few_step_decoder_) {
    few_step_ = std::make_unique<PassSampler>(backend, scratch_, config_, *few_step_decoder_);
    drafter_ = std::make_unique<FewStepDrafter>(reference_parts());
    verification_ = std::make_unique<ReferenceVerification>(reference_parts());
  }
  info_.parameters = checkpoint.parameters();
  info_.weight_bytes = static_cast<int64_t>(checkpoint.bytes());
  load_vae(directory, options);
  info_.family = "transdiff";
  info_.hidden_size = config_.width;
  info_.num_layers = config_.transformer_blocks;
  info_.token_size = info_.latent_channels = config_.latent_channels;
  info_.latent_patch_size = 1;
  info_.pixel_factor = config_.vae.factor();
  info_.max_positions = config_.positions();
  info_.boi_token_id = info_.image_placeholder_id = -1;
  info_.block_tokens = config_.block_tokens();
  info_.block_bytes = KvCache::block_bytes(backend_, ClassFeatures::kv_shape(config_, few_step_blocks()));
  info_.kv_blocks = kv_.num_blocks();
  info_.classes = {config_.num_classes, config_.class_tokens, config_.num_passes, config_.pass_tokens, config_.grid};
}

// Called while the members before few_step_decoder_ are there.
std::unique_ptr<DiffusionDecoder> TransDiffEngine::load_few_step(const LoadOptions& options) {
  const std::string& folder = options.accelerator;
  if (folder.empty()) return nullptr;
  const std::filesystem::path directory(folder);
  check(std::filesystem::exists(directory / "few_step.safetensors"), ErrorCode::kInvalidModel, folder, ": no few_step.safetensors");
  check(!std::filesystem::exists(directory / "draft.safetensors"), ErrorCode::kInvalidModel, folder,
        ": draft.safetensors, but references of this family are drafted by the few-step decoder alone");
  const Checkpoint checkpoint(directory, "few_step", options.progress);
  const TransDiffConfig config = few_step_config(checkpoint, config_);
  info_.accelerator.few_step = true;
  info_.accelerator.parameters = checkpoint.parameters();
  return std::make_unique<DiffusionDecoder>(backend_, config, load_few_step_decoder(backend_, checkpoint, config));
}

ReferenceParts TransDiffEngine::reference_parts() {
  return {backend_, scratch_, *few_step_, features_.few_step_layers(kv_), sampler_, features_.model_layers(kv_), config_.latent_size()};
}

void TransDiffEngine::load_vae(const std::filesystem::path& directory, const LoadOptions& options) {
  const std::filesystem::path folder = options.vae ? std::filesystem::path(*options.vae) : directory / "vae";
  if (folder.empty()) return;
  const Checkpoint checkpoint(folder, vae_stem(folder), options.progress);
  vae_ = std::make_unique<Vae>(backend_, checkpoint, config_.vae);
  info_.parameters += checkpoint.parameters();
  info_.weight_bytes += static_cast<int64_t>(checkpoint.bytes());
}

const Vae& TransDiffEngine::vae() const {
  check(vae_ != nullptr, ErrorCode::kInvalidArgument, "the model was loaded without its VAE");
  return *vae_;
}

int32_t TransDiffEngine::label_of(const TransDiffSequence& sequence, int64_t row) const {
  return row == 0 ? static_cast<int32_t>(sequence.spec.class_label) : transformer_.null_class();
}

void TransDiffEngine::check_step(const StepPlan& plan) const {
  check_transdiff_plan(plan, sequences_, config_, {kv_.num_blocks(), max_step_tokens_, vae_ != nullptr, few_step_ != nullptr});
}

void TransDiffEngine::run_step(const StepPlan& plan, StepResult& result) {
  kv_.copy(plan.copies);
  run_transformer(plan, result);
  run_passes(plan, result);
  decode_images(plan, result);
}

void TransDiffEngine::release_all() {
  while (!sequences_.empty()) release(sequences_.begin()->first);
}

void TransDiffEngine::admit(const SequenceSpec& spec) {
  // In the map before it owns anything, so that release() finds whatever was taken when a later line throws.
  TransDiffSequence& sequence = sequences_.insert_or_assign(spec.id, TransDiffSequence{}).first->second;
  sequence.spec = spec;
  sequence.cancelled = cancel_flags_.add(spec.id);
  choose_timesteps(sequence);
  sequence.latent_rows = latents_.take(config_.num_passes);
  sequence.computed_passes.resize(static_cast<size_t>(sequence.num_rows()), 0);
  sequence.conditions.resize(caches_ ? 0 : static_cast<size_t>(sequence.num_rows()));
}

void TransDiffEngine::choose_timesteps(TransDiffSequence& sequence) {
  const SequenceSpec& spec = sequence.spec;
  const auto jumps = [](int64_t n) { return few_step_sampler(n, Sampler::kPassJumps); };
  sequence.steps = pass_steps(spec, config_.num_passes);
  sequence.last_timesteps = spec.few_step > 0 ? few_step_->timesteps(jumps(spec.few_step)) : sampler_.timesteps(spec.sampler);
  sequence.timesteps = spec.speculation ? sampler_.timesteps(spec.sampler) : sequence.last_timesteps;
  if (!spec.speculation) return;
  sequence.drafting.emplace();
  sequence.drafting->jumps = few_step_->timesteps(jumps(spec.speculation->draft_jumps));
  sequence.drafting->judged = sampler_.timesteps(jumps(spec.speculation->draft_jumps));
}

void TransDiffEngine::release(uint32_t id) {
  const auto found = sequences_.find(id);
  latents_.give_back(found->second.latent_rows);
  cancel_flags_.remove(id);
  sequences_.erase(found);
}

void TransDiffEngine::run_transformer(const StepPlan& plan, StepResult& result) {
  const Stopwatch watch;
  std::vector<ClassFeatures::Request> requests;
  std::vector<TensorView> conditions;  // without caches: where those of the requests go
  for (const PrefillEntry& entry : plan.prefill) {
    TransDiffSequence& sequence = sequences_.at(entry.sequence);
    // The plan may have been made before the flag was set, and count on a pass that has not been finished.
    if (sequence.is_cancelled()) continue;
    sequence.computed_passes[static_cast<size_t>(entry.row)] = pass_at(config_, entry.end);
    ClassFeatures::Request request{label_of(sequence, entry.row), pass_at(config_, entry.begin), pass_at(config_, entry.end), entry.block_table, sequence.latent_rows};
    request.for_model = sequence.spec.few_step == 0 || sequence.drafting;
    // It hears of the class alone: guidance is in its weights.
    request.for_few_step = entry.row == 0 && (sequence.spec.few_step > 0 || sequence.drafting);
    if (!caches_) {
      request.first = 0;
      request.for_model = false;  // the sampler's business, at every timestep
      Tensor& condition = sequence.conditions[static_cast<size_t>(entry.row)];
      condition = backend_.make(DType::kF32, {request.end * config_.pass_tokens, config_.width});
      conditions.push_back(condition);
    }
    requests.push_back(request);
  }
  if (requests.empty()) return;
  result.backbone_tokens = features_.compute(requests, latents_.view(), kv_, {}, conditions);
  result.timings.backbone = watch.seconds();
}

void TransDiffEngine::decode_images(const StepPlan& plan, StepResult& result) {
  for (const VaeEntry& entry : plan.vae) {
    const Stopwatch watch;
    const TransDiffSequence& sequence = sequences_.at(entry.sequence);
    // It may have got fewer timesteps than planned; nobody looks at it any more.
    if (sequence.is_cancelled()) continue;
    result.images.push_back(decode_image(sequence, entry.tokens));
    (entry.tokens == sequence.steps.total() ? result.timings.vae : result.timings.preview) += watch.seconds();
  }
}

// One picture at a time, of the latent that its pass ended with: the bytes depend on nothing else.
DecodedImage TransDiffEngine::decode_image(const TransDiffSequence& sequence, int64_t timesteps) {
  const Scratch::Frame frame(scratch_);
  const int64_t side = config_.grid, c = config_.latent_channels;
  const int64_t row = sequence.latent_rows[static_cast<size_t>(sequence.steps.ended_by(timesteps) - 1)];
  DecodedImage image = decode_picture(backend_, scratch_, *vae_, latents_.view().row_slice(row, row + 1).reshape({side * side, c}), side, 1);
  image.sequence = sequence.spec.id;
  image.tokens = timesteps;
  return image;
}

}  // namespace ardiff
