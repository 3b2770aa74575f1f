#include "golden_runner.h"

#include <algorithm>
#include <cmath>

#include "engine/nextstep_engine.h"
#include "engine/transdiff_engine.h"
#include "io/json_file.h"
#include "io/mmap_file.h"
#include "io/safetensors.h"

namespace ardiff::golden {

namespace {

// Keeps the manifest's order: `expect` lists its tensors in the order of the stages.
using json = nlohmann::ordered_json;

class Fixtures {
 public:
  explicit Fixtures(const std::filesystem::path& path) : file_(path), tensors_(parse_safetensors(file_.bytes(), path.filename().string())) {}

  HostArray get(const std::string& name) const {
    const HostTensor& tensor = tensors_.at(name);
    HostArray out;
    const auto* values = static_cast<const float*>(tensor.data);
    out.data.assign(values, values + tensor.shape.size());
    for (int i = 0; i < tensor.shape.rank(); ++i) out.shape.push_back(tensor.shape[i]);
    return out;
  }

 private:
  MmapFile file_;
  std::map<std::string, HostTensor> tensors_;
};

HostArray with_leading_one(HostArray array) {
  array.shape.insert(array.shape.begin(), 1);
  return array;
}

// (C, h p, w p) -> (h w, C p²), with the VAE's factors (nextstep.md 8).
std::vector<float> patchify(const HostArray& z, int64_t p, double scaling, double shift) {
  const int64_t c = z.shape[0], height = z.shape[1], width = z.shape[2], w = width / p;
  std::vector<float> tokens(z.data.size());
  for (int64_t i = 0; i < c; ++i) {
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t x = 0; x < width; ++x) {
        const int64_t token = y / p * w + x / p, element = i * p * p + y % p * p + x % p;
        tokens[static_cast<size_t>(token * c * p * p + element)] =
            static_cast<float>((z.data[static_cast<size_t>((i * height + y) * width + x)] - shift) * scaling);
      }
    }
  }
  return tokens;
}

HostArray unpatchify(const HostArray& tokens, int64_t h, int64_t w, int64_t c, int64_t p, double scaling, double shift) {
  HostArray z{std::vector<float>(tokens.data.size()), {1, c, h * p, w * p}};
  for (int64_t i = 0; i < c; ++i) {
    for (int64_t y = 0; y < h * p; ++y) {
      for (int64_t x = 0; x < w * p; ++x) {
        const int64_t token = y / p * w + x / p, element = i * p * p + y % p * p + x % p;
        z.data[static_cast<size_t>((i * h * p + y) * w * p + x)] =
            static_cast<float>(tokens.data[static_cast<size_t>(token * c * p * p + element)] / scaling + shift);
      }
    }
  }
  return z;
}

SequenceSpec settings(const json& params) {
  SequenceSpec spec;
  spec.id = 1;
  spec.use_norm = params.value("use_norm", false);
  if (params.contains("grid")) {
    spec.grid_height = params["grid"][0];
    spec.grid_width = params["grid"][1];
  }
  spec.few_step = params.value("few_step", 0);
  if (spec.few_step > 0) return spec;
  spec.sampler.sampler = parse_sampler(params.at("sampler"));
  spec.sampler.timesteps = params.at("timesteps");
  spec.sampler.shift = params.at("timestep_shift");
  spec.sampler.level = params.value("level", 0.8);
  spec.guidance_scale = params.at("guidance_scale");
  spec.image_guidance_scale = params.value("image_guidance_scale", 1.0);
  spec.guidance_schedule = parse_guidance_schedule(params.value("guidance_schedule", "constant"));
  return spec;
}

