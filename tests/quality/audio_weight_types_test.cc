// How far the weight types of the audio tower are from float32 at the published shapes, on random weights: for every
// row the cosine with that of float32 weights. The bounds are in support/tolerances.h; docs/mechanisms/audio.md has the
// figures this test prints. Writes 4.7 GB of packages to the temporary directory: `make test-long`.
#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include "kernels/pack.h"
#include "model/audio/audio_encoder.h"
#include "model/audio_tensors.h"
#include "support/test_package.h"
#include "support/tolerances.h"

namespace nestling {
namespace {

constexpr int64_t kMelFrames = 997;  // 10 s

// Normal numbers, drawn once and read in a circle from a place of each tensor's own: drawing takes as long as the rest.
class Normals {
 public:
  Normals() {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 1);
    for (float& v : values_) v = normal(random);
  }
  // [tensor.rows, tensor.cols] as stored: norms around 1, everything else with standard deviation 1 / sqrt(inputs).
  std::vector<float> weights(const TowerTensor& tensor, size_t index) const {
    std::vector<float> weights(static_cast<size_t>(tensor.rows * tensor.cols));
    const bool vector = tensor.role == TowerRole::kVector;
    const int64_t inputs = tensor.reorder == Reorder::kDepthwise ? tensor.rows : tensor.cols;
    const float mean = vector ? 1.0f : 0.0f, std = vector ? 0.2f : 1 / std::sqrt(static_cast<float>(inputs));
    size_t at = index * 7919 % values_.size();
    for (float& w : weights) {
      w = mean + std * values_[at];
      at = at + 1 < values_.size() ? at + 1 : 0;
    }
    return weights;
  }

 private:
  std::vector<float> values_ = std::vector<float>((size_t{1} << 20) + 7);
};

void write_tower(const std::filesystem::path& path, const AudioConfig& config, const ImportOptions& options) {
  const Normals normals;
  const std::vector<TowerTensor> tower = audio_tensors(config);
  std::vector<PackageTensor> tensors;
  for (const TowerTensor& tensor : tower) tensors.push_back(stored_tower_tensor(tensor, Region::kAudio, options));
  auto writer = value_or_fail(PackageWriter::create(path, {.config_json = "{}", .source = "random"}, tensors));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const PackageTensor& t = tensors[i];
    const std::vector<float> values = normals.weights(tower[i], i);
    std::vector<std::byte> bytes(t.bytes);
    pack_matrix(t.type, t.layout, t.rows, t.cols, values.data(), bytes.data());
    ok_or_fail(writer.write(i, 0, bytes));
  }
  ok_or_fail(writer.commit());
}

// Bands that rise and fall, as speech has them, with noise.
std::vector<float> moving_bands(int64_t frames, int64_t bins) {
  std::mt19937 random(2);
  std::normal_distribution<float> noise(0, 0.7f);
  std::vector<float> mel;
  for (int64_t t = 0; t < frames; ++t)
    for (int64_t f = 0; f < bins; ++f) {
      const float time = static_cast<float>(t) / 100, bin = static_cast<float>(f);
      const float loud = std::sin(7 * time) > -0.5f ? 3.0f : -3.0f;
      const float bands = std::cos(bin / (6 + 3 * std::sin(2.1f * time))) - bin / 40;
      mel.push_back(std::max(-11.5f, -4 + loud + 2 * bands + noise(random)));
    }
  return mel;
}

std::vector<float> encode(WeightType weights) {
  const AudioConfig config = *value_or_fail(parse_config(
      R"({"model_type": "gemma3n", "text_config": {}, "audio_config": {}})", "", "published")).audio;
  const TemporaryPath file(".nest");
  write_tower(file.path(), config, {.weights = weights});
  Package package = value_or_fail(Package::open(file.path()));
  ok_or_fail(package.load_region(Region::kAudio));
  AudioEncoder encoder = value_or_fail(AudioEncoder::bind(package, config, AudioWeights::kResident));
  const Kernels kernels = value_or_fail(Kernels::choose());
  ThreadPool pool(default_thread_count(), false);
  const std::vector<float> mel = moving_bands(kMelFrames, config.input_feat_size);
  return value_or_fail(encoder.encode(kernels, pool, mel.data(), kMelFrames));
}

struct Cosines {
  double mean = 0, min = 1;
};

Cosines cosines(const std::vector<float>& a, const std::vector<float>& b, size_t width) {
  Cosines result;
  for (size_t begin = 0; begin < a.size(); begin += width) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = begin; i < begin + width; ++i) {
      ab += static_cast<double>(a[i]) * b[i];
      aa += static_cast<double>(a[i]) * a[i];
      bb += static_cast<double>(b[i]) * b[i];
    }
    const double cosine = ab / std::sqrt(aa * bb);
    result.mean += cosine * static_cast<double>(width) / static_cast<double>(a.size());
    result.min = std::min(result.min, cosine);
  }
  return result;
}

TEST(AudioWeightTypes, RowsPointWhereThoseOfFloat32Point) {
  constexpr size_t kWidth = 1536;
  const std::vector<float> exact = encode(WeightType::kF32);
  ASSERT_EQ(exact.size(), static_cast<size_t>(audio_rows(kMelFrames, 4)) * kWidth);
  for (const auto& [weights, least] : {std::pair{WeightType::kBF16, kAudioCosineBf16},
                                       std::pair{WeightType::kQ4, kAudioCosineInt8}}) {
    const std::vector<float> rows = encode(weights);
    const Cosines c = cosines(exact, rows, kWidth);
    fmt::print("{}: cosine with float32, mean {:.6f}, least {:.6f} of {} rows\n",
               weight_type_name(ImportOptions{.weights = weights}.tower_type()), c.mean, c.min, rows.size() / kWidth);
    EXPECT_GE(c.min, least);
  }
}

}  // namespace
}  // namespace nestling
