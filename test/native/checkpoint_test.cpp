// Model folders: shards and their index, shapes against the config, paths that try to leave the folder.
#include "io/checkpoint.h"

#include <gtest/gtest.h>

#include <cstring>

#include "engine/nextstep_engine.h"
#include "expect_error.h"
#include "model/model_config.h"
#include "model/vae_names.h"
#include "support/golden_dir.h"
#include "temp_dir.h"

namespace ardiff {
namespace {

using testing_support::TempDir;

std::string one_tensor(const std::string& name, const std::string& dtype = "F32", size_t bytes = 8, const std::string& pad = "") {
  const std::string header = R"({")" + name + R"(":{"dtype":")" + dtype + R"(","shape":[2],"data_offsets":[0,)" + std::to_string(bytes) + "]}}" + pad;
  std::string file(8, '\0');
  const uint64_t size = header.size();
  std::memcpy(file.data(), &size, 8);
  file += header;
  const float values[] = {1.5f, -2.0f};
  file.append(reinterpret_cast<const char*>(values), bytes);
  return file;
}

TEST(Checkpoint, ReadsShardsThroughTheIndex) {
  const TempDir dir;
  dir.write("model-00001-of-00002.safetensors", one_tensor("a"));
  dir.write("model-00002-of-00002.safetensors", one_tensor("model.b"));
  dir.write("model.safetensors.index.json",
            R"({"weight_map":{"a":"model-00001-of-00002.safetensors","model.b":"model-00002-of-00002.safetensors"}})");
  const Checkpoint checkpoint(dir.path(), "model");
  EXPECT_TRUE(checkpoint.require("a", {2}));
  EXPECT_TRUE(checkpoint.require("b", {2})) << "the optional prefix 'model.' is tolerated";
  EXPECT_FALSE(checkpoint.find("c"));
  EXPECT_EQ(checkpoint.parameters(), 4);
}

TEST(Checkpoint, ReadsTensorsThatAreNotAligned) {
  const TempDir dir;
  for (const char* pad : {"", " ", "  ", "   "}) {
    dir.write("model.safetensors", one_tensor("a", "F32", 8, pad));
    const Checkpoint checkpoint(dir.path(), "model");
    const HostTensor tensor = checkpoint.require("a", {2});
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data) % 4, 0u);
    EXPECT_EQ(static_cast<const float*>(tensor.data)[1], -2.0f);
  }
}

TEST(Checkpoint, SaysWhatIsWrong) {
  const TempDir dir;
  expect_error([&] { Checkpoint(dir.path(), "model"); }, ErrorCode::kInvalidModel, "no such file");
  dir.write("model.safetensors", one_tensor("a"));
  const Checkpoint checkpoint(dir.path(), "model");
  expect_error([&] { checkpoint.require("a", {3}); }, ErrorCode::kInvalidModel, "expected shape [3] from the config, found [2]");
  expect_error([&] { checkpoint.require("z", {3}); }, ErrorCode::kInvalidModel, "tensor 'z' of shape [3] is missing");
  dir.write("model.safetensors", one_tensor("a", "I32"));
  const Checkpoint integers(dir.path(), "model");
  expect_error([&] { integers.require("a", {2}); }, ErrorCode::kInvalidModel, "expected a float dtype");
}

TEST(Checkpoint, RefusesHostileIndexes) {
  const TempDir dir;
  dir.write("model.safetensors", one_tensor("a"));
  for (const char* shard : {"../model.safetensors", "/etc/passwd", "..", "", "a/../b"}) {
    dir.write("model.safetensors.index.json", std::string(R"({"weight_map":{"a":")") + shard + R"("}})");
    expect_error([&] { Checkpoint(dir.path(), "model"); }, ErrorCode::kInvalidModel, "is not a file name");
  }
  dir.write("model.safetensors.index.json", R"({"weight_map":{"b":"model.safetensors"}})");
  expect_error([&] { Checkpoint(dir.path(), "model"); }, ErrorCode::kInvalidModel, "tensor 'b' is not in model.safetensors");
  dir.write("model.safetensors.index.json", R"({"weight_map":[1]})");
  expect_error([&] { Checkpoint(dir.path(), "model"); }, ErrorCode::kInvalidModel, "no weight_map");
}

TEST(ModelConfig, AcceptsBothSpellingsAndDerivesDefaults) {
  const TempDir dir;
  dir.write("config.json", R"({"hidden_size":48,"intermediate_size":80,"num_hidden_layers":3,"num_attention_heads":6,"vocab_size":200000,
    "patch_size":4,"num_channels":8,"genloss_width":64,"genloss_depth":5,"rope_scaling":null})");
  const NextStepConfig config = read_nextstep_config(dir.path());
  EXPECT_EQ(config.image.latent_patch_size, 4);
  EXPECT_EQ(config.image.latent_channels, 8);
  EXPECT_EQ(config.image.token_size(), 128);
  EXPECT_EQ(config.head.width, 64);
  EXPECT_EQ(config.head.num_blocks, 5);
  EXPECT_EQ(config.backbone.head_dim, 8);
  EXPECT_EQ(config.backbone.num_kv_heads, 6);
  EXPECT_EQ(config.image.boi_token_id, 151667);
}

