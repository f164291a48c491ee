#include "media/mel.h"

#include <cmath>
#include <filesystem>
#include <numbers>
#include <numeric>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage/safetensors.h"

namespace nestling {
namespace {

const std::filesystem::path kFolder = std::filesystem::path(NESTLING_SOURCE_DIR) / "tests/data/media/mel";
constexpr float kFloor = -11.512925f;
// transformers' FFT is float32 with NumPy 2 (ours is float64), which moves values by 1e-6 here.
constexpr float kTolerance = 5e-6f;

std::vector<float> two_tones() {
  std::vector<float> x(1600);
  for (size_t i = 0; i < x.size(); ++i) {
    const double phase = 2 * std::numbers::pi * static_cast<double>(i) / 16000;
    x[i] = static_cast<float>(0.25 * std::sin(440 * phase) + 0.1 * std::cos(1000 * phase));
  }
  return x;
}

std::vector<float> noise(size_t count) {
  std::vector<float> x(count);
  uint32_t s = 12345;
  for (float& v : x) {
    s = s * 1664525 + 1013904223;
    v = static_cast<float>((static_cast<double>(s >> 8) / 8388608 - 1) * 0.25);
  }
  return x;
}

double sum_of(const LogMel& mel) { return std::accumulate(mel.values.begin(), mel.values.end(), 0.0); }

struct Golden {
  std::optional<SafetensorsFile> file;

