#include "importing/export.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "importing/import.h"
#include "importing/test_checkpoint.h"
#include "kernels/pack.h"
#include "storage/package.h"

namespace nestling {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class Export : public testing::Test {
 protected:
  Export() {
    add_embedders(tensors_, config_);
    std::mt19937 random(3);
    tensors_["model.vision_tower.timm_model.conv_stem.conv.weight"] = random_tensor({4, 3, 3, 3}, random);
  }
  Status run(const ModelSize& size, const std::atomic<bool>* cancel = nullptr,
             SafetensorsType type = SafetensorsType::kF32) {
    write_checkpoint(directory_ / "c", tensors_, type);
    const Checkpoint checkpoint = open_checkpoint(directory_ / "c");
    return export_slice(checkpoint, config_, size, directory_ / "out", cancel);
  }
  ModelSize size(std::string_view name) { return *parse_size(name, config_.text, 1); }
  std::vector<float> read(const Checkpoint& checkpoint, const std::string& name, std::vector<int64_t> shape) {
    for (const auto& [canonical, tensor] : checkpoint.tensors()) {
      if (tensor.entry.name != name) continue;
      EXPECT_EQ(tensor.entry.shape, shape) << name;
      std::vector<float> values(static_cast<size_t>(tensor.entry.elements()));
      EXPECT_TRUE(tensor.file->read_floats(tensor.entry, 0, values));
      return values;
    }
    ADD_FAILURE() << name << " is missing";
    return {};
  }
  // Element (row, col) of a source matrix.
  float source(const std::string& name, int64_t row, int64_t col) {
    const TestTensor& tensor = tensors_.at(name);
    return tensor.values[static_cast<size_t>(row * tensor.shape[1] + col)];
  }