TEST(ModelConfig, RefusesWhatItCannotDo) {
  const TempDir dir;
  const auto expect = [&](const std::string& extra, const std::string& part) {
    dir.write("config.json", R"({"hidden_size":48,"intermediate_size":80,"num_hidden_layers":3,"num_attention_heads":6,"vocab_size":200000)" + extra + "}");
    expect_error([&] { read_nextstep_config(dir.path()); }, ErrorCode::kInvalidModel, part);
  };
  expect(R"(,"num_key_value_heads":4)", "not a multiple");
  expect(R"(,"use_2d_rope":true)", "use_2d_rope");
  expect(R"(,"rope_scaling":{"type":"yarn"})", "rope_scaling");
  expect(R"(,"hidden_act":"gelu")", "hidden_act");
  expect(R"(,"head_dim":7)", "odd");
  expect(R"(,"vae_name_or_path":"../../secret")", "leaves the model folder");
  expect(R"(,"vae_name_or_path":"/etc")", "leaves the model folder");
  expect(R"(,"model_type":"llama")", "model_type");
  expect(R"(,"patch_size":1e300)", "not an integer");
  expect(R"(,"patch_size":18446744073709551615)", "not an integer");
  dir.write("config.json", "[1]");
  expect_error([&] { read_nextstep_config(dir.path()); }, ErrorCode::kInvalidModel, "not a JSON object");
}

TEST(VaeNames, TranslateToDiffusers) {
  const auto name = [](const char* released) { return VaeNames::to_diffusers(released, 4); };
  EXPECT_EQ(name("decoder.up.3.block.0.nin_shortcut"), "decoder.up_blocks.0.resnets.0.conv_shortcut");
  EXPECT_EQ(name("decoder.up.1.upsample.conv"), "decoder.up_blocks.2.upsamplers.0.conv");
  EXPECT_EQ(name("encoder.down.0.downsample.conv"), "encoder.down_blocks.0.downsamplers.0.conv");
  EXPECT_EQ(name("encoder.down.2.block.1.norm2"), "encoder.down_blocks.2.resnets.1.norm2");
  EXPECT_EQ(name("decoder.mid.block_2.conv1"), "decoder.mid_block.resnets.1.conv1");
  EXPECT_EQ(name("decoder.mid.attn_1.norm"), "decoder.mid_block.attentions.0.group_norm");
  EXPECT_EQ(name("decoder.mid.attn_1.q"), "decoder.mid_block.attentions.0.to_q");
  EXPECT_EQ(name("decoder.mid.attn_1.proj_out"), "decoder.mid_block.attentions.0.to_out.0");
  EXPECT_EQ(name("decoder.norm_out"), "decoder.conv_norm_out");
  EXPECT_EQ(name("decoder.conv_in"), "decoder.conv_in");
}

// A copy of the golden folder with one file replaced: the engine says what is wrong and survives.
class BrokenFolder : public testing::Test {
 protected:
  BrokenFolder() { std::filesystem::copy(testing_support::golden_dir() / "nextstep-tiny", dir_.path(), std::filesystem::copy_options::recursive); }
  void expect(const std::string& part) {
    const auto backend = make_backend({.name = "reference", .dtype = "float32", .threads = 1});
    expect_error([&] { NextStepEngine(*backend, dir_.path(), {.kv_blocks = 8, .max_step_tokens = 64}); }, ErrorCode::kInvalidModel, part);
  }
  TempDir dir_;
};

TEST_F(BrokenFolder, TruncatedWeights) {
  std::filesystem::resize_file(dir_.path() / "model.safetensors", 400000);
  expect("outside the file's");
}
TEST_F(BrokenFolder, WrongDimension) {
  std::string config = R"({"vocab_size":133,"hidden_size":48,"intermediate_size":81,"num_hidden_layers":3,"num_attention_heads":6,"num_key_value_heads":2,"head_dim":8,"boi":130,"image_placeholder_id":132,"latent_channels":4,"fm_head_dim":64,"fm_head_layers":2})";
  dir_.write("config.json", config);
  expect("gate_proj.weight: expected shape [81, 48] from the config, found [80, 48]");
}
TEST_F(BrokenFolder, TooFewHeadBlocksInConfig) {
  std::string config = R"({"vocab_size":133,"hidden_size":48,"intermediate_size":80,"num_hidden_layers":3,"num_attention_heads":6,"num_key_value_heads":2,"head_dim":8,"boi":130,"image_placeholder_id":132,"latent_channels":4,"fm_head_dim":64,"fm_head_layers":1})";
  dir_.write("config.json", config);
  expect("more flow-head blocks");
}
TEST_F(BrokenFolder, OnlyAPickledVae) {
  std::filesystem::rename(dir_.path() / "vae/model.safetensors", dir_.path() / "vae/checkpoint.pt");
  expect("convert it once");
}
TEST_F(BrokenFolder, NoVaeConfig) {
  std::filesystem::remove(dir_.path() / "vae/config.json");
  expect("cannot open");
}

}  // namespace
}  // namespace ardiff
