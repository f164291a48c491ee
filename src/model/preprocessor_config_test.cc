#include <gtest/gtest.h>

#include "model/config.h"

namespace nestling {
namespace {

int64_t image_size_after(const std::string& preprocessor) {
  ModelConfig config;
  config.vision.emplace();
  apply_preprocessor(config, preprocessor, "preprocessor_config.json");
  return config.vision->image_size;
}

TEST(PreprocessorConfig, SizeOfPictures) {
  EXPECT_EQ(image_size_after(R"({"size": {"height": 256, "width": 256}})"), 256);
  EXPECT_EQ(image_size_after(R"({"size": {"width": 768, "height": 768}, "do_resize": true})"), 768);
  EXPECT_EQ(image_size_after(R"({"size": 512})"), 512);
}

TEST(PreprocessorConfig, AnythingElseLeavesTheDefault) {
  for (const char* text : {"", "{}", "[]", "{", R"({"size": 224})", R"({"size": {"height": 256, "width": 512}})",
                           R"({"size": {"shortest_edge": 256}})", R"({"size": "256"})", R"({"size": -256})"})
    EXPECT_EQ(image_size_after(text), 768) << text;
  EXPECT_EQ(image_size_after(std::string(100'000, '[')), 768);
}

TEST(PreprocessorConfig, IsKeptInAPackage) {
  auto config = *parse_config(R"({"model_type": "gemma3n", "text_config": {}, "vision_config": {}})", "", "config.json");
  EXPECT_EQ(config.vision->image_size, 768);
  apply_preprocessor(config, R"({"size": 256})", "preprocessor_config.json");
  EXPECT_EQ(config_from_json(config_to_json(config), "package")->vision->image_size, 256);
  config.vision->image_size = 300;
  EXPECT_FALSE(config_from_json(config_to_json(config), "package"));
}

TEST(PreprocessorConfig, TextModelsHaveNoPictures) {
  ModelConfig config;
  apply_preprocessor(config, R"({"size": 256})", "preprocessor_config.json");
  EXPECT_FALSE(config.vision);
}

}  // namespace
}  // namespace nestling