  TestDirectory directory_;
  ModelConfig config_ = tiny_config();
  TestTensors tensors_ = random_text_tensors(config_);
  const std::string layers_ = "model.language_model.layers.";
};

// Layers 3, 9 and 22 dropped, layer 1 cut to 40: no aligned block, and layer types, sparsity and sharing must follow.
TEST_F(Export, SkipSetThatIsNoBlock) {
  ModelSize slice = full_size(config_.text);
  for (const int layer : {3, 9, 22}) slice.layers[layer] = {.skipped = true};
  slice.layers[1].width = 40;
  const auto status = run(slice);
  ASSERT_TRUE(status) << status.error().message;

  const Checkpoint out = open_checkpoint(directory_ / "out");
  const auto config = parse_config(out.config_json(), out.generation_json(), "out");
  ASSERT_TRUE(config) << config.error().message;
  const TextConfig expected = sliced_config(config_.text, slice);
  EXPECT_EQ(config->text.num_hidden_layers, 32);
  EXPECT_EQ(config->text.num_kv_shared_layers, 14);
  EXPECT_EQ(config->text.intermediate_size, expected.intermediate_size);
  EXPECT_EQ(config->text.full_attention, expected.full_attention);
  EXPECT_EQ(config->text.activation_sparsity, expected.activation_sparsity);
  EXPECT_EQ(config->vision->vocab_offset, 32);  // the rest of config.json is the source's

  // Layer 31 of the slice is layer 34 of the source, with its unused K/V.
  EXPECT_EQ(read(out, layers_ + "31.self_attn.q_proj.weight", {32, 48}),
            tensors_.at(layers_ + "34.self_attn.q_proj.weight").values);
  EXPECT_EQ(read(out, layers_ + "31.self_attn.k_proj.weight", {16, 48}),
            tensors_.at(layers_ + "34.self_attn.k_proj.weight").values);
  EXPECT_EQ(read(out, layers_ + "3.altup.correct_output_scale", {48}),
            tensors_.at(layers_ + "4.altup.correct_output_scale").values);
  const auto up = read(out, layers_ + "1.mlp.up_proj.weight", {40, 48});
  const auto down = read(out, layers_ + "1.mlp.down_proj.weight", {48, 40});
  EXPECT_EQ(up[39 * 48 + 5], source(layers_ + "1.mlp.up_proj.weight", 39, 5));
  for (int64_t row = 0; row < 48; ++row)
    for (int64_t col = 0; col < 40; ++col)
      ASSERT_EQ(down[row * 40 + col], source(layers_ + "1.mlp.down_proj.weight", row, col));

  const auto ple = read(out, "model.language_model.embed_tokens_per_layer.weight", {32, 32 * 8});
  const auto projection = read(out, "model.language_model.per_layer_model_projection.weight", {32 * 8, 48});
  for (int64_t p = 0; p < 8; ++p) {
    EXPECT_EQ(ple[5 * 32 * 8 + 8 * 8 + p],  // layer 8 of the slice: 10 of the source
              source("model.language_model.embed_tokens_per_layer.weight", 5, 10 * 8 + p));
    EXPECT_EQ(projection[(20 * 8 + p) * 48 + 7],  // layer 20: 23
              source("model.language_model.per_layer_model_projection.weight", 23 * 8 + p, 7));
  }
  EXPECT_EQ(read(out, "model.vision_tower.timm_model.conv_stem.conv.weight", {4, 3, 3, 3}),
            tensors_.at("model.vision_tower.timm_model.conv_stem.conv.weight").values);
  EXPECT_EQ(out.tensors().size(), tensors_.size() - 3 * 24);
}

TEST_F(Export, ExportOfAllLayersIsTheSource) {
  ASSERT_TRUE(run(full_size(config_.text), nullptr, SafetensorsType::kBF16));
  const Checkpoint source = open_checkpoint(directory_ / "c"), out = open_checkpoint(directory_ / "out");
  ASSERT_EQ(source.tensors().size(), out.tensors().size());
  for (const auto& [canonical, tensor] : source.tensors()) {
    const CheckpointTensor* copy = out.find(canonical);
    ASSERT_NE(copy, nullptr) << canonical;
    EXPECT_EQ(copy->entry.name, tensor.entry.name);
    EXPECT_EQ(copy->entry.type_name, "BF16");
    std::vector<std::byte> a(tensor.entry.bytes), b(copy->entry.bytes);
    ASSERT_TRUE(tensor.file->file().read_at(tensor.entry.offset, a));
    ASSERT_TRUE(copy->file->file().read_at(copy->entry.offset, b));
    EXPECT_TRUE(a == b) << canonical;
  }
}

// The first `rows` x `cols` of a stored tensor.
std::vector<float> unpacked(const Package& package, const std::string& name, int64_t rows, int64_t cols) {
  const PackageTensor& tensor = *package.find(name);
  std::vector<std::byte> bytes(tensor.bytes);
  EXPECT_TRUE(package.file().read_at(tensor.offset, bytes));
  const WeightMatrix matrix{.type = tensor.type,
                            .layout = tensor.layout,
                            .rows = rows,
                            .cols = cols,
                            .stored_rows = tensor.rows,
                            .stored_cols = tensor.cols,
                            .data = bytes.data(),
                            .bytes = bytes.size()};
  std::vector<float> values(static_cast<size_t>(rows * cols));
  unpack_matrix(matrix, values.data());
  return values;
}

// Blocks never straddle the end of a slice: a slice of the quantised model is the quantised slice, weight for weight.
TEST_F(Export, SliceOfTheImportIsTheImportOfTheSlice) {
  tensors_.erase("model.vision_tower.timm_model.conv_stem.conv.weight");  // half a tower is no model to import
  ASSERT_TRUE(run(size("e2b")));
  const Checkpoint source = open_checkpoint(directory_ / "c"), out = open_checkpoint(directory_ / "out");
  const auto config = parse_config(out.config_json(), "", "out");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(full_size(config->text).name, "e2b");
  ASSERT_TRUE(import_checkpoint(source, config_, {}, directory_ / "e4b.nest", {}));
  ASSERT_TRUE(import_checkpoint(out, *config, {}, directory_ / "e2b.nest", {}));
  const auto e4b = Package::open(directory_ / "e4b.nest"), e2b = Package::open(directory_ / "e2b.nest");
  ASSERT_TRUE(e4b && e2b);
  for (const TextTensor& tensor : text_tensors(config->text)) {
    if (tensor.global) continue;
    const int64_t parent = tensor.layer < 20 ? tensor.layer : tensor.layer + 5;
    EXPECT_EQ(unpacked(*e2b, tensor.package, tensor.rows, tensor.cols),
              unpacked(*e4b, package_name(tensor.layer_tensor, parent), tensor.rows, tensor.cols))
        << tensor.package;
  }
}

TEST_F(Export, SideFilesAreCopied) {
  fs::create_directories(directory_ / "c");
  for (const char* name : {"tokenizer.model", "generation_config.json", "notes.txt"})
    std::ofstream(directory_ / "c" / name) << "{}";
  ASSERT_TRUE(run(size("e2b")));
  EXPECT_TRUE(fs::exists(directory_ / "out/tokenizer.model"));
  EXPECT_TRUE(fs::exists(directory_ / "out/generation_config.json"));
  EXPECT_FALSE(fs::exists(directory_ / "out/notes.txt"));
}

TEST_F(Export, TextOnlyNamesAndConfigStayTextOnly) {
  TestTensors text;
  for (auto& [name, tensor] : tensors_)
    if (name.starts_with("model.language_model.")) text["model." + name.substr(21)] = tensor;
  tensors_ = text;
  std::string json(kTinyConfig);
  const size_t begin = json.find("{\"vocab_size\": 40"), end = json.find('}', begin);
  json = R"({"architectures": ["Gemma3nForCausalLM"], "model_type": "gemma3n_text", )" +
         json.substr(begin + 1, end - begin);
  write_checkpoint(directory_ / "c", tensors_, SafetensorsType::kF32, json);
  const Checkpoint checkpoint = open_checkpoint(directory_ / "c");
  ASSERT_TRUE(export_slice(checkpoint, config_, size("e2b"), directory_ / "out"));
  const Checkpoint out = open_checkpoint(directory_ / "out");
  EXPECT_EQ(read(out, "model.layers.20.input_layernorm.weight", {48}),
            tensors_.at("model.layers.25.input_layernorm.weight").values);
  EXPECT_THAT(out.config_json(), HasSubstr("\"num_hidden_layers\": 30"));
  EXPECT_TRUE(parse_config(out.config_json(), "", "out"));
}

TEST_F(Export, Refusals) {
  const std::atomic<bool> cancel{true};
  EXPECT_EQ(run(size("e2b"), &cancel).error().code, ErrorCode::kCancelled);
  EXPECT_FALSE(fs::exists(directory_ / "out"));
  fs::create_directories(directory_ / "out");
  std::ofstream(directory_ / "out/file") << "x";
  EXPECT_THAT(run(size("e2b")).error().message, HasSubstr("is not empty"));
  fs::remove(directory_ / "out/file");
  tensors_[layers_ + "40.input_layernorm.weight"] = tensors_[layers_ + "4.input_layernorm.weight"];
  EXPECT_THAT(run(size("e2b")).error().message, HasSubstr("belongs to layer 40; config.json has 35 layers"));
  tensors_.erase(layers_ + "4.input_layernorm.weight");
  EXPECT_THAT(run(size("e2b")).error().message, HasSubstr("layers.4.input_layernorm.weight is missing"));
}

}  // namespace
}  // namespace nestling
