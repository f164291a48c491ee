// Small audio towers for the tests of this folder: packages written from values by name.
#pragma once

#include <cmath>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/pack.h"
#include "model/audio/audio_encoder.h"
#include "model/audio_tensors.h"
#include "storage/package.h"
#include "storage/test_directory.h"

namespace nestling {

// By checkpoint name without "audio_tower.".
using TowerValues = std::map<std::string, std::vector<float>>;

// Real attention and convolution geometry at a small width; an odd number of layers, so that the two buffers of
// streamed layers change places from piece to piece.
inline AudioConfig small_tower_config() {
  AudioConfig c;
  c.hidden_size = 16;
  c.num_attention_heads = 2;
  c.num_hidden_layers = 3;
  c.input_feat_size = 12;
  c.sscp_channels = {4, 3};
  c.vocab_size = 4;
  return c;
}

inline std::string short_name(const TowerTensor& tensor) {
  return tensor.checkpoint.substr(std::string("audio_tower.").size());
}

inline int64_t element_count(const TowerTensor& tensor) { return tensor.rows * tensor.cols; }

inline TowerValues random_tower(const AudioConfig& config, uint32_t seed = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 1);
  TowerValues values;
  for (const TowerTensor& tensor : audio_tensors(config)) {
    auto& v = values[short_name(tensor)];
    const bool vector = tensor.role == TowerRole::kVector;
    const float scale = vector ? 0.2f : 1 / std::sqrt(static_cast<float>(tensor.cols));
    for (int64_t i = 0; i < element_count(tensor); ++i) v.push_back((vector ? 1.0f : 0.0f) + scale * normal(random));
  }
  return values;
}

inline PackageTensor stored(const TowerTensor& tensor, WeightType type) {
  PackageTensor p{.name = tensor.package, .region = Region::kAudio, .rows = tensor.rows, .cols = tensor.cols};
  const bool product = is_product(tensor.role);
  const WeightType floats = type == WeightType::kF32 ? WeightType::kF32 : WeightType::kBF16;
  const WeightType fine = type == WeightType::kI8 ? WeightType::kI16 : type;
  p.type = tensor.role == TowerRole::kMatrix       ? type
           : tensor.role == TowerRole::kFineMatrix ? fine
           : product                               ? floats
                                                   : WeightType::kF32;
  p.layout = product ? Layout::kIl16 : Layout::kRows;
  p.bytes = packed_bytes(p.type, p.layout, p.rows, p.cols);
  return p;
}

// `change`: what a test does to a tensor before it is written; one whose name becomes empty is left out.
inline void write_tower(const std::filesystem::path& path, const AudioConfig& config, const TowerValues& values,
                        WeightType type, const std::function<void(PackageTensor&)>& change = nullptr) {
  std::vector<PackageTensor> tensors;
  std::vector<TowerTensor> sources;
  for (const TowerTensor& tensor : audio_tensors(config)) {
    PackageTensor target = stored(tensor, type);
    if (change) change(target);
    if (target.name.empty()) continue;
    target.bytes = packed_bytes(target.type, target.layout, target.rows, target.cols);
    tensors.push_back(target);
    sources.push_back(tensor);
  }
  auto writer = PackageWriter::create(path, {.config_json = "{}", .source = "test"}, tensors);
  ASSERT_TRUE(writer) << writer.error().message;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto& original = values.at(short_name(sources[i]));
    std::vector<float> reordered(std::max<size_t>(original.size(), tensors[i].rows * tensors[i].cols));
    reorder(sources[i].reorder, sources[i].shape, original.data(), reordered.data());
    std::vector<std::byte> bytes(tensors[i].bytes);
    pack_matrix(tensors[i].type, tensors[i].layout, tensors[i].rows, tensors[i].cols, reordered.data(), bytes.data());
    ASSERT_TRUE(writer->write(i, 0, bytes));
  }
  ASSERT_TRUE(writer->commit());
}

// A tower in a package of its own, bound.
class TestTower {
 public:
  TestTower(const AudioConfig& config, const TowerValues& values, WeightType type,
            AudioWeights weights = AudioWeights::kResident) {
    write_tower(directory_ / "tower.nest", config, values, type);
    package_ = std::make_unique<Package>(std::move(*Package::open(directory_ / "tower.nest")));
    if (weights == AudioWeights::kResident) { EXPECT_TRUE(package_->load_region(Region::kAudio)); }
    auto encoder = AudioEncoder::bind(*package_, config, weights);
    if (!encoder) ADD_FAILURE() << encoder.error().message, std::abort();
    encoder_ = std::make_unique<AudioEncoder>(std::move(*encoder));
  }
  AudioEncoder& encoder() { return *encoder_; }
  const Package& package() const { return *package_; }

  std::vector<float> encode(const std::vector<float>& mel, const std::vector<uint8_t>& mask = {},
                            std::vector<bool>* valid = nullptr, int threads = 2) {
    ThreadPool pool(threads, false);
    auto rows = encoder_->encode(kernels_, pool, mel.data(), frames(mel), mask.empty() ? nullptr : mask.data(), valid);
    if (!rows) ADD_FAILURE() << rows.error().message, std::abort();
    return std::move(*rows);
  }
  // The clip in pieces of cut(), cut(), ... frames.
  std::vector<float> encode_in_pieces(const std::vector<float>& mel, const std::function<int64_t()>& cut,
                                      const std::vector<uint8_t>& mask = {}, std::vector<bool>* valid = nullptr) {
    ThreadPool pool(1);
    AudioEncoder::Stream stream(*encoder_);
    std::vector<float> rows;
    for (int64_t done = 0; done < frames(mel);) {
      const int64_t count = std::min(cut(), frames(mel) - done);
      EXPECT_TRUE(stream.push(kernels_, pool, mel.data() + done * encoder_->mel_bins(), count, rows,
                              mask.empty() ? nullptr : mask.data() + done, valid));
      done += count;
      state_bytes_ = stream.state_bytes();
    }
    EXPECT_TRUE(stream.finish(kernels_, pool, nullptr, 0, rows, nullptr, valid));
    return rows;
  }
  int64_t frames(const std::vector<float>& mel) const {
    return static_cast<int64_t>(mel.size()) / encoder_->mel_bins();
  }
  uint64_t state_bytes() const { return state_bytes_; }  // of the last clip in pieces
  const Kernels& kernels() const { return kernels_; }

 private:
  TestDirectory directory_;
  std::unique_ptr<Package> package_;
  std::unique_ptr<AudioEncoder> encoder_;
  Kernels kernels_ = *Kernels::choose();
  uint64_t state_bytes_ = 0;
};

inline std::vector<float> random_mel(int64_t frames, int64_t bins, uint32_t seed = 3) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-8, 2);
  std::vector<float> mel(static_cast<size_t>(frames * bins));
  for (float& v : mel) v = uniform(random);
  return mel;
}

}  // namespace nestling
