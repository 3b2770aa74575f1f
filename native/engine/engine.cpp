#include "engine/engine.h"

#include <chrono>
#include <cmath>

#include "engine/batch.h"

namespace ardiff {

namespace {

constexpr float kTokenNormEps = 1e-6f;

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

// The fixed table of nextstep.md 6.4: row i * G + j = [sin(j w), cos(j w), sin(i w), cos(i w)], each part H/4 long.
std::vector<float> gen_pos_embed(int64_t grid, int64_t hidden) {
  const int64_t quarter = hidden / 4;
  std::vector<float> table(static_cast<size_t>(grid * grid * hidden), 0.0f);
  for (int64_t i = 0; i < grid; ++i) {
    for (int64_t j = 0; j < grid; ++j) {
      float* row = table.data() + (i * grid + j) * hidden;
      for (int64_t k = 0; k < quarter; ++k) {
        const double omega = std::pow(10000.0, -static_cast<double>(k) / static_cast<double>(quarter));
        row[k] = static_cast<float>(std::sin(static_cast<double>(j) * omega));
        row[quarter + k] = static_cast<float>(std::cos(static_cast<double>(j) * omega));
        row[2 * quarter + k] = static_cast<float>(std::sin(static_cast<double>(i) * omega));
        row[3 * quarter + k] = static_cast<float>(std::cos(static_cast<double>(i) * omega));
      }
    }
  }
  return table;
}

}  // namespace

Engine::Engine(Backend& backend, const std::filesystem::path& directory, const LoadOptions& options)
    : backend_(backend), config_(read_nextstep_config(directory)), scratch_(backend) {
  check(options.kv_blocks >= 1 && options.kv_blocks <= (1 << 26), ErrorCode::kInvalidArgument, "kvBlocks ", options.kv_blocks, " is out of range");
  check(options.max_step_tokens >= 3 && options.max_step_tokens <= (1 << 20), ErrorCode::kInvalidArgument, "maxStepTokens ",
        options.max_step_tokens, " is out of range");
  max_step_tokens_ = options.max_step_tokens;
  const VaeConfig vae_config = read_vae_config(config_.vae_directory);
  check(vae_config.latent_channels == config_.image.latent_channels, ErrorCode::kInvalidModel, "vae/config.json: z_channels ",
        vae_config.latent_channels, " differs from the model's ", config_.image.latent_channels, " latent channels");
  const Checkpoint checkpoint(directory, "model");
  if (!std::filesystem::exists(config_.vae_directory / "model.safetensors") && std::filesystem::exists(config_.vae_directory / "checkpoint.pt")) {
    fail(ErrorCode::kInvalidModel, "vae/checkpoint.pt is a pickle, which is not loaded; convert it once with `npm run convert -- DIR`");
  }
  const Checkpoint vae_checkpoint(config_.vae_directory, "model");

  backbone_ = std::make_unique<Backbone>(backend_, config_.backbone, load_backbone(backend_, checkpoint, config_));
  head_ = std::make_unique<FlowHead>(backend_, config_, load_flow_head(backend_, checkpoint, config_));
  vae_ = std::make_unique<Vae>(backend_, vae_checkpoint, vae_config);
  kv_ = std::make_unique<KvCache>(backend_, config_.backbone, options.kv_blocks);
  times_ = std::make_unique<TimestepCache>(backend_, *head_, scratch_);
  sampler_ = std::make_unique<TokenSampler>(backend_, *head_, *times_, scratch_, config_.image.token_size());
  hidden_ = std::make_unique<RowPool>(backend_, config_.backbone.hidden_size);
  tokens_ = std::make_unique<RowPool>(backend_, config_.image.token_size());
  if (config_.image.use_gen_pos_embed) {
    const int64_t grid = config_.image.base_image_grid;
    position_table_ = backend_.make(DType::kF32, {grid * grid, config_.backbone.hidden_size});
    backend_.upload(position_table_.view, gen_pos_embed(grid, config_.backbone.hidden_size).data());
  }

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
  info_.block_bytes = KvCache::block_bytes(backend_, config_.backbone);
  info_.kv_blocks = options.kv_blocks;
  info_.parameters = checkpoint.parameters() + vae_checkpoint.parameters();
  info_.weight_bytes = static_cast<int64_t>(checkpoint.bytes() + vae_checkpoint.bytes());
}

Engine::~Engine() = default;

PlanLimits Engine::limits() const {
  return {kv_->num_blocks(),      max_step_tokens_, info_.max_positions, info_.vocab_size, info_.token_size, static_cast<int32_t>(info_.boi_token_id),
          static_cast<int32_t>(info_.image_placeholder_id),  info_.accelerator};
}

TensorView Engine::upload_index(const std::vector<int32_t>& values) {
  const TensorView view = scratch_.take(DType::kI32, {static_cast<int64_t>(values.size())});
  backend_.upload(view, values.data());
  return view;
}

StepResult Engine::step(const StepPlan& plan) {
  const Stopwatch total;
  check_plan(plan, sequences_, limits());
  try {
    scratch_.reset();
    StepResult result;
    for (const uint32_t id : plan.release) release(id);
    for (const SequenceSpec& spec : plan.admit) admit(spec);
    kv_->copy(plan.copies);
    run_rounds(plan, result);
    read_tokens(plan, result);
    decode_images(plan, result);
    backend_.rest();
    result.timings.total = total.seconds();
    return result;
  } catch (...) {
    // Out of memory, or a bug: how far the step came is unknown, so no sequence may be continued.
    while (!sequences_.empty()) release(sequences_.begin()->first);
    throw;
  }
}

void Engine::admit(const SequenceSpec& spec) {
  // In the map before it owns anything, so that release() finds whatever was taken when a later line throws.
  Sequence& sequence = sequences_.insert_or_assign(spec.id, Sequence{}).first->second;
  sequence.spec = spec;
  sequence.timesteps = times_->get(spec.sampler);
  const auto input_tokens = static_cast<int64_t>(spec.input_image_tokens.size()) / info_.token_size;
  sequence.input_rows = tokens_->take(input_tokens);
  sequence.token_rows = tokens_->take(spec.grid_height * spec.grid_width);
  sequence.hidden_rows = hidden_->take(static_cast<int64_t>(spec.prompt_rows.size()));
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
    backend_.scatter_rows(staged, upload_index(sequence.input_rows), tokens_->view());
  }
  sequence.cancelled = cancel_flags_.add(spec.id);
}

