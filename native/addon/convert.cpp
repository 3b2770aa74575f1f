#include "addon/convert.h"

#include <cmath>
#include <memory>

namespace ardiff::addon {

namespace {

// A JavaScript value and where it came from, for messages like "plan.decode[2].sequence is not a number".
class Field {
 public:
  Field(Napi::Value value, std::string path) : value_(value), path_(std::move(path)) {}

  Field at(const char* key) const {
    require(value_.IsObject(), "is not an object");
    return {value_.As<Napi::Object>().Get(key), path_ + "." + key};
  }
  bool absent() const { return value_.IsUndefined() || value_.IsNull(); }

  double number() const {
    require(value_.IsNumber(), "is not a number");
    return value_.As<Napi::Number>().DoubleValue();
  }
  int64_t integer(int64_t min, int64_t max) const {
    const double value = number();
    require(std::isfinite(value) && value == std::floor(value) && value >= static_cast<double>(min) && value <= static_cast<double>(max),
            "is not an integer in range");
    return static_cast<int64_t>(value);
  }
  uint32_t id() const { return static_cast<uint32_t>(integer(0, UINT32_MAX)); }
  bool boolean() const {
    require(value_.IsBoolean(), "is not a boolean");
    return value_.As<Napi::Boolean>().Value();
  }
  std::string text() const {
    require(value_.IsString(), "is not a string");
    return value_.As<Napi::String>().Utf8Value();
  }
  // Calls visit(Field) for each element.
  template <typename Visit>
  void each(Visit&& visit) const {
    require(value_.IsArray(), "is not an array");
    const auto array = value_.As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); ++i) visit(Field(array.Get(i), path_ + "[" + std::to_string(i) + "]"));
  }
  std::vector<float> floats() const { return elements<float, Napi::Float32Array>(napi_float32_array, "Float32Array"); }
  std::vector<int32_t> int32s() const { return elements<int32_t, Napi::Int32Array>(napi_int32_array, "Int32Array"); }
  // Block indices: uint32 that fit in int32.
  std::vector<int32_t> blocks() const {
    const std::vector<uint32_t> raw = elements<uint32_t, Napi::Uint32Array>(napi_uint32_array, "Uint32Array");
    std::vector<int32_t> out;
    out.reserve(raw.size());
    for (const uint32_t block : raw) {
      require(block <= INT32_MAX, "holds a block index out of range");
      out.push_back(static_cast<int32_t>(block));
    }
    return out;
  }

 private:
  template <typename T, typename Array>
  std::vector<T> elements(napi_typedarray_type type, const char* name) const {
    require(value_.IsTypedArray() && value_.As<Napi::TypedArray>().TypedArrayType() == type, std::string("is not a ") + name);
    const auto array = value_.As<Array>();
    return {array.Data(), array.Data() + array.ElementLength()};
  }
  void require(bool condition, const std::string& what) const { check(condition, ErrorCode::kInvalidArgument, path_, " ", what); }

  Napi::Value value_;
  std::string path_;
};

constexpr int64_t kMaxSafeInteger = (int64_t{1} << 53) - 1;

void read_sampler(const Field& field, SequenceSpec& spec) {
  spec.sampler.sampler = parse_sampler(field.at("sampler").text());
  spec.sampler.level = field.at("samplerLevel").number();
  spec.sampler.timesteps = field.at("timesteps").integer(1, 1000);
  spec.sampler.shift = field.at("timestepShift").number();
  spec.guidance_scale = field.at("guidanceScale").number();
  spec.image_guidance_scale = field.at("imageGuidanceScale").number();
  spec.guidance_schedule = parse_guidance_schedule(field.at("guidanceSchedule").text());
  if (const Field scale = field.at("driftScale"); !scale.absent()) spec.sampler.drift_scale = scale.number();
  if (const Field scale = field.at("noiseScale"); !scale.absent()) spec.sampler.noise_scale = scale.number();
}

