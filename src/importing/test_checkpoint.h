// Small random checkpoints for the tests of this folder, written as Hugging Face directories.
#pragma once

#include <cmath>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "model/config.h"
#include "model/tensor_names.h"
#include "storage/checkpoint.h"
#include "storage/safetensors.h"
#include "storage/test_directory.h"
#include "tensor/float_types.h"

namespace nestling {

// 35 layers of E4B's topology at tiny widths; the vocabulary has 8 rows more than the PLE table.
inline constexpr std::string_view kTinyConfig = R"({
  "architectures": ["Gemma3nForConditionalGeneration"], "model_type": "gemma3n",
  "text_config": {"vocab_size": 40, "vocab_size_per_layer_input": 32, "hidden_size": 48, "intermediate_size": 128,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "hidden_size_per_layer_input": 8,
    "laurel_rank": 4, "sliding_window": 8},
  "vision_config": {"hidden_size": 24, "vocab_size": 4, "vocab_offset": 32},
  "audio_config": {"hidden_size": 16, "vocab_size": 4, "vocab_offset": 36, "conf_num_attention_heads": 2}
})";

struct TestTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};
using TestTensors = std::map<std::string, TestTensor>;  // by the name in the file

inline ModelConfig tiny_config() {
  const auto config = parse_config(std::string(kTinyConfig), "", "tiny");
  EXPECT_TRUE(config) << config.error().message;
  return *config;
}

inline TestTensor random_tensor(const std::vector<int64_t>& shape, std::mt19937& random) {
  TestTensor tensor{.shape = shape};
  int64_t count = 1;
  for (const int64_t dim : shape) count *= dim;
  for (int64_t i = 0; i < count; ++i) {
    // Exact in bf16, so that both types of file hold the same values.
    const float value = static_cast<float>(random() % 20001) / 10000.0f - 1.0f;
    tensor.values.push_back(bf16_to_f32(f32_to_bf16(value)));
  }
  return tensor;
}

// The text tensors of `config` as Google names them, those that sharing layers never use included.
inline TestTensors random_text_tensors(const ModelConfig& config, uint32_t seed = 1) {
  std::mt19937 random(seed);
  TestTensors tensors;
  TextConfig all = config.text;
  all.num_kv_shared_layers = 0;
  for (const TextTensor& tensor : text_tensors(all))
    tensors["model." + tensor.checkpoint] = random_tensor(tensor.checkpoint_shape(), random);
  return tensors;
}

inline void add_embedders(TestTensors& tensors, const ModelConfig& config) {
  std::mt19937 random(7);
  const auto add = [&](const std::string& prefix, int64_t vocab, int64_t width) {
    tensors[prefix + "embedding.weight"] = random_tensor({vocab, width}, random);
    tensors[prefix + "hard_embedding_norm.weight"] = random_tensor({width}, random);
    tensors[prefix + "soft_embedding_norm.weight"] = random_tensor({width}, random);
    tensors[prefix + "embedding_projection.weight"] = random_tensor({config.text.hidden_size, width}, random);
  };
  add("model.embed_vision.", config.vision->vocab_size, config.vision->hidden_size);
  add("model.embed_audio.", config.audio->vocab_size, config.audio->hidden_size);
}

inline void write_checkpoint(const std::filesystem::path& directory, const TestTensors& tensors,
                             SafetensorsType type = SafetensorsType::kF32,
                             std::string_view config_json = kTinyConfig) {
  std::filesystem::create_directories(directory);
  std::ofstream(directory / "config.json") << config_json;
  std::vector<SafetensorsPlan> plan;
  for (const auto& [name, tensor] : tensors) plan.push_back({name, type, tensor.shape});
  auto writer = SafetensorsWriter::create(directory / "model.safetensors", {}, plan);
  ASSERT_TRUE(writer) << writer.error().message;
  size_t index = 0;
  for (const auto& [name, tensor] : tensors) {
    std::vector<uint16_t> halves;
    for (const float value : tensor.values) halves.push_back(f32_to_bf16(value));
    const auto bytes = type == SafetensorsType::kF32 ? std::as_bytes(std::span(tensor.values))
                                                     : std::as_bytes(std::span(halves));
    ASSERT_TRUE(writer->write(index++, 0, bytes));
  }
  ASSERT_TRUE(writer->commit());
}

inline Checkpoint open_checkpoint(const std::filesystem::path& directory) {
  auto checkpoint = Checkpoint::open(directory);
  EXPECT_TRUE(checkpoint) << checkpoint.error().message;
  return std::move(*checkpoint);
}

}  // namespace nestling