  explicit Golden(const std::string& name) {
    auto opened = SafetensorsFile::open(kFolder / (name + ".safetensors"));
    EXPECT_TRUE(opened) << opened.error().message;
    if (opened) file = *std::move(opened);
  }
  std::vector<float> floats(const std::string& name) const {
    const SafetensorsEntry* entry = file ? file->find(name) : nullptr;
    EXPECT_TRUE(entry) << name;
    std::vector<float> out(entry ? static_cast<size_t>(entry->elements()) : 0);
    EXPECT_TRUE(!entry || file->read_floats(*entry, 0, out));
    return out;
  }
  std::vector<uint8_t> mask() const {
    const SafetensorsEntry* entry = file ? file->find("mel.mask") : nullptr;
    const auto values = entry ? file->read_integers(*entry).value_or(std::vector<int64_t>{}) : std::vector<int64_t>{};
    return {values.begin(), values.end()};
  }
};

float largest_difference(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return INFINITY;
  float largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

TEST(Mel, GoldensOfTransformers) {
  const MelFrontEnd front_end;
  struct Case {
    const char* name;
    PaddingSide side;
  };
  for (const Case& c : {Case{"t3_two_tones", PaddingSide::kRight}, Case{"t4_noise", PaddingSide::kRight},
                        Case{"t2_two_tones_left", PaddingSide::kLeft},
                        Case{"chirp_2s", PaddingSide::kRight}}) {
    const Golden golden(c.name);
    const LogMel mel = front_end.extract(golden.floats("input.waveform"), {.side = c.side});
    EXPECT_LT(largest_difference(mel.values, golden.floats("mel.log_mel")), kTolerance) << c.name;
    EXPECT_EQ(mel.mask, golden.mask()) << c.name;
    EXPECT_EQ(mel.frames, static_cast<int64_t>(mel.mask.size())) << c.name;
  }
}

TEST(Mel, ClipsOfABatchArePaddedToTheLongest) {
  const MelFrontEnd front_end;
  const Golden golden("batch");
  std::vector<float> values;
  std::vector<uint8_t> mask;
  for (const char* name : {"input.waveform.0", "input.waveform.1"}) {
    const LogMel mel = front_end.extract(golden.floats(name), {.batch_samples = 4000});
    values.insert(values.end(), mel.values.begin(), mel.values.end());
    mask.insert(mask.end(), mel.mask.begin(), mel.mask.end());
  }
  EXPECT_LT(largest_difference(values, golden.floats("mel.log_mel")), kTolerance);
  EXPECT_EQ(mask, golden.mask());
}

// audio.md 1.5, T1: transformers' own test; 32 bins, two clips in a batch.
TEST(Mel, T1) {
  const MelFrontEnd front_end(32);
  std::vector<float> x(8000);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = static_cast<float>(std::sin(2 * std::numbers::pi * 440 * (static_cast<double>(i) / 7999)));
  const LogMel whole = front_end.extract(x);
  ASSERT_EQ(whole.frames, 48);
  const float expected[] = {-5.733152f, -5.337127f, -4.916284f, -4.378989f, -3.7622747f};
  for (size_t i = 0; i < 5; ++i) EXPECT_NEAR(whole.values[i], expected[i], 1e-5 + 1e-5 * std::abs(expected[i]));
  const LogMel half = front_end.extract(std::span(x).first(4000), {.batch_samples = 8000});
  ASSERT_EQ(half.frames, 48);
  EXPECT_EQ(half.mask[24], 1);
  EXPECT_EQ(half.mask[25], 0);
  EXPECT_EQ(std::accumulate(half.mask.begin(), half.mask.end(), 0), 25);
}

TEST(Mel, T2LeftPadding) {
  const LogMel mel = MelFrontEnd().extract(two_tones(), {.side = PaddingSide::kLeft});
  const auto y = [&](size_t t, size_t m) { return mel.values[t * 128 + m]; };
  ASSERT_EQ(mel.frames, 8);
  EXPECT_NEAR(y(0, 0), -4.375432, 1e-5);
  EXPECT_NEAR(y(0, 10), -2.835217, 1e-5);
  EXPECT_NEAR(y(0, 64), -2.875424, 1e-5);
  EXPECT_NEAR(y(1, 20), -0.997653, 1e-5);
  EXPECT_EQ(y(3, 100), kFloor);
  EXPECT_EQ(y(6, 127), kFloor);
  EXPECT_NEAR(sum_of(mel), -7277.97, 0.1);
}

TEST(Mel, T3RightPadding) {
  const LogMel mel = MelFrontEnd().extract(two_tones());
  const auto y = [&](size_t t, size_t m) { return mel.values[t * 128 + m]; };
  ASSERT_EQ(mel.frames, 8);
  EXPECT_NEAR(y(0, 0), -6.42313, 1e-5);
  EXPECT_NEAR(y(0, 10), -4.23800, 1e-5);
  EXPECT_NEAR(y(1, 20), -0.99840, 1e-5);
  EXPECT_NEAR(y(4, 5), -6.36008, 1e-5);
  EXPECT_NEAR(y(7, 0), -4.97127, 1e-5);
  EXPECT_NEAR(y(7, 64), -4.19425, 1e-5);
  EXPECT_NEAR(y(7, 127), -3.58213, 1e-5);
  EXPECT_NEAR(sum_of(mel), -7426.66, 0.03);
}

TEST(Mel, T4Noise) {
  const std::vector<float> x = noise(4000);
  EXPECT_NEAR(x[0], -0.2397987, 1e-7);
  const LogMel mel = MelFrontEnd().extract(x);
  const auto y = [&](size_t t, size_t m) { return mel.values[t * 128 + m]; };
  ASSERT_EQ(mel.frames, 23);
  EXPECT_NEAR(y(0, 0), -1.36167, 1e-4);
  EXPECT_NEAR(y(0, 64), 1.29025, 1e-4);
  EXPECT_NEAR(y(11, 100), 2.83157, 1e-4);
  EXPECT_NEAR(y(22, 0), -1.88352, 1e-4);
  EXPECT_NEAR(y(22, 127), 3.38481, 1e-4);
  EXPECT_NEAR(sum_of(mel), 2992.7827, 1e-2);
  const double squares = std::inner_product(mel.values.begin(), mel.values.end(), mel.values.begin(), 0.0);
  EXPECT_NEAR(squares, 12030.369, 1e-2);
}

TEST(Mel, T5Silence) {
  EXPECT_THAT(MelFrontEnd().extract(std::vector<float>(3000)).values, ::testing::Each(kFloor));
}

TEST(Mel, FrameCount) {
  const std::pair<int64_t, int64_t> expected[] = {{0, 0},        {1, 1},        {512, 1},      {513, 1},
                                                  {640, 1},      {641, 2},      {2560, 13},    {3200, 17},
                                                  {8000, 48},    {16000, 97},   {160000, 997}, {480000, 2997}};
  const MelFrontEnd front_end;
  for (const auto& [samples, frames] : expected) {
    EXPECT_EQ(mel_frame_count(samples), frames) << samples;
    if (samples > 16000) continue;
    EXPECT_EQ(front_end.extract(std::vector<float>(static_cast<size_t>(samples))).frames, frames) << samples;
  }
}

TEST(MelStream, EqualsTheBatchFormBitForBit) {
  const MelFrontEnd front_end;
  for (const size_t count : {0, 1, 511, 512, 513, 640, 641, 672, 673, 1600, 4000, 4001}) {
    const std::vector<float> x = noise(count);
    const LogMel batch = front_end.extract(x);
    for (const size_t piece : {1, 7, 160, 513, 5000}) {
      MelStream stream(front_end);
      LogMel mel;
      for (size_t at = 0; at < count; at += piece)
        stream.push(std::span(x).subspan(at, std::min(piece, count - at)), mel);
      // All frames that a 513th sample proves are out before the end is known.
      EXPECT_EQ(mel.frames, count < 513 ? 0 : static_cast<int64_t>(count - 513) / 160 + 1);
      stream.finish(mel);
      EXPECT_EQ(mel.frames, batch.frames) << count << " in pieces of " << piece;
      EXPECT_EQ(mel.values, batch.values) << count << " in pieces of " << piece;
      EXPECT_EQ(mel.mask, batch.mask);
    }
  }
}

TEST(RealFft, EqualsTheDefinition) {
  constexpr int64_t kLength = 20;
  const std::vector<float> x = noise(kLength);
  const std::vector<double> in(x.begin(), x.end());
  std::vector<std::complex<double>> out(kLength / 2 + 1);
  RealFft(kLength).forward(in, out);
  for (size_t b = 0; b < out.size(); ++b) {
    std::complex<double> expected = 0;
    for (size_t i = 0; i < in.size(); ++i)
      expected += std::polar(in[i], -2 * std::numbers::pi * static_cast<double>(b * i) / kLength);
    EXPECT_LT(std::abs(out[b] - expected), 1e-13) << b;
  }
}

}  // namespace
}  // namespace nestling
