// The audio tower and its embedder against Hugging Face transformers, tap by tap.
#include <filesystem>

#include <gtest/gtest.h>

#include "golden/golden.h"
#include "model/audio/audio_encoder.h"
#include "model/multimodal_embedder.h"
#include "support/test_package.h"
#include "support/tolerances.h"

namespace nestling {
namespace {

namespace fs = std::filesystem;

std::vector<float> floats(const SafetensorsFile& golden, const char* name) {
  const SafetensorsEntry* entry = golden.find(name);
  std::vector<float> values(static_cast<size_t>(entry->elements()));
  EXPECT_TRUE(golden.read_floats(*entry, 0, values));
  return values;
}

// The rows that replace the placeholders: soft tokens where a frame is valid, padding elsewhere.
void record_soft_tokens(const Package& package, const ModelConfig& config, const Kernels& kernels, ThreadPool& pool,
                        const std::vector<float>& rows, const std::vector<bool>& valid, TraceRecorder& recorder) {
  const AudioConfig& audio = *config.audio;
  const int64_t W = config.text.hidden_size, n = static_cast<int64_t>(valid.size());
  const auto embedder = value_or_fail(MultimodalEmbedder::bind(package, "mm.a.", audio.vocab_size, audio.hidden_size, W,
                                                               audio.rms_norm_eps));
  std::vector<float> soft(static_cast<size_t>(n * W)), padding(static_cast<size_t>(W));
  embedder.soft(kernels, pool, rows.data(), n, 1, soft.data());
  embedder.hard(kernels, pool, audio.vocab_size - 1, padding.data());
  std::vector<float> filled;
  for (int64_t i = 0; i < config.audio_soft_tokens_per_image; ++i) {
    const bool real = i < n && valid[static_cast<size_t>(i)];
    const float* row = real ? soft.data() + i * W : padding.data();
    filled.insert(filled.end(), row, row + W);
  }
  recorder.record("audio.soft_tokens", {n, W}, soft.data());
  recorder.record("audio.padding", {W}, padding.data());
  recorder.record("audio.filled", {config.audio_soft_tokens_per_image, W}, filled.data());
}

std::vector<TraceTensor> trace(const SafetensorsFile& golden, const fs::path& checkpoint, AudioWeights weights) {
  const TestPackage file(checkpoint, all_weights(WeightType::kF32));
  Package package = value_or_fail(Package::open(file.path()));
  ok_or_fail(package.load_region(Region::kAudio));
  const ModelConfig config = value_or_fail(config_from_json(package.info().config_json, file.path().string()));
  AudioEncoder encoder = value_or_fail(AudioEncoder::bind(package, *config.audio, weights));
  const Kernels kernels = value_or_fail(Kernels::choose());
  ThreadPool pool(2);
  const std::vector<float> mel = floats(golden, "input.mel");
  std::vector<uint8_t> mask;
  for (const int64_t v : value_or_fail(golden.read_integers(*golden.find("input.mel_mask"))))
    mask.push_back(static_cast<uint8_t>(v));
  std::vector<bool> valid;
  TraceRecorder recorder("");
  const auto rows = value_or_fail(encoder.encode(kernels, pool, mel.data(), static_cast<int64_t>(mask.size()),
                                                 mask.data(), &valid, &recorder));
  recorder.record_integers("audio.reduced_mask", std::vector<int64_t>(valid.begin(), valid.end()));
  record_soft_tokens(package, config, kernels, pool, rows, valid, recorder);
  return std::move(recorder.tensors());
}

void expect_agreement(const std::string& directory, const std::string& name,
                      AudioWeights weights = AudioWeights::kResident) {
  const fs::path checkpoint = golden_path(directory), file = checkpoint / name;
  if (!fs::exists(file)) GTEST_SKIP() << file << " is not here (NESTLING_GOLDENS names the larger goldens)";
  const SafetensorsFile golden = value_or_fail(SafetensorsFile::open(file));
  const auto difference = first_difference(golden, trace(golden, checkpoint, weights), kGoldenRelative);
  EXPECT_FALSE(difference) << *difference;
}

class AudioGolden : public testing::TestWithParam<const char*> {};

TEST_P(AudioGolden, EveryTap) { expect_agreement(GetParam(), "expected.safetensors"); }
TEST_P(AudioGolden, EveryTapWithLayersReadFromStorage) {
  expect_agreement(GetParam(), "expected.safetensors", AudioWeights::kStreamed);
}
TEST_P(AudioGolden, InvalidFramesAtTheEnd) { expect_agreement(GetParam(), "expected_right_padded.safetensors"); }
TEST_P(AudioGolden, InvalidFramesAtTheStart) { expect_agreement(GetParam(), "expected_left_padded.safetensors"); }

INSTANTIATE_TEST_SUITE_P(Cases, AudioGolden, testing::Values("audio_narrow", "audio_small"),
                         [](const auto& tested) { return std::string(tested.param); });

}  // namespace
}  // namespace nestling
