#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace nestling {
namespace {

using nlohmann::json;
using testing::HasSubstr;

// A small valid text_config: six layers, two sharing, of the old form with scalars.
json small_text() {
  return {{"vocab_size", 128},
          {"vocab_size_per_layer_input", 96},
          {"hidden_size", 64},
          {"num_hidden_layers", 6},
          {"intermediate_size", 128},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 16},
          {"hidden_size_per_layer_input", 16},
          {"laurel_rank", 8},
          {"altup_num_inputs", 4},
          {"num_kv_shared_layers", 1},
          {"sliding_window", 12},
          {"rope_theta", 500000.0},
          {"rope_local_base_freq", 2000.0}};
}

json small_config() {
  return {{"architectures", {"Gemma3nForConditionalGeneration"}}, {"model_type", "gemma3n"},
          {"text_config", small_text()}};
}

Result<ModelConfig> parse(const json& document, const std::string& generation = "") {
  return parse_config(document.dump(), generation, "config.json");
}

void expect_refused(const json& document, const std::string& part) {
  const auto config = parse(document);
  ASSERT_FALSE(config.has_value()) << "accepted; expected: " << part;
  EXPECT_EQ(config.error().code, ErrorCode::kModel);
  EXPECT_THAT(config.error().message, HasSubstr("config.json"));
  EXPECT_THAT(config.error().message, HasSubstr(part));
}

void expect_text_refused(const char* key, json value, const std::string& part) {
  json document = small_config();
  document["text_config"][key] = std::move(value);
  expect_refused(document, part);
}

TEST(Config, OldFormWithScalars) {
  const auto config = parse(small_config());
  ASSERT_TRUE(config) << config.error().message;
  const TextConfig& text = config->text;
  EXPECT_EQ(text.intermediate_size, std::vector<int64_t>(6, 128));
  EXPECT_EQ(text.full_attention, (std::vector<bool>{false, false, false, false, true, false}));
  EXPECT_EQ(text.activation_sparsity, std::vector<float>(6, 0));
  EXPECT_EQ(text.rope_theta, 500000.0);
  EXPECT_EQ(text.rope_local_base_freq, 2000.0);
  EXPECT_EQ(text.first_kv_shared_layer(), 5);
  EXPECT_EQ(text.kv_producer(5), 3);
  EXPECT_EQ(text.kv_producer(2), 2);
  EXPECT_FALSE(config->vision);
  EXPECT_FALSE(config->audio);
}

TEST(Config, NewFormOfRope) {
  json document = small_config();
  json& text = document["text_config"];
  text.erase("rope_theta");
  text.erase("rope_local_base_freq");
  text["rope_parameters"] = {{"full_attention", {{"rope_type", "default"}, {"rope_theta", 3e6}}},
                             {"sliding_attention", {{"rope_type", "default"}}}};
  const auto config = parse(document);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->text.rope_theta, 3e6);
  EXPECT_EQ(config->text.rope_local_base_freq, 1e4);
  text["rope_parameters"]["full_attention"]["rope_type"] = "yarn";
  expect_refused(document, "text_config.rope_parameters.full_attention.rope_type is \"yarn\"");
}

// An empty text_config is transformers' default: E4B.
TEST(Config, MissingFieldsAreThoseOfE4B) {
  const auto config = parse({{"model_type", "gemma3n"}, {"text_config", json::object()},
                             {"audio_config", json::object()},
                             {"vision_config", json::object()}, {"eos_token_id", {1, 106}}});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->text.num_hidden_layers, 35);
  EXPECT_EQ(config->text.kv_producer(30), 18);
  EXPECT_EQ(config->text.kv_producer(34), 19);
  EXPECT_FLOAT_EQ(config->text.activation_sparsity[9], 0.95f);
  EXPECT_EQ(config->text.activation_sparsity[10], 0);
  EXPECT_EQ(config->audio->hidden_size, 1536);
  EXPECT_EQ(config->vision->vocab_offset, 262144);
  EXPECT_EQ(config->generation.stop_ids, (std::vector<int64_t>{1, 106}));
}

TEST(Config, TextOnlyForm) {
  json document = small_text();
  document["architectures"] = {"Gemma3nForCausalLM"};
  document["model_type"] = "gemma3n_text";
  const auto config = parse(document);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->text.hidden_size, 64);
  EXPECT_FALSE(config->vision);
}