void Engine::release(uint32_t id) {
  const auto found = sequences_.find(id);
  tokens_->give_back(found->second.input_rows);
  tokens_->give_back(found->second.token_rows);
  hidden_->give_back(found->second.hidden_rows);
  cancel_flags_.remove(id);
  sequences_.erase(found);
}

// cond_embed(image_out_projector(hidden)) of every guidance row of the sequences, in order: (R, W) f32.
TensorView Engine::conditions(std::span<Sequence* const> sequences) {
  std::vector<int32_t> hidden_rows, positions;
  for (const Sequence* sequence : sequences) {
    hidden_rows.insert(hidden_rows.end(), sequence->hidden_rows.begin(), sequence->hidden_rows.end());
    positions.insert(positions.end(), sequence->rows.size(), static_cast<int32_t>(sequence->emitted));
  }
  const auto r = static_cast<int64_t>(hidden_rows.size());
  const TensorView out = scratch_.take(DType::kF32, {r, head_->width()});
  const Scratch::Frame frame(scratch_);
  const TensorView hidden = scratch_.take(DType::kF32, {r, info_.hidden_size});
  const TensorView condition = scratch_.take(backend_.activation_dtype(), {r, info_.hidden_size});
  backend_.gather_rows(hidden_->view(), upload_index(hidden_rows), hidden);
  if (position_table_) {
    const int64_t entries = position_table_.view.rows();
    for (const int32_t n : positions) {
      check(n < entries, ErrorCode::kInvalidArgument, "image token ", n, " lies outside the model's position table of ", entries);
    }
    const TensorView embed = scratch_.take(DType::kF32, {r, info_.hidden_size});
    backend_.gather_rows(position_table_, upload_index(positions), embed);
    backend_.add(hidden, embed, hidden);
  }
  backend_.linear(hidden, *backbone_->weights().image_out, condition, Epilogue::store());
  head_->embed_condition(condition, out);
  return out;
}

// One token of every decoded sequence and one backbone pass per round. Sequences that need fewer tokens leave early.
void Engine::run_rounds(const StepPlan& plan, StepResult& result) {
  for (const DecodeEntry& entry : plan.decode) {
    DecodeResult decode;
    decode.sequence = entry.sequence;
    decode.emitted_tokens = sequences_.at(entry.sequence).emitted;
    result.decode.push_back(std::move(decode));
  }
  std::vector<const DecodeEntry*> drawing;
  for (const DecodeEntry& entry : plan.decode) drawing.push_back(&entry);
  for (int64_t round = 0; round == 0 || !drawing.empty(); ++round) {
    draw_tokens(drawing, result);
    run_backbone(round == 0 ? std::span(plan.prefill) : std::span<const PrefillEntry>(), drawing, result);
    std::erase_if(drawing, [round](const DecodeEntry* entry) { return entry->rounds <= round + 1; });
  }
  for (size_t i = 0; i < plan.decode.size(); ++i) {
    const int64_t emitted = sequences_.at(plan.decode[i].sequence).emitted;
    result.decode[i].cancelled = emitted - result.decode[i].emitted_tokens < plan.decode[i].rounds;
    result.decode[i].emitted_tokens = emitted;
  }
}

