// Accelerator folders: what is loaded is reported, what is broken is a typed error that names the file, and a model
// without one refuses what needs it.
#include "expect_error.h"
#include "support/speculation_fixture.h"

namespace ardiff {
namespace {

using namespace testing_support;

class AcceleratorFolder : public testing::Test {
 protected:
  std::unique_ptr<NextStepEngine> load() { return std::make_unique<NextStepEngine>(*backend_, model_.path(), LoadOptions{8, 64, model_.accelerator().string()}); }
  void refused(const std::string& part) {
    expect_error([&] { load(); }, ErrorCode::kInvalidModel, part);
  }

  std::unique_ptr<Backend> backend_ = make_backend({"reference", "float32", 1});
  AcceleratedModel model_;
};

TEST_F(AcceleratorFolder, IsReported) {
  const auto engine = load();
  const AcceleratorInfo& info = engine->info().accelerator;
  EXPECT_EQ(info.draft_layers, 2);
  EXPECT_TRUE(info.draft_head);
  EXPECT_TRUE(info.few_step);
  int64_t parameters = 0;
  for (const NamedTensors& tensors : {model_.draft(), model_.few_step()}) {
    for (const auto& [name, tensor] : tensors) parameters += static_cast<int64_t>(tensor.values.size());
  }
  EXPECT_EQ(info.parameters, parameters);
  NextStepEngine plain(*backend_, model_.path(), {.kv_blocks = 8, .max_step_tokens = 64});
  EXPECT_EQ(plain.info().accelerator.draft_layers, 0);
  // Two layers beside the model's three.
  EXPECT_EQ(engine->info().block_bytes * 3, plain.info().block_bytes * 5);
  EXPECT_EQ(engine->info().parameters, plain.info().parameters);
}

TEST_F(AcceleratorFolder, EitherFileAlone) {
  std::filesystem::remove(model_.accelerator() / "draft.safetensors");
  EXPECT_TRUE(load()->info().accelerator.few_step);
  EXPECT_EQ(load()->info().accelerator.draft_layers, 0);
  model_.write_draft(model_.draft());
  std::filesystem::remove(model_.accelerator() / "few_step.safetensors");
  EXPECT_FALSE(load()->info().accelerator.few_step);
  EXPECT_EQ(load()->info().accelerator.draft_layers, 2);
  std::filesystem::remove(model_.accelerator() / "draft.safetensors");
  refused("neither draft.safetensors nor few_step.safetensors");
}

TEST_F(AcceleratorFolder, EveryTensorIsNeededInItsShape) {
  // Biases may be absent, by their presence; a head's inner width is its own.
  const auto is_optional = [](const std::string& name) { return name.ends_with(".bias") && !name.ends_with("in_ln.bias"); };
  for (const bool draft : {true, false}) {
    const NamedTensors whole = draft ? model_.draft() : model_.few_step();
    const std::string file = draft ? "draft.safetensors" : "few_step.safetensors";
    const auto write = [&](const NamedTensors& tensors) { draft ? model_.write_draft(tensors) : model_.write_few_step(tensors); };
    for (const auto& entry : whole) {
      const std::string& name = entry.first;
      SCOPED_TRACE(name);
      NamedTensors broken = whole;
      if (!is_optional(name)) {
        broken.erase(name);
        write(broken);
        // The first tensor of an interval_embed is what tells a few-step head.
        refused(name.ends_with("interval_embed.mlp.0.weight") ? "has no interval_embed" : name);
      }
      broken = whole;
      NamedTensor& tensor = broken.at(name);
      tensor.values.resize(tensor.values.size() / static_cast<size_t>(tensor.shape[0]) * static_cast<size_t>(tensor.shape[0] + 1), 0.0f);
      ++tensor.shape[0];
      write(broken);
      refused("expected shape");
    }
    write(whole);
  }
  load();
}

TEST_F(AcceleratorFolder, HostileFiles) {
  const std::filesystem::path draft = model_.accelerator() / "draft.safetensors";
  const auto size = std::filesystem::file_size(draft);
  for (const auto keep : {size - 1, size / 2, uintmax_t{9}, uintmax_t{8}, uintmax_t{3}, uintmax_t{0}}) {
    model_.write_draft(model_.draft());
    std::filesystem::resize_file(draft, keep);
    refused("draft.safetensors");
  }
  model_.dir().write("accelerator/draft.safetensors", std::string(8, '\xff') + "{}");
  refused("draft.safetensors");
  // A layer far away does not make the loader walk there.
  NamedTensors far = model_.draft();
  far["layers.2000000000.input_layernorm.weight"] = far.at("norm.weight");
  far["layers.99999999999999999999.x"] = far.at("norm.weight");
  model_.write_draft(far);
  refused("layers.2.");
  NamedTensors without = model_.draft();
  std::erase_if(without, [](const auto& entry) { return entry.first.starts_with("layers."); });
  model_.write_draft(without);
  refused("without layers");
  NamedTensors stepped = model_.draft();
  for (const auto& [name, tensor] : model_.few_step()) {
    if (name.find("interval_embed") != std::string::npos) stepped["head.net." + name.substr(std::string("image_head.net.").size())] = tensor;
  }
  model_.write_draft(stepped);
  refused("the draft's head is a few-step head");
}

TEST_F(AcceleratorFolder, WithoutOneNothingIsAccelerated) {
  NextStepEngine engine(*backend_, model_.path(), {.kv_blocks = 8, .max_step_tokens = 64});
  const auto admit = [&](const SequenceSpec& spec, const std::string& part) {
    StepPlan plan;
    plan.admit = {spec};
    expect_error([&] { engine.step(plan); }, ErrorCode::kInvalidArgument, part);
  };
  admit(plain_picture(1, "x", 1, 1, 1), "no few-step head is loaded");
  admit(speculating(plain_picture(1, "x", 1), SpeculationMode::kExact, 2), "no draft model is loaded");
  expect_error([&] { engine.probe_few_step({}, {}, {}, {}); }, ErrorCode::kInvalidArgument, "no few-step head");
  expect_error([&] { engine.probe_draft({}, {}, 0, 0); }, ErrorCode::kInvalidArgument, "no draft model");
}

TEST_F(AcceleratorFolder, DraftWithoutAHeadDraftsForFewStepsOnly) {
  NamedTensors draft = model_.draft();
  std::erase_if(draft, [](const auto& entry) { return entry.first.starts_with("head."); });
  model_.write_draft(draft);
  const auto engine = std::make_unique<NextStepEngine>(*backend_, model_.path(), LoadOptions{64, 256, model_.accelerator().string()});
  EXPECT_FALSE(engine->info().accelerator.draft_head);
  StepPlan plan;
  plan.admit = {speculating(plain_picture(1, "x", 1), SpeculationMode::kExact, 2)};
  expect_error([&] { engine->step(plan); }, ErrorCode::kInvalidArgument, "needs a draft head");
  const SequenceSpec spec = plain_picture(2, "x", 1, 1, 1);
  const Drawn plain = Studio(*engine).draw(spec);
  EXPECT_EQ(Studio(*engine).draw(speculating(spec, SpeculationMode::kRelaxed, 3)).tokens, plain.tokens);
}

}  // namespace
}  // namespace ardiff