TEST(Config, OtherModelsAreRefusedByName) {
  expect_refused({{"model_type", "llama"}}, "model_type is \"llama\"; \"gemma3n\" or \"gemma3n_text\" is allowed");
  json document = small_config();
  document["architectures"] = {"Gemma3ForConditionalGeneration"};
  expect_refused(document, "architectures is [\"Gemma3ForConditionalGeneration\"]");
  expect_refused({{"model_type", "gemma3n"}}, "text_config is missing");
  expect_refused(json::object(), "model_type is \"\"");
}

TEST(Config, BoundsOfNumbers) {
  expect_text_refused("num_hidden_layers", 257, "num_hidden_layers is 257; an integer from 1 to 256 is allowed");
  expect_text_refused("num_hidden_layers", 0, "num_hidden_layers is 0");
  expect_text_refused("num_hidden_layers", -3, "num_hidden_layers is -3");
  expect_text_refused("hidden_size", 65537, "hidden_size is 65537");
  expect_text_refused("hidden_size", "64", "hidden_size is \"64\"");
  expect_text_refused("hidden_size", 64.5, "hidden_size is 64.5");
  expect_text_refused("hidden_size", 18446744073709551615ull, "hidden_size is 18446744073709551615");
  expect_text_refused("vocab_size", (1 << 21) + 1, "vocab_size is 2097153");
  expect_text_refused("vocab_size_per_layer_input", 0, "vocab_size_per_layer_input is 0");
  expect_text_refused("altup_num_inputs", 9, "altup_num_inputs is 9");
  expect_text_refused("altup_active_idx", 1, "altup_active_idx is 1; 0 is allowed");
  expect_text_refused("rms_norm_eps", 0.0, "rms_norm_eps is 0.0");
  expect_text_refused("rms_norm_eps", 1e300, "rms_norm_eps is 1e+300");
  expect_text_refused("rope_theta", -1.0, "rope_theta is -1.0");
  expect_text_refused("final_logit_softcapping", 0.0, "final_logit_softcapping is 0.0");
  expect_text_refused("sliding_window", 0, "sliding_window is 0");
}

TEST(Config, RelationsBetweenFields) {
  expect_text_refused("head_dim", 15, "head_dim is 15; an even number");
  expect_text_refused("num_key_value_heads", 3, "a divisor of num_attention_heads (4)");
  expect_text_refused("head_dim", 32768, "num_attention_heads * head_dim up to 65536");
  expect_text_refused("num_kv_shared_layers", 6, "num_kv_shared_layers is 6; an integer from 0 to 5");
  expect_text_refused("hidden_activation", "silu", "hidden_activation is \"silu\"; \"gelu_pytorch_tanh\" is allowed");
  expect_text_refused("tie_word_embeddings", false, "tie_word_embeddings is false");
  expect_text_refused("attention_bias", true, "attention_bias is true");
  expect_text_refused("rope_scaling", {{"type", "linear"}}, "rope_scaling");
}

TEST(Config, ListsHaveOneElementPerLayer) {
  expect_text_refused("intermediate_size", {64, 64}, "intermediate_size has 2 elements; one for each of 6 is needed");
  expect_text_refused("intermediate_size", {64, 64, 64, 64, 64, 65537}, "intermediate_size is 65537");
  expect_text_refused("layer_types", {"full_attention"}, "layer_types has 1 elements");
  expect_text_refused("layer_types", std::vector<std::string>(6, "chunked"), "layer_types is \"chunked\"");
  expect_text_refused("activation_sparsity_pattern", 0.95, "a list of 6 elements");
  expect_text_refused("activation_sparsity_pattern", {0, 0, 0, 0, 0, 1.0}, "activation_sparsity_pattern is 1.0");
}

TEST(Config, SharingLayersNeedAProducerOfTheirType) {
  json document = small_config();
  document["text_config"]["layer_types"] = {"sliding_attention", "sliding_attention", "sliding_attention",
                                            "sliding_attention", "sliding_attention", "full_attention"};
  expect_refused(document, "layer 5 shares the K/V of an earlier full_attention layer");
}