void Engine::draw_tokens(std::vector<const DecodeEntry*>& drawing, StepResult& result) {
  const Stopwatch watch;
  const auto is_cancelled = [this](const DecodeEntry* entry) { return sequences_.at(entry->sequence).cancelled->load(std::memory_order_relaxed); };
  std::erase_if(drawing, is_cancelled);
  if (drawing.empty()) return;
  std::vector<Sequence*> sequences;
  sequences.reserve(drawing.size());
  for (const DecodeEntry* entry : drawing) sequences.push_back(&sequences_.at(entry->sequence));
  const Scratch::Frame frame(scratch_);
  const TensorView x = scratch_.take(DType::kF32, {static_cast<int64_t>(sequences.size()), info_.token_size});
  result.flow_head_evaluations += sampler_->sample(sequences, conditions(sequences), x);
  // A flag seen from here on is too late for this token: decide once, so that state and answer agree.
  std::vector<int32_t> plain_from, plain_to, normed_from, normed_to;
  std::vector<const DecodeEntry*> drawn;
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (is_cancelled(drawing[i])) continue;
    Sequence& sequence = *sequences[i];
    (sequence.spec.use_norm ? normed_from : plain_from).push_back(static_cast<int32_t>(i));
    (sequence.spec.use_norm ? normed_to : plain_to).push_back(sequence.token_rows[static_cast<size_t>(sequence.emitted)]);
    ++sequence.emitted;
    drawn.push_back(drawing[i]);
  }
  drawing = std::move(drawn);
  const auto store = [&](const std::vector<int32_t>& from, const std::vector<int32_t>& to, bool norm) {
    if (from.empty()) return;
    const TensorView rows = scratch_.take(DType::kF32, {static_cast<int64_t>(from.size()), info_.token_size});
    backend_.gather_rows(x, upload_index(from), rows);
    if (norm) backend_.layer_norm(rows, {}, {}, kTokenNormEps, rows);
    backend_.scatter_rows(rows, upload_index(to), tokens_->view());
  };
  store(plain_from, plain_to, false);
  store(normed_from, normed_to, true);
  result.timings.flow_head += watch.seconds();
}

void Engine::run_backbone(std::span<const PrefillEntry> prefill, std::span<const DecodeEntry* const> drawn, StepResult& result) {
  const Stopwatch watch;
  std::vector<const DecodeEntry*> continuing;
  for (const DecodeEntry* entry : drawn) {
    const Sequence& sequence = sequences_.at(entry->sequence);
    // The token after the last is never needed, so the last one is not fed.
    if (sequence.emitted < sequence.num_tokens()) continuing.push_back(entry);
  }
  const FlatBatch flat = flatten(prefill, continuing, sequences_);
  if (flat.size() == 0) return;

  const Scratch::Frame frame(scratch_);
  const int64_t m = flat.size(), text = static_cast<int64_t>(flat.text_ids.size()), h = info_.hidden_size;
  const TensorView x = scratch_.take(DType::kF32, {m, h});
  if (text > 0) backend_.embed(backbone_->weights().embed_tokens, upload_index(flat.text_ids), x.row_slice(0, text));
  if (m > text) {
    const TensorView tokens = scratch_.take(DType::kF32, {m - text, info_.token_size});
    backend_.gather_rows(tokens_->view(), upload_index(flat.token_rows), tokens);
    backend_.linear(tokens, *backbone_->weights().image_in, x.row_slice(text, m), Epilogue::store());
  }
  BackboneBatch batch;
  batch.positions = upload_index(flat.positions);
  batch.slots = upload_index(flat.slots);
  batch.context.table_rows = upload_index(flat.table_rows);
  batch.context.context_lengths = upload_index(flat.context_lengths);
  batch.context.block_tables = upload_index(flat.block_tables).reshape({flat.num_tables(), flat.max_blocks});
  backbone_->forward(x, batch, kv_->layers(), scratch_);

  const auto kept = static_cast<int64_t>(flat.kept_rows.size());
  const TensorView last = scratch_.take(DType::kF32, {kept, h});
  backend_.gather_rows(x, upload_index(flat.kept_rows), last);
  backbone_->final_norm(last, last);
  backend_.scatter_rows(last, upload_index(flat.kept_hidden), hidden_->view());

  for (const PrefillEntry& entry : prefill) {
    GuidanceRow& row = sequences_.at(entry.sequence).rows[static_cast<size_t>(entry.row)];
    row.computed = entry.end;
    row.hidden_position = entry.end - 1;
  }
  for (const DecodeEntry* entry : continuing) {
    Sequence& sequence = sequences_.at(entry->sequence);
    for (size_t r = 0; r < sequence.rows.size(); ++r) {
      sequence.rows[r].computed = sequence.known_positions(r);
      sequence.rows[r].hidden_position = sequence.known_positions(r) - 1;
    }
  }
  result.backbone_tokens += m;
  result.timings.backbone += watch.seconds();
}