speculation::GateRule read_gate(const Field& field, int64_t& layer) {
  speculation::GateRule gate;
  const std::string kind = field.at("kind").text();
  if (kind == "off") return gate;
  layer = field.at("layer").integer(0, 1 << 10);
  if (kind == "paper") {
    gate.kind = speculation::GateKind::kPaper;
    gate.mean = field.at("mean").number();
    gate.std = field.at("std").number();
    return gate;
  }
  check(kind == "logistic", ErrorCode::kInvalidArgument, "gate '", kind, "' is not one of off, paper, logistic");
  gate.kind = speculation::GateKind::kLogistic;
  size_t count = 0;
  field.at("weights").each([&](const Field& weight) {
    check(count < gate.weights.size(), ErrorCode::kInvalidArgument, "a logistic gate has ", gate.weights.size(), " weights");
    gate.weights[count++] = weight.number();
  });
  check(count == gate.weights.size(), ErrorCode::kInvalidArgument, "a logistic gate has ", gate.weights.size(), " weights, not ", count);
  gate.threshold = field.at("threshold").number();
  return gate;
}

SpeculationSpec read_speculation(const Field& field) {
  SpeculationSpec spec;
  const std::string mode = field.at("mode").text(), drafting = field.at("drafting").text();
  check(mode == "exact" || mode == "relaxed", ErrorCode::kInvalidArgument, "speculation mode '", mode, "' is not one of exact, relaxed");
  check(drafting == "sequential" || drafting == "parallel", ErrorCode::kInvalidArgument, "drafting '", drafting,
        "' is not one of sequential, parallel");
  spec.mode = mode == "exact" ? SpeculationMode::kExact : SpeculationMode::kRelaxed;
  spec.drafting = drafting == "sequential" ? Drafting::kSequential : Drafting::kParallel;
  spec.max_draft_tokens = field.at("maxDraftTokens").integer(1, kMaxDraftTokens);
  spec.tolerance = field.at("tolerance").number();
  spec.gate = read_gate(field.at("gate"), spec.gate_layer);
  const Field costs = field.at("costs");
  spec.costs = {costs.at("plain").number(), costs.at("round").number(), costs.at("draft").number(), costs.at("verify").number()};
  spec.acceptance = field.at("acceptance").number();
  if (const Field jumps = field.at("draftJumps"); !jumps.absent()) spec.draft_jumps = jumps.integer(0, 4);
  spec.adaptive = field.at("adaptive").boolean();
  spec.trace = field.at("trace").boolean();
  return spec;
}

SequenceSpec read_spec(const Field& field) {
  SequenceSpec spec;
  spec.id = field.at("id").id();
  field.at("promptRows").each([&](const Field& row) { spec.prompt_rows.push_back(row.int32s()); });
  if (const Field label = field.at("classLabel"); !label.absent()) spec.class_label = label.integer(0, INT32_MAX);
  if (const Field input = field.at("inputImageTokens"); !input.absent()) spec.input_image_tokens = input.floats();
  spec.grid_height = field.at("gridHeight").integer(1, 1 << 16);
  spec.grid_width = field.at("gridWidth").integer(1, 1 << 16);
  spec.seed = static_cast<uint64_t>(field.at("seed").integer(0, kMaxSafeInteger));
  read_sampler(field, spec);
  spec.use_norm = field.at("useNorm").boolean();
  if (const Field few_step = field.at("fewStep"); !few_step.absent()) spec.few_step = few_step.integer(0, 4);
  if (const Field speculation = field.at("speculation"); !speculation.absent()) spec.speculation = read_speculation(speculation);
  if (const Field noise = field.at("noise"); !noise.absent()) spec.noise = noise.floats();
  return spec;
}

Napi::Float32Array from_floats(Napi::Env env, const std::vector<float>& values) {
  auto array = Napi::Float32Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

Napi::Buffer<uint8_t> from_bytes(Napi::Env env, std::vector<uint8_t>&& bytes) {
  auto owner = std::make_unique<std::vector<uint8_t>>(std::move(bytes));
  auto* raw = owner.release();
  return Napi::Buffer<uint8_t>::NewOrCopy(env, raw->data(), raw->size(), [raw](Napi::Env, uint8_t*) { delete raw; });
}

}  // namespace

uint32_t to_uint32(const Napi::Value& value, const char* path) { return Field(value, path).id(); }

