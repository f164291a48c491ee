#include "storage/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "storage/test_directory.h"

namespace nestling {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// A weight file with one-element tensors of these names, valued 1, 2, 3 ...
void write_weights(const std::filesystem::path& path, const std::vector<std::string>& names) {
  std::vector<SafetensorsPlan> plans;
  for (const std::string& name : names) plans.push_back({name, SafetensorsType::kF32, {1}});
  auto writer = SafetensorsWriter::create(path, {}, plans).value();
  for (size_t i = 0; i < names.size(); ++i) {
    const auto value = static_cast<float>(i + 1);
    ASSERT_TRUE(writer.write(i, 0, std::as_bytes(std::span(&value, 1))));
  }
  ASSERT_TRUE(writer.commit());
}

float value_of(const Checkpoint& checkpoint, std::string_view name) {
  const CheckpointTensor* tensor = checkpoint.find(name);
  if (tensor == nullptr) return -1;
  float value = -2;
  EXPECT_TRUE(tensor->file->read_floats(tensor->entry, 0, {&value, 1}));
  return value;
}

std::vector<std::string> names_of(const Checkpoint& checkpoint) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : checkpoint.tensors()) names.push_back(name);
  return names;
}

std::string refusal(const TestDirectory& directory) {
  const auto checkpoint = Checkpoint::open(directory.path());
  if (checkpoint) return "accepted";
  EXPECT_EQ(checkpoint.error().code, ErrorCode::kModel);
  return checkpoint.error().message;
}

TEST(Checkpoint, EveryPrefixBecomesTheCanonicalName) {
  const std::vector<std::string> canonical{"audio_tower.conformer.0.norm.weight",
                                           "embed_audio.embedding.weight",
                                           "embed_vision.embedding.weight",
                                           "language_model.embed_tokens.weight",
                                           "language_model.layers.0.self_attn.q_proj.weight",
                                           "vision_tower.timm_model.conv_stem.conv.weight"};
  const auto renamed = [&](const std::string& text_prefix, const std::string& tower_prefix) {
    std::vector<std::string> names;
    for (const std::string& name : canonical) {
      const bool is_text = name.starts_with("language_model.");
      names.push_back(is_text ? text_prefix + name.substr(15) : tower_prefix + name);
    }
    return names;
  };
  for (const auto& [text, tower] : std::vector<std::pair<std::string, std::string>>{
           {"model.language_model.", "model."},  // Gemma3nForConditionalGeneration
           {"language_model.model.", ""},        // older exports
           {"language_model.", ""},
           {"model.", "model."},  // Gemma3nForCausalLM
           {"", ""}}) {
    const TestDirectory directory;
    directory.write("config.json", "{}");
    write_weights(directory / "model.safetensors", renamed(text, tower));
    const Checkpoint checkpoint = Checkpoint::open(directory.path()).value();
    EXPECT_EQ(names_of(checkpoint), canonical) << text;
    EXPECT_EQ(value_of(checkpoint, canonical[4]), 5.0f) << text;
  }
}

TEST(Checkpoint, LeavesTheTiedHeadOut) {
  for (const char* head : {"lm_head.weight", "language_model.lm_head.weight", "model.lm_head.weight"}) {
    const TestDirectory directory;
    directory.write("config.json", "{}");
    write_weights(directory / "model.safetensors", {"model.norm.weight", head});
    EXPECT_THAT(names_of(Checkpoint::open(directory.path()).value()), ElementsAre("language_model.norm.weight"));
  }
}

TEST(Checkpoint, ReadsShardsByTheirIndex) {
  const TestDirectory directory;
  directory.write("config.json", R"({"model_type":"gemma3n"})");
  directory.write("generation_config.json", R"({"top_k":64})");
  directory.write("tokenizer.model", "pieces");
  write_weights(directory / "model-00001-of-00002.safetensors", {"model.language_model.b", "model.unlisted"});
  write_weights(directory / "model-00002-of-00002.safetensors", {"model.vision_tower.x", "model.language_model.a"});
  directory.write("model.safetensors", "is not read when there is an index");
  directory.write("model.safetensors.index.json",
                  R"({"metadata":{"total_size":12},"weight_map":{
                      "model.language_model.a":"model-00002-of-00002.safetensors",
                      "model.language_model.b":"model-00001-of-00002.safetensors",
                      "model.vision_tower.x":"model-00002-of-00002.safetensors"}})");
  const Checkpoint checkpoint = Checkpoint::open(directory.path()).value();
  EXPECT_THAT(names_of(checkpoint), ElementsAre("language_model.a", "language_model.b", "vision_tower.x"));
  EXPECT_EQ(value_of(checkpoint, "language_model.a"), 2.0f);
  EXPECT_EQ(value_of(checkpoint, "language_model.b"), 1.0f);
  EXPECT_EQ(checkpoint.find("language_model.a")->entry.name, "model.language_model.a");
  EXPECT_EQ(checkpoint.find("language_model.unlisted"), nullptr);
  EXPECT_EQ(checkpoint.config_json(), R"({"model_type":"gemma3n"})");
  EXPECT_EQ(checkpoint.generation_json(), R"({"top_k":64})");
  EXPECT_EQ(checkpoint.directory(), directory.path());
  EXPECT_EQ(checkpoint.identity().size(), 6u);  // two configs, tokenizer, index, two shards
  EXPECT_THAT(checkpoint.identity(), Each(StartsWith(directory.path().string())));
}

