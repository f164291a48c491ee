#include "importing/import.h"

#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "importing/test_checkpoint.h"
#include "kernels/pack.h"
#include "storage/package.h"

namespace nestling {
namespace {

using testing::HasSubstr;

class Import : public testing::Test {
 protected:
  Import() { add_embedders(tensors_, config_); }

  Status import(const ImportOptions& options, const ImportExtras& extras = {},
                SafetensorsType type = SafetensorsType::kF32) {
    write_checkpoint(directory_ / "c", tensors_, type);
    const Checkpoint checkpoint = open_checkpoint(directory_ / "c");
    return import_checkpoint(checkpoint, config_, options, directory_ / "model.nest", extras);
  }
  Package open() {
    auto package = Package::open(directory_ / "model.nest");
    EXPECT_TRUE(package) << package.error().message;
    return std::move(*package);
  }
  std::vector<float> stored(const Package& package, const std::string& name) {
    const PackageTensor* tensor = package.find(name);
    if (tensor == nullptr) return ADD_FAILURE() << name << " is missing", std::vector<float>{};
    std::vector<std::byte> bytes(tensor->bytes);
    EXPECT_TRUE(package.file().read_at(tensor->offset, bytes));
    const WeightMatrix matrix{.type = tensor->type,
                              .layout = tensor->layout,
                              .rows = tensor->rows,
                              .cols = tensor->cols,
                              .stored_rows = tensor->rows,
                              .stored_cols = tensor->cols,
                              .data = bytes.data(),
                              .bytes = bytes.size()};
    std::vector<float> values(static_cast<size_t>(tensor->rows * tensor->cols));
    unpack_matrix(matrix, values.data());
    return values;
  }
  std::vector<std::string> files() {
    std::vector<std::string> names;
    for (const auto& file : std::filesystem::directory_iterator(directory_.path()))
      names.push_back(file.path().filename().string());
    std::ranges::sort(names);
    return names;
  }

  TestDirectory directory_;
  ModelConfig config_ = tiny_config();
  TestTensors tensors_ = random_text_tensors(config_);
};

// Whatever the layout, each value is where it belongs.
TEST_F(Import, FloatsComeBackExactly) {
  ASSERT_TRUE(import({.weights = WeightType::kF32}, {.tokenizer = std::string("tok\0en", 6), .cache_key = "key"}));
  const Package package = open();
  EXPECT_EQ(package.info().tokenizer, std::string("tok\0en", 6));
  EXPECT_EQ(package.info().cache_key, "key");
  EXPECT_EQ(package.info().config_json, config_to_json(config_));
  const auto text = text_tensors(config_.text);
  EXPECT_EQ(package.tensors().size(), text.size() + 8);
  for (const TextTensor& tensor : text)
    EXPECT_EQ(stored(package, tensor.package), tensors_.at("model." + tensor.checkpoint).values) << tensor.package;
  EXPECT_EQ(stored(package, "mm.embedding.weight"), tensors_.at("model.embed_vision.embedding.weight").values);
  EXPECT_EQ(stored(package, "mm.a.input_projection.weight"),
            tensors_.at("model.embed_audio.embedding_projection.weight").values);
}

TEST_F(Import, Bf16SourceAndBf16Weights) {
  ASSERT_TRUE(import({.weights = WeightType::kBF16}, {}, SafetensorsType::kBF16));
  const Package package = open();
  for (const TextTensor& tensor : text_tensors(config_.text))
    EXPECT_EQ(stored(package, tensor.package), tensors_.at("model." + tensor.checkpoint).values) << tensor.package;
}

// A quantised tensor holds what packing the whole tensor at once gives, padding included.
TEST_F(Import, QuantisedBytesAreThoseOfPackMatrix) {
  ASSERT_TRUE(import({}));
  const Package package = open();
  for (const TextTensor& tensor : text_tensors(config_.text)) {
    const PackageTensor& target = *package.find(tensor.package);
    std::vector<std::byte> expected(target.bytes), found(target.bytes);
    pack_matrix(target.type, target.layout, target.rows, target.cols,
                tensors_.at("model." + tensor.checkpoint).values.data(), expected.data());
    ASSERT_TRUE(package.file().read_at(target.offset, found));
    EXPECT_TRUE(found == expected) << tensor.package;
  }
}

// More rows than one piece holds: pieces join without a seam.
TEST_F(Import, LargeTablesAreReadInPieces) {
  std::string json(kTinyConfig);
  const auto replace = [&json](const std::string& from, const std::string& to) {
    json.replace(json.find(from), from.size(), to);
  };
  replace("\"vocab_size_per_layer_input\": 32", "\"vocab_size_per_layer_input\": 30007");
  replace("\"vocab_size\": 40", "\"vocab_size\": 100003");
  config_ = *parse_config(json, "", "large");
  tensors_ = random_text_tensors(config_);
  ASSERT_TRUE(import({.head = WeightType::kQ8}));
  const Package package = open();
  for (const char* name : {"token_embd.weight", "per_layer_token_embd.weight"}) {
    const PackageTensor& target = *package.find(name);
    ASSERT_GT(target.rows * target.cols, int64_t{4} << 20);  // the size of a piece
    const auto& source = tensors_.at(name[0] == 't' ? "model.language_model.embed_tokens.weight"
                                                    : "model.language_model.embed_tokens_per_layer.weight");
    std::vector<std::byte> expected(target.bytes), found(target.bytes);
    pack_matrix(target.type, target.layout, target.rows, target.cols, source.values.data(), expected.data());
    ASSERT_TRUE(package.file().read_at(target.offset, found));
    EXPECT_TRUE(found == expected) << name;
  }
}

TEST_F(Import, EqualImportsAreEqualFiles) {
  ASSERT_TRUE(import({}));
  const std::string first = file_bytes(directory_ / "model.nest");
  ASSERT_TRUE(import({}));
  EXPECT_TRUE(first == file_bytes(directory_ / "model.nest"));
}

TEST_F(Import, ValuesThatAreNotFiniteAreRefusedByName) {
  const std::string name = "model.language_model.layers.11.mlp.down_proj.weight";
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    tensors_[name].values[3 * 128 + 5] = bad;
    const auto status = import({});
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().code, ErrorCode::kModel);
    EXPECT_THAT(status.error().message, HasSubstr("tensor " + name + " holds"));
    EXPECT_THAT(status.error().message, HasSubstr("row 3, column 5"));
    EXPECT_EQ(files(), std::vector<std::string>{"c"});  // nothing half-written
  }
  tensors_[name].values[3 * 128 + 5] = 1e9f;  // its f16 scale would overflow
  EXPECT_THAT(import({}).error().message, HasSubstr("q4 allows finite values up to"));
  EXPECT_TRUE(import({.weights = WeightType::kF32}));
}

TEST_F(Import, CancelledLeavesNothing) {
  const std::atomic<bool> cancel{true};
  const auto status = import({}, {.cancel = &cancel});
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(files(), std::vector<std::string>{"c"});
}

TEST_F(Import, TargetThatCannotBeWritten) {
  write_checkpoint(directory_ / "c", tensors_);
  const Checkpoint checkpoint = open_checkpoint(directory_ / "c");
  EXPECT_FALSE(import_checkpoint(checkpoint, config_, {}, directory_ / "none" / "model.nest", {}).has_value());
}

}  // namespace
}  // namespace nestling