// The whole picture through step plans: every row prefilled, then one token a step. Block tables are interleaved
// so that rows do not lie next to each other.
std::vector<HostArray> draw(NextStepEngine& engine, const SequenceSpec& spec, double scaling, double shift) {
  const auto rows = spec.prompt_rows.size();
  const int64_t count = spec.grid_height * spec.grid_width;
  std::vector<std::vector<int32_t>> tables(rows);
  for (int64_t i = 0; i < engine.info().kv_blocks; ++i) tables[static_cast<size_t>(i) % rows].push_back(static_cast<int32_t>(i));
  StepPlan first;
  first.admit = {spec};
  for (size_t r = 0; r < rows; ++r) {
    first.prefill.push_back({spec.id, static_cast<int64_t>(r), 0, static_cast<int64_t>(spec.prompt_rows[r].size()), tables[r]});
  }
  engine.step(first);
  for (int64_t n = 0; n < count; ++n) {
    StepPlan plan;
    plan.decode = {{spec.id, tables}};
    engine.step(plan);
  }
  const HostArray tokens = engine.probe_tokens(spec.id);
  StepPlan last;
  last.release = {spec.id};
  engine.step(last);
  const ModelInfo& info = engine.info();
  const HostArray z =
      unpatchify(tokens, spec.grid_height, spec.grid_width, info.latent_channels, info.latent_patch_size, scaling, shift);
  return {tokens, engine.probe_vae_decode(z)};
}

std::vector<HostArray> run_case(NextStepEngine& engine, const Fixtures& fixtures, const json& c, const VaeConfig& vae) {
  const std::string kind = c.at("kind");
  const auto fixture = [&](const char* key) { return fixtures.get(c.at(key)); };
  if (kind == "flow_head") return {engine.probe_flow_head(fixture("x"), fixture("t"), fixture("condition"))};
  if (kind == "few_step") return {engine.probe_few_step(fixture("x"), fixture("t"), fixture("r"), fixture("condition"))};
  if (kind == "draft_head") return {engine.probe_draft_head(fixture("x"), fixture("t"), fixture("condition"))};
  if (kind == "draft") {
    auto [features, entropy] = engine.probe_draft(fixture("features"), fixture("inputs"), c.at("masked"), c.at("first_key"));
    return {features, entropy};
  }
  if (kind == "sampler") return {engine.probe_sampler(fixture("condition"), fixture("noise"), settings(c.at("params")))};
  if (kind == "vae_decode") return {engine.probe_vae_decode(fixture("latent"))};
  if (kind == "vae_encode") return {engine.probe_vae_encode(fixture("pixels"))};
  if (kind == "backbone") {
    auto [prefill, step] = engine.probe_backbone(fixture("ids"), fixture("step_embedding"));
    return {prefill, step};
  }
  check(kind == "text_to_image" || kind == "edit", ErrorCode::kInvalidArgument, "unknown case kind '", kind, "'");
  SequenceSpec spec = settings(c.at("params"));
  spec.noise = fixture("noise").data;
  for (const std::string name : c.at("rows")) {
    const HostArray ids = fixtures.get(name);
    spec.prompt_rows.emplace_back();
    for (const float id : ids.data) spec.prompt_rows.back().push_back(static_cast<int32_t>(id));
  }
  if (kind == "edit") {
    HostArray pixels = fixture("pixels");
    HostArray latent = engine.probe_vae_encode(pixels.shape.size() == 3 ? with_leading_one(pixels) : pixels);
    latent.shape.erase(latent.shape.begin());
    spec.input_image_tokens = patchify(latent, engine.info().latent_patch_size, vae.scaling_factor, vae.shift_factor);
  }
  return draw(engine, spec, vae.scaling_factor, vae.shift_factor);
}

// The cases of a TransDiff folder (docs/transdiff.md) are probes.
std::vector<HostArray> run_transdiff_case(TransDiffEngine& engine, const Fixtures& fixtures, const json& c) {
  const std::string kind = c.at("kind");
  const auto fixture = [&](const char* key) { return fixtures.get(c.at(key)); };
  if (kind == "decoder_call") return {engine.probe_decoder_call(fixture("x"), fixture("condition"), fixture("t_times_1000"))};
  if (kind == "few_step") return {engine.probe_few_step(fixture("x"), fixture("t"), fixture("r"), fixture("condition"))};
  if (kind == "class_to_latent") {
    const json& params = c.at("params");
    SequenceSpec spec;
    spec.few_step = params.value("few_step", 0);
    spec.sampler.sampler = Sampler::kMaruyama;
    if (spec.few_step == 0) {
      spec.sampler = {.sampler = Sampler::kMaruyama, .timesteps = params.at("steps"), .drift_scale = params.at("scale_0"), .noise_scale = params.at("scale_1")};
      spec.guidance_scale = params.at("cfg");
    }
    HostArrays arrays = engine.probe_class_to_latent(fixture("labels"), fixture("noise"), spec.few_step == 0 ? fixture("step_noise") : HostArray(), spec);
    std::vector<HostArray> out;
    // z of every pass where they were recorded: those of jumps are the model's own.
    for (size_t pass = 0; pass + 1 < c.at("expect").size(); ++pass) out.push_back(arrays.at("z" + std::to_string(pass)));
    out.push_back(arrays.at("latents"));
    return out;
  }
  check(kind == "vae_decode", ErrorCode::kInvalidArgument, "unknown case kind '", kind, "'");
  HostArray latent = fixture("latent");
  const int64_t pictures = c.value("rows", latent.shape[0]);
  latent.data.resize(latent.data.size() / static_cast<size_t>(latent.shape[0]) * static_cast<size_t>(pictures));
  latent.shape[0] = pictures;
  const float divisor = c.at("params").value("divide_by", 1.0f);
  for (float& value : latent.data) value /= divisor;
  return {engine.probe({.kind = "vae_decode", .tensors = {{"latent", latent}}}).at("image")};
}

