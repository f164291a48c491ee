#include "importing/synthetic.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <set>

#include <gtest/gtest.h>

#include "importing/test_checkpoint.h"
#include "kernels/pack.h"
#include "storage/package.h"

namespace nestling {
namespace {

SyntheticModel tiny_model() {
  SyntheticModel model{"tiny", tiny_config()};
  TextConfig& text = model.config.text;
  std::ranges::fill(text.intermediate_size, 4160);  // two tiles of 2,048 inputs and a bit, in the dense layers
  model.config.vision.reset();
  model.config.audio.reset();
  return model;
}

Package write_and_open(const SyntheticModel& model, WeightType type, const TestDirectory& directory) {
  const ImportOptions options{.weights = type, .head = type, .ple = type};
  const auto path = directory.path() / fmt::format("{}.nest", weight_type_name(type));
  const Status written = write_synthetic(model, options, path, {.tokenizer = "bytes of a tokenizer"});
  EXPECT_TRUE(written) << written.error().message;
  auto package = Package::open(path);
  EXPECT_TRUE(package) << package.error().message;
  return std::move(*package);
}

struct Statistics {
  double mean = 0, std = 0;
  bool finite = true;
  size_t distinct_rows = 0;
};

Statistics statistics_of(const std::vector<float>& values, int64_t cols) {
  Statistics s;
  std::set<std::vector<float>> rows;
  for (size_t i = 0; i < values.size(); i += static_cast<size_t>(cols))
    rows.insert({values.begin() + static_cast<int64_t>(i), values.begin() + static_cast<int64_t>(i) + cols});
  s.distinct_rows = rows.size();
  for (const float v : values) {
    s.finite &= std::isfinite(v);
    s.mean += v / static_cast<double>(values.size());
  }
  for (const float v : values) s.std += (v - s.mean) * (v - s.mean) / static_cast<double>(values.size());
  s.std = std::sqrt(s.std);
  return s;
}

// A piece that is repeated at a wrong distance puts scales where codes are read and codes where scales are.
void expect_normal(const WeightMatrix& w, double std, const std::string& name) {
  std::vector<float> values(static_cast<size_t>(w.rows * w.cols));
  unpack_matrix(w, values.data());
  const Statistics s = statistics_of(values, w.cols);
  const double count = static_cast<double>(values.size());
  EXPECT_TRUE(s.finite) << name;
  EXPECT_NEAR(s.std, std, std * (0.05 + 4 / std::sqrt(count))) << name;
  EXPECT_NEAR(s.mean, 0, 6 * std / std::sqrt(std::min(count, 1e5))) << name;
  EXPECT_LT(*std::ranges::max_element(values), 8 * std) << name;
  if (w.rows > 8) {
    EXPECT_GT(s.distinct_rows, 4u) << name;
  }
}

class SyntheticWeights : public testing::TestWithParam<WeightType> {};

TEST_P(SyntheticWeights, HaveTheStatisticsOfAModel) {
  const TestDirectory directory;
  const SyntheticModel model = tiny_model();
  const TextConfig& text = model.config.text;
  Package package = write_and_open(model, GetParam(), directory);
  EXPECT_EQ(package.info().tokenizer, "bytes of a tokenizer");
  for (const TextTensor& tensor : text_tensors(text)) {
    if (tensor.global == GlobalTensor::kPerLayerTokenEmbedding) continue;
    if (tensor.layer > 0 && tensor.layer != text.num_hidden_layers - 1) continue;  // one sparse layer and one dense
    if (tensor.vector) {
      const auto values = package.vector(tensor.package, tensor.cols);
      ASSERT_TRUE(values) << values.error().message;
      for (int64_t i = 0; i < tensor.cols; ++i) ASSERT_EQ((*values)[i], 1.0f) << tensor.package;
      continue;
    }
    const bool head = tensor.global == GlobalTensor::kTokenEmbedding;
    const auto w = package.matrix(tensor.package, head ? text.vocab_size_per_layer_input : tensor.rows, tensor.cols);
    ASSERT_TRUE(w) << w.error().message;
    expect_normal(*w, 1 / std::sqrt(static_cast<double>(tensor.cols)), tensor.package);
  }
}

TEST_P(SyntheticWeights, PerLayerEmbeddingsAreRowsOfTheirOwn) {
  const TestDirectory directory;
  const SyntheticModel model = tiny_model();
  Package package = write_and_open(model, GetParam(), directory);
  const PackageTensor* table = package.find(package_name(GlobalTensor::kPerLayerTokenEmbedding));
  ASSERT_NE(table, nullptr);
  std::vector<std::byte> bytes(table->bytes);
  ASSERT_TRUE(package.file().read_at(table->offset, bytes));
  expect_normal({table->type, table->layout, table->rows, table->cols, table->rows, table->cols, bytes.data(),
                 table->bytes},
                1 / std::sqrt(static_cast<double>(model.config.text.hidden_size_per_layer_input)), "PLE");
}

INSTANTIATE_TEST_SUITE_P(All, SyntheticWeights,
                         testing::Values(WeightType::kF32, WeightType::kBF16, WeightType::kQ8, WeightType::kQ6,
                                         WeightType::kQ4),
                         [](const auto& type) { return std::string(weight_type_name(type.param)); });

TEST(SyntheticModel, HasThePublishedShapes) {
  const auto e4b = synthetic_model("e4b", {}), e2b = synthetic_model("e2b", {});
  ASSERT_TRUE(e4b) << e4b.error().message;
  ASSERT_TRUE(e2b) << e2b.error().message;
  const TextConfig& text = e4b->config.text;
  EXPECT_EQ(e4b->name, "e4b");
  EXPECT_EQ(text.vocab_size, 262'400);
  EXPECT_EQ(text.vocab_size_per_layer_input, 262'144);
  EXPECT_EQ(text.hidden_size, 2048);
  EXPECT_EQ(text.num_hidden_layers, 35);
  EXPECT_EQ(text.intermediate_size, std::vector<int64_t>(35, 16384));
  EXPECT_EQ(text.num_attention_heads, 8);
  EXPECT_EQ(text.num_key_value_heads, 2);
  EXPECT_EQ(text.head_dim, 256);
  EXPECT_EQ(text.hidden_size_per_layer_input, 256);
  EXPECT_EQ(text.laurel_rank, 64);
  EXPECT_EQ(text.altup_num_inputs, 4);
  EXPECT_EQ(text.sliding_window, 512);
  EXPECT_EQ(text.num_kv_shared_layers, 15);
  EXPECT_EQ(text.max_position_embeddings, 32768);
  EXPECT_EQ(e2b->name, "e2b");
  EXPECT_EQ(e2b->config.text.num_hidden_layers, 30);
  EXPECT_EQ(e2b->config.text.num_kv_shared_layers, 10);
  EXPECT_EQ(e2b->config.text.intermediate_size, std::vector<int64_t>(30, 8192));
}

TEST(SyntheticModel, RefusesWhatIsNoSize) {
  const auto unknown = synthetic_model("e9b", {});
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, ErrorCode::kUsage);
}

TEST(SyntheticCache, WritesOnceAndAgainWhenDamaged) {
  const TestDirectory directory;
  ASSERT_EQ(::setenv("XDG_CACHE_HOME", directory.path().c_str(), 1), 0);
  const SyntheticModel model = tiny_model();
  int written = 0;
  const auto tokenizer = [&] {
    ++written;
    return std::string("bytes");
  };
  const auto first = cached_synthetic(model, {}, tokenizer), second = cached_synthetic(model, {}, tokenizer);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(*first, *second);
  EXPECT_EQ(written, 1);
  const auto other = cached_synthetic(model, {.weights = WeightType::kQ8}, tokenizer);
  ASSERT_TRUE(other);
  EXPECT_NE(*first, *other);
  EXPECT_EQ(written, 2);
  std::filesystem::resize_file(*first, 1000);
  EXPECT_TRUE(cached_synthetic(model, {}, tokenizer));
  EXPECT_EQ(written, 3);
  const std::atomic<bool> cancel = true;
  std::filesystem::remove(*first);
  const auto cancelled = cached_synthetic(model, {}, tokenizer, &cancel);
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code, ErrorCode::kCancelled);
  EXPECT_FALSE(std::filesystem::exists(*first));
}

}  // namespace
}  // namespace nestling