TEST(Checkpoint, IdentityChangesWithAnyFile) {
  const TestDirectory directory;
  directory.write("config.json", "{}");
  directory.write("tokenizer.model", "pieces");
  write_weights(directory / "model.safetensors", {"a"});
  const auto before = Checkpoint::open(directory.path()).value().identity();
  EXPECT_EQ(before, Checkpoint::open(directory.path()).value().identity());
  for (const char* name : {"config.json", "tokenizer.model", "model.safetensors"}) {
    const auto time = std::filesystem::last_write_time(directory / name);
    std::filesystem::last_write_time(directory / name, time + std::chrono::seconds(1));
    EXPECT_NE(before, Checkpoint::open(directory.path()).value().identity()) << name;
    std::filesystem::last_write_time(directory / name, time);
  }
}

TEST(Checkpoint, SaysWhatIsMissing) {
  const TestDirectory directory;
  EXPECT_THAT(Checkpoint::open(directory / "absent").error().message, HasSubstr("is not a directory"));
  EXPECT_THAT(refusal(directory), HasSubstr("holds no config.json"));
  directory.write("config.json", "{}");
  EXPECT_THAT(refusal(directory), HasSubstr("neither model.safetensors.index.json nor model.safetensors"));
  directory.write("model.safetensors", "junk");
  EXPECT_THAT(refusal(directory), HasSubstr("model.safetensors: has 4 bytes"));
  EXPECT_EQ(Checkpoint::open(directory / "absent").error().code, ErrorCode::kModel);
}

TEST(Checkpoint, TwoNamesOfOneTensorAreAnError) {
  const TestDirectory directory;
  directory.write("config.json", "{}");
  write_weights(directory / "model.safetensors", {"model.language_model.norm.weight", "model.norm.weight"});
  EXPECT_THAT(refusal(directory), HasSubstr("both mean language_model.norm.weight"));
}

TEST(Checkpoint, ATensorInTwoShardsIsAnError) {
  const TestDirectory directory;
  directory.write("config.json", "{}");
  write_weights(directory / "1.safetensors", {"a", "b"});
  write_weights(directory / "2.safetensors", {"b"});
  directory.write("model.safetensors.index.json", R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})");
  EXPECT_THAT(refusal(directory), HasSubstr("tensor b is in both"));
}

TEST(Checkpoint, AListedTensorMustBeInItsShard) {
  const TestDirectory directory;
  directory.write("config.json", "{}");
  write_weights(directory / "1.safetensors", {"a"});
  write_weights(directory / "2.safetensors", {"b"});
  directory.write("model.safetensors.index.json",
                  R"({"weight_map":{"a":"1.safetensors","b":"1.safetensors","c":"2.safetensors"}})");
  EXPECT_THAT(refusal(directory), HasSubstr("tensor b is listed in model.safetensors.index.json but not there"));
  directory.write("model.safetensors.index.json", R"({"weight_map":{"a":"3.safetensors"}})");
  EXPECT_THAT(refusal(directory), HasSubstr("3.safetensors: cannot be opened"));
  directory.write("model.safetensors.index.json", R"({"weight_map":{}})");
  EXPECT_THAT(refusal(directory), HasSubstr("lists no tensors"));
}

TEST(Checkpoint, ShardNamesArePlainFileNames) {
  for (const char* name :
       {"../secret", "/etc/passwd", "sub/1.safetensors", "..", ".", "", "a\\\\b", "a..b", "a\\u0000b"}) {
    const TestDirectory directory;
    directory.write("config.json", "{}");
    directory.write("model.safetensors.index.json", fmt::format(R"({{"weight_map":{{"a":"{}"}}}})", name));
    EXPECT_THAT(refusal(directory), HasSubstr("a plain file name is needed")) << name;
  }
}

}  // namespace
}  // namespace nestling
