// What TypeScript asks of one engine step and what it gets back: src/engine/native-types.ts, field for field.
// The meaning of every field is documented there. Plain values; nothing here points into JavaScript memory.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/load_progress.h"
#include "model/guidance.h"
#include "model/noise_schedule.h"
#include "speculation/draft_length.h"
#include "speculation/entropy_gate.h"

namespace ardiff {

inline constexpr int kAbiVersion = 9;

enum class SpeculationMode { kExact, kRelaxed };
enum class Drafting { kSequential, kParallel };

inline constexpr int64_t kMaxDraftTokens = 15;

struct SpeculationSpec {
  SpeculationMode mode = SpeculationMode::kRelaxed;
  Drafting drafting = Drafting::kSequential;
  int64_t max_draft_tokens = 1;
  double tolerance = 0;
  speculation::GateRule gate;
  int64_t gate_layer = 0;  // of the draft; whose entropy the gate reads
  speculation::SpeculationCosts costs;
  double acceptance = 0;
  int64_t draft_jumps = 0;  // TransDiff: jumps that a reference is drafted by; NextStep: 0
  bool adaptive = true;
  bool trace = false;
};

struct SequenceSpec {
  uint32_t id = 0;
  std::vector<std::vector<int32_t>> prompt_rows;
  int64_t class_label = -1;               // of a TransDiff model; NextStep: -1
  std::vector<float> input_image_tokens;  // (n, D) flattened
  int64_t grid_height = 0;
  int64_t grid_width = 0;
  uint64_t seed = 0;
  SamplerSpec sampler;
  double guidance_scale = 1.0;
  double image_guidance_scale = 1.0;
  GuidanceSchedule guidance_schedule = GuidanceSchedule::kConstant;
  bool use_norm = false;
  int64_t few_step = 0;      // jumps of the few-step head; 0 = the model's sampler
  std::optional<SpeculationSpec> speculation;
  std::vector<float> noise;  // (L, draws, D) flattened, or empty: drawn from the seed
};

// What the tokens of a NextStep picture are drawn by: the few-step head's jumps where it asks for them.
inline SamplerSpec sampler_of(const SequenceSpec& spec) { return spec.few_step > 0 ? few_step_sampler(spec.few_step) : spec.sampler; }

struct PrefillEntry {
  uint32_t sequence = 0;
  int64_t row = 0;
  int64_t begin = 0;
  int64_t end = 0;
  std::vector<int32_t> block_table;
};

struct DecodeEntry {
  uint32_t sequence = 0;
  std::vector<std::vector<int32_t>> block_tables;
  int64_t rounds = 1;  // TransDiff: timesteps
};

struct VaeEntry {
  uint32_t sequence = 0;
  int64_t tokens = 0;  // TransDiff: timesteps, a whole number of passes
};

struct ReadEntry {
  uint32_t sequence = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

struct StepPlan {
  std::vector<uint32_t> release;
  std::vector<SequenceSpec> admit;
  std::vector<int32_t> copies;
  std::vector<PrefillEntry> prefill;
  std::vector<DecodeEntry> decode;
  std::vector<VaeEntry> vae;
  std::vector<ReadEntry> read;
};

struct RoundRecord {
  int64_t drafted = 0;
  int64_t accepted = 0;
  bool gate_stopped = false;
  double draft_entropy = std::numeric_limits<double>::quiet_NaN();
  double target_entropy = std::numeric_limits<double>::quiet_NaN();
};

// Numbers per drafted token in DecodeResult::trace before those of the draft's layers.
inline constexpr int64_t kTraceColumns = 6;

struct DecodeResult {
  uint32_t sequence = 0;
  int64_t emitted_tokens = 0;
  bool cancelled = false;
  bool speculating = false;       // the fields below cross the boundary only then
  std::vector<uint8_t> accepted;  // per token (TransDiff: timestep) drawn in this step
  std::vector<RoundRecord> rounds;
  std::vector<float> trace;       // (drafts, kTraceColumns + draft layers)
};

struct DecodedImage {
  uint32_t sequence = 0;
  int64_t tokens = 0;
  int64_t width = 0;
  int64_t height = 0;
  std::vector<uint8_t> rgb;  // height x width x 3
};

struct DrawnTokens {
  uint32_t sequence = 0;
  int64_t begin = 0;
  int64_t end = 0;
  std::vector<float> data;  // (end - begin, D)
};

struct StepTimings {  // seconds
  double total = 0;
  double flow_head = 0;
  double backbone = 0;
  double draft = 0;
  double verify = 0;
  double vae = 0;
  double preview = 0;
};

struct StepResult {
  std::vector<DecodeResult> decode;
  std::vector<DecodedImage> images;
  std::vector<DrawnTokens> tokens;
  StepTimings timings;
  int64_t flow_head_evaluations = 0;
  int64_t backbone_tokens = 0;
};

// The widest step that will be asked for; what memory is priced by where a device has its own. No pictures: none is rehearsed.
struct Rehearsal {
  int64_t pictures = 0;  // in the batch at once
  int64_t grid_height = 0, grid_width = 0;  // tokens of the largest picture; of a TransDiff model not read
  int64_t timesteps = 1;
};

struct LoadOptions {
  int64_t kv_blocks = 0;
  int64_t max_step_tokens = 0;
  std::string accelerator = {};  // folder; empty = none
  // Folder of a TransDiff model's VAE: absent = vae/ beside the model, empty = none (pictures are then refused).
  std::optional<std::string> vae = {};
  Rehearsal rehearsal = {};
  int64_t kv_pictures = 0;  // of a TransDiff model, instead of kv_blocks: room for so many pictures with guidance
  bool caches = true;       // false, TransDiff without an accelerator: computes anew what docs/transdiff.md 10.2 says is kept. For benches
  std::shared_ptr<LoadProgress> progress = {};  // null: nobody asks
};

struct AcceleratorInfo {
  int64_t draft_layers = 0;
  bool draft_head = false;
  bool few_step = false;
  int64_t parameters = 0;
};

// Of a family whose pictures are asked for by class; zeros in others.
struct ClassInfo {
  int64_t num_classes = 0;
  int64_t class_tokens = 0;  // positions before those of the first pass
  int64_t num_passes = 0;
  int64_t pass_tokens = 0;   // positions that a pass adds
  int64_t grid = 0;          // latent pixels per side
};

// Bytes of a device's memory (engine/memory_price.h).
struct MemoryPrice {
  int64_t weights = 0;
  int64_t kv = 0;
  int64_t workspace = 0;  // everything else, `scratch` included
  int64_t scratch = 0;    // of a step's short-lived tensors
  int64_t free = 0;       // before it was loaded
};

struct ModelInfo {
  std::string family;
  int64_t hidden_size, num_layers, vocab_size, token_size, latent_channels, latent_patch_size, pixel_factor, max_positions;
  int64_t boi_token_id, image_placeholder_id, block_tokens, block_bytes, kv_blocks, parameters, weight_bytes;
  AcceleratorInfo accelerator;
  ClassInfo classes;
  std::optional<MemoryPrice> memory;  // where the device has its own
};

}  // namespace ardiff
