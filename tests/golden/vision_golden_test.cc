// The vision tower and its embedder against Hugging Face transformers (timm's network), tap by tap.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "golden/golden.h"
#include "media/image.h"
#include "model/multimodal_embedder.h"
#include "model/vision/vision_encoder.h"
#include "support/test_package.h"
#include "support/tolerances.h"

namespace nestling {
namespace {

namespace fs = std::filesystem;

// The rows that replace the placeholders.
void record_soft_tokens(const Package& package, const ModelConfig& config, const Kernels& kernels, ThreadPool& pool,
                        const std::vector<float>& rows, TraceRecorder& recorder) {
  const VisionConfig& vision = *config.vision;
  const int64_t W = config.text.hidden_size;
  const auto embedder = value_or_fail(MultimodalEmbedder::bind(package, "mm.", vision.vocab_size, vision.hidden_size, W,
                                                               vision.rms_norm_eps));
  std::vector<float> soft(static_cast<size_t>(kVisionTokens * W));
  embedder.soft(kernels, pool, rows.data(), kVisionTokens, std::sqrt(static_cast<float>(vision.hidden_size)),
                soft.data());
  recorder.record("vision.soft_tokens", {kVisionTokens, W}, soft.data());
}

std::vector<TraceTensor> trace(const fs::path& checkpoint, int64_t size, const std::string& kernel_set = "",
                               WeightType weights = WeightType::kF32) {
  const TestPackage file(checkpoint, all_weights(weights));
  Package package = value_or_fail(Package::open(file.path()));
  ok_or_fail(package.load_region(Region::kVision));
  const ModelConfig config = value_or_fail(config_from_json(package.info().config_json, file.path().string()));
  const VisionEncoder encoder = value_or_fail(VisionEncoder::bind(package));
  const Kernels kernels = value_or_fail(kernel_set.empty() ? Kernels::choose() : Kernels::named(kernel_set));
  ThreadPool pool(2);
  const Image image = value_or_fail(load_image(checkpoint / fmt::format("input_{}.png", size)));
  const std::vector<float> pixels = pixel_values(image);
  std::vector<float> rows(static_cast<size_t>(kVisionTokens * encoder.width()));
  TraceRecorder recorder("");
  ok_or_fail(encoder.encode(kernels, pool, pixels.data(), size, rows.data(), &recorder));
  record_soft_tokens(package, config, kernels, pool, rows, recorder);
  return std::move(recorder.tensors());
}

void expect_agreement(const std::string& name, int64_t size, const std::string& kernel_set = "") {
  const fs::path directory = golden_path(name);
  const fs::path file = directory / fmt::format("expected_{}.safetensors", size);
  if (!fs::exists(file)) GTEST_SKIP() << file << " is not here (NESTLING_GOLDENS names the larger goldens)";
  const SafetensorsFile golden = value_or_fail(SafetensorsFile::open(file));
  const auto difference = first_difference(golden, trace(directory, size, kernel_set), kGoldenRelative);
  EXPECT_FALSE(difference) << *difference;
}

// Every block, at widths that are no multiples of a vector.
TEST(VisionGolden, EveryTap) { expect_agreement("vision_narrow", 256); }
// The sums run in the same order on every set of kernels.
TEST(VisionGolden, EveryTapWithPortableKernels) { expect_agreement("vision_narrow", 256, "scalar"); }
// Cosines of the rows of the encoder's output with transformers' own.
std::vector<double> cosines(const std::string& name, int64_t size, WeightType weights) {
  const fs::path directory = golden_path(name);
  const SafetensorsFile golden =
      value_or_fail(SafetensorsFile::open(directory / fmt::format("expected_{}.safetensors", size)));
  const SafetensorsEntry& entry = *golden.find("vision.msfa");
  std::vector<float> want(static_cast<size_t>(entry.elements()));
  ok_or_fail(golden.read_floats(entry, 0, want));
  std::vector<double> result;
  for (const TraceTensor& tensor : trace(directory, size, "", weights)) {
    if (tensor.name != "vision.msfa") continue;
    const size_t width = want.size() / kVisionTokens;
    for (size_t t = 0; t < want.size(); t += width) {
      double ab = 0, aa = 0, bb = 0;
      for (size_t i = t; i < t + width; ++i) {
        const double a = want[i], b = tensor.floats[i];
        ab += a * b, aa += a * a, bb += b * b;
      }
      result.push_back(ab / std::sqrt(aa * bb));
    }
  }
  return result;
}

// What 8 bits cost through 84 blocks at narrow widths, where errors average out least; the published widths are
// measured by vision_benchmark.
TEST(VisionGolden, CodedWeightsKeepTheDirectionOfRows) {
  const struct {
    WeightType weights;
    double least, mean;
  } cases[] = {{WeightType::kBF16, 0.9995, 0.9998}, {WeightType::kQ8, 0.98, 0.995}};  // measured: 0.984, 0.9965 with q8
  for (const auto& c : cases) {
    const std::vector<double> all = cosines("vision_narrow", 256, c.weights);
    ASSERT_EQ(all.size(), static_cast<size_t>(kVisionTokens));
    const double least = *std::ranges::min_element(all);
    const double mean = std::accumulate(all.begin(), all.end(), 0.0) / kVisionTokens;
    fmt::print("[ MEASURED ] {} weights: least cosine {:.5f}, mean {:.5f}\n", weight_type_name(c.weights), least, mean);
    EXPECT_GE(least, c.least) << weight_type_name(c.weights) << ", mean " << mean;
    EXPECT_GE(mean, c.mean) << weight_type_name(c.weights) << ", least " << least;
  }
}

TEST(VisionGolden, Size256) { expect_agreement("vision_small", 256); }
TEST(VisionGolden, Size512) { expect_agreement("vision_small", 512); }
TEST(VisionGolden, Size768) { expect_agreement("vision_small", 768); }

}  // namespace
}  // namespace nestling