void Engine::gather_tokens(const Sequence& sequence, int64_t begin, int64_t end, const TensorView& out) {
  if (end == begin) return;
  const std::vector<int32_t> rows(sequence.token_rows.begin() + begin, sequence.token_rows.begin() + end);
  backend_.gather_rows(tokens_->view(), upload_index(rows), out);
}

// A sequence whose cancel flag is set may have drawn fewer tokens than planned; nobody looks at it any more.
void Engine::read_tokens(const StepPlan& plan, StepResult& result) {
  const Stopwatch watch;
  for (const ReadEntry& entry : plan.read) {
    const Sequence& sequence = sequences_.at(entry.sequence);
    if (sequence.cancelled->load(std::memory_order_relaxed)) continue;
    const Scratch::Frame frame(scratch_);
    const int64_t count = entry.end - entry.begin;
    const TensorView rows = scratch_.take(DType::kF32, {count, info_.token_size});
    gather_tokens(sequence, entry.begin, entry.end, rows);
    DrawnTokens tokens{entry.sequence, entry.begin, entry.end, std::vector<float>(static_cast<size_t>(count * info_.token_size))};
    backend_.download(rows, tokens.data.data());
    result.tokens.push_back(std::move(tokens));
  }
  if (!plan.read.empty()) result.timings.preview += watch.seconds();
}

void Engine::decode_images(const StepPlan& plan, StepResult& result) {
  for (const VaeEntry& entry : plan.vae) {
    const Stopwatch watch;
    const Sequence& sequence = sequences_.at(entry.sequence);
    if (sequence.cancelled->load(std::memory_order_relaxed)) continue;
    result.images.push_back(decode_image(sequence, entry.tokens));
    (entry.tokens == sequence.num_tokens() ? result.timings.vae : result.timings.preview) += watch.seconds();
  }
}

// One picture at a time and of a given number of tokens, so its bytes depend neither on who shares the step nor on how
// many tokens the sequence has by now.
DecodedImage Engine::decode_image(const Sequence& sequence, int64_t num_tokens) {
  const Scratch::Frame frame(scratch_);
  const int64_t gh = sequence.spec.grid_height, gw = sequence.spec.grid_width, p = info_.latent_patch_size;
  // The other tokens are latent 0.
  const TensorView tokens = scratch_.take(DType::kF32, {gh * gw, info_.token_size});
  const std::vector<float> zeros(static_cast<size_t>(gh * gw * info_.token_size), 0.0f);
  backend_.upload(tokens, zeros.data());
  gather_tokens(sequence, 0, num_tokens, tokens.row_slice(0, num_tokens));
  const TensorView z = scratch_.take(DType::kF32, {1, gh * p, gw * p, info_.latent_channels});
  backend_.unpatchify(tokens, gh, vae_->config().scaling_factor, vae_->config().shift_factor, z);
  DecodedImage image;
  image.sequence = sequence.spec.id;
  image.tokens = num_tokens;
  image.height = gh * info_.pixel_factor;
  image.width = gw * info_.pixel_factor;
  const TensorView pixels = scratch_.take(DType::kF32, {1, image.height, image.width, 3});
  const TensorView rgb = scratch_.take(DType::kU8, {1, image.height, image.width, 3});
  vae_->decode(z, pixels, scratch_);
  backend_.to_rgb8(pixels, rgb);
  image.rgb.resize(static_cast<size_t>(image.height * image.width * 3));
  backend_.download(rgb, image.rgb.data());
  return image;
}

}  // namespace ardiff