BackendOptions to_backend_options(const Napi::Value& value) {
  const Field field(value, "options");
  const Field shared_by = field.at("sharedBy");
  return {field.at("backend").text(), field.at("dtype").text(), static_cast<int>(field.at("threads").integer(0, 1024)),
          shared_by.absent() ? 1 : static_cast<int>(shared_by.integer(1, 10'000))};
}

namespace {

Rehearsal read_rehearsal(const Field& field) {
  if (field.absent()) return {};
  return {field.at("pictures").integer(1, 4096), field.at("gridHeight").integer(1, 4096), field.at("gridWidth").integer(1, 4096),
          field.at("timesteps").integer(1, 1000)};
}

}  // namespace

LoadOptions to_load_options(const Napi::Value& value) {
  const Field field(value, "options");
  const Field accelerator = field.at("accelerator");
  const Field vae = field.at("vae"), pictures = field.at("kvPictures"), caches = field.at("caches");
  return {field.at("kvBlocks").integer(1, INT32_MAX), field.at("maxStepTokens").integer(1, INT32_MAX),
          accelerator.absent() ? std::string() : accelerator.text(), vae.absent() ? std::nullopt : std::optional(vae.text()),
          read_rehearsal(field.at("rehearsal")), pictures.absent() ? 0 : pictures.integer(1, INT32_MAX), caches.absent() || caches.boolean(),
          nullptr};
}

StepPlan to_step_plan(const Napi::Value& value) {
  const Field field(value, "plan");
  StepPlan plan;
  field.at("release").each([&](const Field& id) { plan.release.push_back(id.id()); });
  field.at("admit").each([&](const Field& spec) { plan.admit.push_back(read_spec(spec)); });
  plan.copies = field.at("copies").blocks();
  field.at("prefill").each([&](const Field& entry) {
    plan.prefill.push_back({entry.at("sequence").id(), entry.at("row").integer(0, 2), entry.at("begin").integer(0, INT32_MAX),
                            entry.at("end").integer(0, INT32_MAX), entry.at("blockTable").blocks()});
  });
  field.at("decode").each([&](const Field& entry) {
    DecodeEntry decode{entry.at("sequence").id(), {}, entry.at("rounds").integer(1, INT32_MAX)};
    entry.at("blockTables").each([&](const Field& table) { decode.block_tables.push_back(table.blocks()); });
    plan.decode.push_back(std::move(decode));
  });
  field.at("vae").each([&](const Field& entry) {
    plan.vae.push_back({entry.at("sequence").id(), entry.at("tokens").integer(0, INT32_MAX)});
  });
  field.at("read").each([&](const Field& entry) {
    plan.read.push_back({entry.at("sequence").id(), entry.at("begin").integer(0, INT32_MAX), entry.at("end").integer(0, INT32_MAX)});
  });
  return plan;
}

ProbeRequest to_probe_request(const Napi::Value& value) {
  const Field field(value, "request");
  ProbeRequest out;
  out.kind = field.at("kind").text();
  check(value.As<Napi::Object>().Get("tensors").IsObject(), ErrorCode::kInvalidArgument, "request.tensors is not an object");
  const auto tensors = value.As<Napi::Object>().Get("tensors").As<Napi::Object>();
  const Napi::Array names = tensors.GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const std::string name = names.Get(i).ToString();
    const Field tensor = field.at("tensors").at(name.c_str());
    HostArray array{tensor.at("data").floats(), {}};
    int64_t size = 1;
    tensor.at("shape").each([&](const Field& dim) {
      array.shape.push_back(dim.integer(0, 1 << 24));
      size *= array.shape.back();
      check(size <= (int64_t{1} << 31), ErrorCode::kInvalidArgument, "request.tensors.", name, " is too large");
    });
    check(size == static_cast<int64_t>(array.data.size()), ErrorCode::kInvalidArgument, "request.tensors.", name, " has ", array.data.size(),
          " numbers, its shape says ", size);
    out.tensors.emplace(name, std::move(array));
  }
  if (out.kind == "sampler" || out.kind == "class_to_latent") read_sampler(field.at("params"), out.settings);
  if (out.kind == "class_to_latent") {
    if (const Field few_step = field.at("params").at("fewStep"); !few_step.absent()) out.settings.few_step = few_step.integer(0, 4);
  }
  if (out.kind == "draft") {
    out.parallel = field.at("params").at("parallel").integer(0, kMaxDraftTokens);
    out.first_key = field.at("params").at("firstKey").integer(0, INT32_MAX);
  }
  if (out.kind == "tokens" || out.kind == "latents") out.sequence = field.at("params").at("sequence").id();
  return out;
}

Napi::Object from_backend_info(Napi::Env env, const BackendInfo& info) {
  Napi::Object out = Napi::Object::New(env);
  out.Set("backend", info.name);
  out.Set("dtype", info.dtype == DType::kBF16 ? "bfloat16" : "float32");
  out.Set("threads", info.threads);
  out.Set("isa", info.isa);
  out.Set("libraries", info.libraries);
  return out;
}

Napi::Object from_cuda_devices(Napi::Env env, const CudaDevices& found) {
  Napi::Object out = Napi::Object::New(env);
  out.Set("version", found.version);
  out.Set("problem", found.problem);
  Napi::Array devices = Napi::Array::New(env, found.devices.size());
  for (size_t i = 0; i < found.devices.size(); ++i) {
    const CudaDevice& device = found.devices[i];
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("name", device.name);
    entry.Set("architecture", device.architecture);
    entry.Set("memoryBytes", static_cast<double>(device.memory_bytes));
    entry.Set("problem", device.problem);
    devices.Set(static_cast<uint32_t>(i), entry);
  }
  out.Set("devices", devices);
  return out;
}

Napi::Object from_model_info(Napi::Env env, const ModelInfo& info) {
  Napi::Object out = Napi::Object::New(env);
  out.Set("family", info.family);
  const std::pair<const char*, int64_t> numbers[] = {{"hiddenSize", info.hidden_size},
                                                     {"numLayers", info.num_layers},
                                                     {"vocabSize", info.vocab_size},
                                                     {"tokenSize", info.token_size},
                                                     {"latentChannels", info.latent_channels},
                                                     {"latentPatchSize", info.latent_patch_size},
                                                     {"pixelFactor", info.pixel_factor},
                                                     {"maxPositions", info.max_positions},
                                                     {"boiTokenId", info.boi_token_id},
                                                     {"imagePlaceholderId", info.image_placeholder_id},
                                                     {"blockTokens", info.block_tokens},
                                                     {"blockBytes", info.block_bytes},
                                                     {"kvBlocks", info.kv_blocks},
                                                     {"parameters", info.parameters},
                                                     {"weightBytes", info.weight_bytes}};
  for (const auto& [name, value] : numbers) out.Set(name, static_cast<double>(value));
  Napi::Object accelerator = Napi::Object::New(env);
  accelerator.Set("draftLayers", static_cast<double>(info.accelerator.draft_layers));
  accelerator.Set("draftHead", info.accelerator.draft_head);
  accelerator.Set("fewStep", info.accelerator.few_step);
  accelerator.Set("parameters", static_cast<double>(info.accelerator.parameters));
  out.Set("accelerator", accelerator);
  if (info.classes.num_classes > 0) {
    Napi::Object classes = Napi::Object::New(env);
    classes.Set("numClasses", static_cast<double>(info.classes.num_classes));
    classes.Set("classTokens", static_cast<double>(info.classes.class_tokens));
    classes.Set("numPasses", static_cast<double>(info.classes.num_passes));
    classes.Set("passTokens", static_cast<double>(info.classes.pass_tokens));
    classes.Set("grid", static_cast<double>(info.classes.grid));
    out.Set("classes", classes);
  }
  if (info.memory) {
    Napi::Object memory = Napi::Object::New(env);
    memory.Set("weightBytes", static_cast<double>(info.memory->weights));
    memory.Set("kvBytes", static_cast<double>(info.memory->kv));
    memory.Set("workspaceBytes", static_cast<double>(info.memory->workspace));
    memory.Set("freeBytes", static_cast<double>(info.memory->free));
    out.Set("memory", memory);
  }
  return out;
}

namespace {

// What speculation adds to a decode's result.
void set_rounds(Napi::Env env, Napi::Object& entry, const DecodeResult& result) {
  auto accepted = Napi::Uint8Array::New(env, result.accepted.size());
  std::copy(result.accepted.begin(), result.accepted.end(), accepted.Data());
  entry.Set("accepted", accepted);
  Napi::Array rounds = Napi::Array::New(env, result.rounds.size());
  for (uint32_t i = 0; i < result.rounds.size(); ++i) {
    const RoundRecord& record = result.rounds[i];
    Napi::Object round = Napi::Object::New(env);
    round.Set("drafted", static_cast<double>(record.drafted));
    round.Set("accepted", static_cast<double>(record.accepted));
    round.Set("gateStopped", record.gate_stopped);
    round.Set("draftEntropy", record.draft_entropy);
    round.Set("targetEntropy", record.target_entropy);
    rounds.Set(i, round);
  }
  entry.Set("rounds", rounds);
  if (!result.trace.empty()) entry.Set("trace", from_floats(env, result.trace));
}

}  // namespace

Napi::Object from_step_result(Napi::Env env, StepResult&& result) {
  Napi::Array decode = Napi::Array::New(env, result.decode.size());
  for (uint32_t i = 0; i < result.decode.size(); ++i) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("sequence", static_cast<double>(result.decode[i].sequence));
    entry.Set("emittedTokens", static_cast<double>(result.decode[i].emitted_tokens));
    entry.Set("cancelled", result.decode[i].cancelled);
    if (result.decode[i].speculating) set_rounds(env, entry, result.decode[i]);
    decode.Set(i, entry);
  }
  Napi::Array images = Napi::Array::New(env, result.images.size());
  for (uint32_t i = 0; i < result.images.size(); ++i) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("sequence", static_cast<double>(result.images[i].sequence));
    entry.Set("tokens", static_cast<double>(result.images[i].tokens));
    entry.Set("width", static_cast<double>(result.images[i].width));
    entry.Set("height", static_cast<double>(result.images[i].height));
    entry.Set("rgb", from_bytes(env, std::move(result.images[i].rgb)));
    images.Set(i, entry);
  }
  Napi::Array tokens = Napi::Array::New(env, result.tokens.size());
  for (uint32_t i = 0; i < result.tokens.size(); ++i) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("sequence", static_cast<double>(result.tokens[i].sequence));
    entry.Set("begin", static_cast<double>(result.tokens[i].begin));
    entry.Set("end", static_cast<double>(result.tokens[i].end));
    entry.Set("data", from_floats(env, result.tokens[i].data));
    tokens.Set(i, entry);
  }
  Napi::Object timings = Napi::Object::New(env);
  timings.Set("total", result.timings.total);
  timings.Set("flowHead", result.timings.flow_head);
  timings.Set("backbone", result.timings.backbone);
  timings.Set("draft", result.timings.draft);
  timings.Set("verify", result.timings.verify);
  timings.Set("vae", result.timings.vae);
  timings.Set("preview", result.timings.preview);
  Napi::Object out = Napi::Object::New(env);
  out.Set("decode", decode);
  out.Set("images", images);
  out.Set("tokens", tokens);
  out.Set("timings", timings);
  out.Set("flowHeadEvaluations", static_cast<double>(result.flow_head_evaluations));
  out.Set("backboneTokens", static_cast<double>(result.backbone_tokens));
  return out;
}

Napi::Object from_arrays(Napi::Env env, const HostArrays& arrays) {
  Napi::Object out = Napi::Object::New(env);
  for (const auto& [name, array] : arrays) {
    Napi::Array shape = Napi::Array::New(env, array.shape.size());
    for (uint32_t i = 0; i < array.shape.size(); ++i) shape.Set(i, static_cast<double>(array.shape[i]));
    Napi::Object tensor = Napi::Object::New(env);
    tensor.Set("data", from_floats(env, array.data));
    tensor.Set("shape", shape);
    out.Set(name, tensor);
  }
  return out;
}

}  // namespace ardiff::addon