double difference(const HostArray& got, const HostArray& expected) {
  check(got.data.size() == expected.data.size(), ErrorCode::kInternal, "got ", got.data.size(), " numbers, expected ", expected.data.size());
  double worst = 0, largest = 1;
  for (size_t i = 0; i < got.data.size(); ++i) {
    const double d = std::abs(static_cast<double>(got.data[i]) - expected.data[i]);
    worst = std::isnan(d) ? INFINITY : std::max(worst, d);
    largest = std::max(largest, std::abs(static_cast<double>(expected.data[i])));
  }
  return worst / largest;
}

double rms_difference(const HostArray& got, const HostArray& expected) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < got.data.size(); ++i) {
    const double d = static_cast<double>(got.data[i]) - expected.data[i];
    difference += d * d;
    size += static_cast<double>(expected.data[i]) * expected.data[i];
  }
  return std::sqrt(difference / size);
}

// Every expected tensor of every case beside what `run_one` gives.
template <typename RunCase>
std::vector<Outcome> judge(const json& manifest, const Fixtures& fixtures, RunCase&& run_one) {
  std::vector<Outcome> out;
  for (const json& c : manifest.at("cases")) {
    const std::vector<HostArray> results = run_one(c);
    check(c.at("expect").size() == results.size(), ErrorCode::kInternal, "case expects ", c.at("expect").size(), " tensors");
    size_t stage = 0;
    for (const auto& [name, tolerance] : c.at("expect").items()) {
      const HostArray expected = fixtures.get(name);
      out.push_back({c.at("name"), name, difference(results[stage], expected), rms_difference(results[stage], expected), tolerance});
      ++stage;
    }
  }
  return out;
}

}  // namespace

std::vector<Outcome> run(const std::filesystem::path& directory, Backend& backend) {
  const MmapFile manifest_file(directory / "manifest.json");
  const auto* text = reinterpret_cast<const char*>(manifest_file.bytes().data());
  const json manifest = json::parse(text, text + manifest_file.bytes().size());
  const Fixtures fixtures(directory / "fixtures.safetensors");
  const std::string family = manifest.value("family", "");
  // Cases of an accelerator lie in its folder, inside that of the model.
  const bool accelerated = !std::filesystem::exists(directory / "config.json");
  const auto model = accelerated ? directory.parent_path() : directory;
  const std::string accelerator = accelerated ? directory.string() : "";
  if (family == "transdiff" || family == "transdiff-mrar") {
    const bool has_vae = manifest.contains("vae") && !manifest.at("vae").is_null();
    const std::string folder = has_vae ? (directory / manifest.at("vae").get<std::string>()).string() : "";
    TransDiffEngine engine(backend, model, {.kv_blocks = 1, .max_step_tokens = 1024, .accelerator = accelerator, .vae = folder});
    return judge(manifest, fixtures, [&](const json& c) { return run_transdiff_case(engine, fixtures, c); });
  }
  check(family == "nextstep", ErrorCode::kInvalidArgument, "family '", family, "' is not supported");
  NextStepEngine engine(backend, model, {.kv_blocks = 64, .max_step_tokens = 512, .accelerator = accelerator});
  const VaeConfig vae = read_vae_config(directory / manifest.value("vae", "vae"));
  return judge(manifest, fixtures, [&](const json& c) { return run_case(engine, fixtures, c, vae); });
}

}  // namespace ardiff::golden