TEST(Config, DamagedJson) {
  for (const char* text : {"", "{", "[]", "nul", "{\"model_type\": NaN}", "{\"a\": 1e999}"}) {
    const auto config = parse_config(text, "", "x/config.json");
    ASSERT_FALSE(config.has_value()) << text;
    EXPECT_THAT(config.error().message, HasSubstr("x/config.json"));
  }
  const std::string deep = "{\"hidden_size\":" + std::string(200'000, '[') + std::string(200'000, ']') + "}";
  EXPECT_THAT(parse_config(deep, "", "deep").error().message, HasSubstr("nested deeper than 16"));
}

TEST(Config, SpecialIdsBeyondASmallVocabularyAreKept) {
  json document = small_config();
  document["image_token_id"] = 262145;
  document["text_config"]["eos_token_id"] = {1, 106};
  const auto config = parse(document);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->ids.image, 262145);
  EXPECT_EQ(config->ids.eos, 1);
}

TEST(Config, GenerationDefaults) {
  const auto config = parse(small_config(), R"({"eos_token_id": [1, 50], "do_sample": false, "temperature": 0.5,
                                                "top_p": 0.9, "top_k": 40, "cache_implementation": "hybrid"})");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->generation.stop_ids, (std::vector<int64_t>{1, 50}));
  EXPECT_FALSE(config->generation.do_sample);
  EXPECT_EQ(config->generation.temperature, 0.5f);
  EXPECT_EQ(config->generation.top_k, 40);
  EXPECT_FALSE(parse(small_config(), R"({"temperature": -1})").has_value());
  EXPECT_FALSE(parse(small_config(), "[]").has_value());
}

TEST(Config, AudioGeometryIsChecked) {
  json document = small_config();
  document["audio_config"] = {{"hidden_size", 30}, {"conf_num_attention_heads", 4}};
  expect_refused(document, "audio_config.conf_num_attention_heads is 4; a divisor of hidden_size (30)");
  for (const auto& [key, value, part] :
       {std::tuple{"conf_reduction_factor", 0, "conf_reduction_factor is 0; an integer from 1 to 1024"},
        std::tuple{"conf_attention_context_right", 1, "conf_attention_context_right is 1; 0 is allowed"},
        std::tuple{"conf_attention_context_left", 257, "conf_attention_context_left is 257; an integer from 1 to 256"},
        std::tuple{"conf_num_hidden_layers", 1 << 30, "conf_num_hidden_layers is 1073741824"},
        std::tuple{"conf_conv_kernel_size", 0, "conf_conv_kernel_size is 0"},
        std::tuple{"sscp_conv_channel_size", 8, "sscp_conv_channel_size is 8; a list of 2 elements"}}) {
    document["audio_config"] = {{key, value}};
    expect_refused(document, part);
  }
  document["audio_config"] = {{"sscp_conv_stride_size", {{1, 1}, {2, 2}}}};
  expect_refused(document, "audio_config.sscp_conv_stride_size");
}

TEST(Config, RoundTripsThroughThePackageForm) {
  json document = small_config();
  document["audio_config"] = {{"hidden_size", 32}, {"conf_num_attention_heads", 2}, {"sscp_conv_channel_size", {8, 4}},
                              {"rms_norm_eps", 3e-6}};
  document["vision_config"] = {{"hidden_size", 48}};
  document["text_config"]["activation_sparsity_pattern"] = {0.95, 0.9, 0, 0, 0, 0};
  document["text_config"]["final_logit_softcapping"] = nullptr;
  document["text_config"]["intermediate_size"] = {64, 128, 96, 64, 64, 32};
  const auto config = parse(document, R"({"eos_token_id": 7, "top_p": 0.91})");
  ASSERT_TRUE(config) << config.error().message;
  const auto again = config_from_json(config_to_json(*config), "package");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(config_to_json(*again), config_to_json(*config));
  EXPECT_EQ(again->text.final_logit_softcapping, 0);
  EXPECT_EQ(again->text.activation_sparsity, config->text.activation_sparsity);
  EXPECT_EQ(again->text.intermediate_size, config->text.intermediate_size);
  EXPECT_EQ(again->audio->sscp_channels, (std::vector<int64_t>{8, 4}));
  EXPECT_EQ(again->generation.stop_ids, std::vector<int64_t>{7});
  EXPECT_EQ(again->generation.top_p, 0.91f);
  EXPECT_FALSE(config_from_json("{}", "package").has_value());
}

}  // namespace
}  // namespace nestling
