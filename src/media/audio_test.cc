#include "media/audio.h"

#include <bit>
#include <cmath>
#include <filesystem>
#include <limits>
#include <numbers>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "media/media_file.h"
#include "media/mono_stream.h"

namespace nestling {
namespace {

using ::testing::HasSubstr;

const std::filesystem::path kFolder = std::filesystem::path(NESTLING_SOURCE_DIR) / "tests/data/media/audio";

void append(std::vector<std::byte>& bytes, uint64_t value, size_t width) {
  for (size_t i = 0; i < width; ++i) bytes.push_back(static_cast<std::byte>(value >> 8 * i));
}

struct WavHeader {
  uint32_t rate = 16'000;
  uint16_t channels = 1;
  uint32_t data_bytes = 0;
};

// A float32 WAV file that says what `header` says and holds `samples`.
std::vector<std::byte> wav(const WavHeader& header, const std::vector<float>& samples) {
  std::vector<std::byte> bytes;
  const auto text = [&](std::string_view s) {
    for (const char c : s) bytes.push_back(static_cast<std::byte>(c));
  };
  text("RIFF");
  append(bytes, header.data_bytes + 36u, 4);
  text("WAVEfmt ");
  append(bytes, 16, 4);
  append(bytes, 3, 2);  // float
  append(bytes, header.channels, 2);
  append(bytes, header.rate, 4);
  append(bytes, uint64_t{header.rate} * header.channels * 4, 4);
  append(bytes, header.channels * 4u, 2);
  append(bytes, 32, 2);
  text("data");
  append(bytes, header.data_bytes, 4);
  for (const float sample : samples) append(bytes, std::bit_cast<uint32_t>(sample), 4);
  return bytes;
}

std::vector<std::byte> wav(const std::vector<float>& samples) {
  return wav({.data_bytes = static_cast<uint32_t>(samples.size() * 4)}, samples);
}

std::vector<float> tone(double hertz, double rate, size_t count, double amplitude = 0.5) {
  std::vector<float> x(count);
  for (size_t i = 0; i < count; ++i)
    x[i] = static_cast<float>(amplitude * std::sin(2 * std::numbers::pi * hertz * static_cast<double>(i) / rate));
  return x;
}

// Amplitude of the part of `x` at `hertz`, away from the ends, at 16 kHz.
double amplitude_at(double hertz, std::span<const float> x) {
  double re = 0, im = 0;
  const size_t first = x.size() / 4, last = x.size() * 3 / 4;
  for (size_t i = first; i < last; ++i) {
    const double phase = 2 * std::numbers::pi * hertz * static_cast<double>(i) / 16000;
    re += x[i] * std::cos(phase);
    im += x[i] * std::sin(phase);
  }
  return 2 * std::hypot(re, im) / static_cast<double>(last - first);
}

double rms(std::span<const float> x) {
  double sum = 0;
  for (const float v : x) sum += double{v} * v;
  return std::sqrt(sum / static_cast<double>(x.size()));
}

std::vector<float> resample(double hertz, int64_t rate, size_t count) {
  auto stream = MonoStream::create("tone", rate, 1);
  std::vector<float> out;
  EXPECT_TRUE(stream && stream->push(tone(hertz, static_cast<double>(rate), count), out) && stream->finish(out));
  return out;
}

std::string error_of(const Result<AudioClip>& clip) {
  if (clip) return "no error";
  EXPECT_EQ(clip.error().code, ErrorCode::kFailed);
  EXPECT_THAT(clip.error().message, ::testing::Not(HasSubstr("\n")));
  return clip.error().message;
}

TEST(DecodeAudio, EveryFormatGivesTheTone) {
  struct Case {
    const char* name;
    int64_t rate, channels;
    double seconds = 0.25;
    double tolerance = 1e-3;  // of the amplitude
  };
  const Case cases[] = {{"s16_16000.wav", 16000, 1},
                        {"u8_8000.wav", 8000, 1, 0.25, 5e-3},
                        {"s24_16000.wav", 16000, 1},
                        {"ulaw_8000.wav", 8000, 1, 0.25, 1e-2},
                        {"f32_44100_stereo.wav", 44100, 2, 0.125},
                        {"s16_12000_six_channels.wav", 12000, 6},
                        {"s16_22050.rf64.wav", 22050, 1},
                        {"s16_48000_stereo.flac", 48000, 2},
                        {"vorbis_44100_stereo.ogg", 44100, 2, 0.25, 2e-2},
                        {"opus_48000.ogg", 48000, 1, 0.25, 5e-2},
                        {"layer3_44100_stereo.mp3", 44100, 2, 0.25, 2e-2},
                        {"id3_44100_stereo.mp3", 44100, 2, 0.25, 2e-2},
                        {"s16_11025.aiff", 11025, 1}};
  for (const Case& c : cases) {
    const Result<AudioClip> clip = load_audio(kFolder / c.name);
    ASSERT_TRUE(clip) << clip.error().message;
    EXPECT_EQ(clip->source_rate, c.rate) << c.name;
    EXPECT_EQ(clip->source_channels, c.channels) << c.name;
    EXPECT_EQ(clip->clipped_values, 0) << c.name;
    // MP3 pads its first and last frame.
    const double slack = std::string_view(c.name).ends_with("mp3") ? 0.08 * 16000 : 2;
    EXPECT_NEAR(static_cast<double>(clip->samples.size()), c.seconds * 16000, slack) << c.name;
    // The other channels are silent, and all are averaged.
    const double expected = 0.5 / static_cast<double>(c.channels);
    EXPECT_NEAR(amplitude_at(1000, clip->samples), expected, c.tolerance) << c.name;
  }
}

TEST(DecodeAudio, SixteenBitMonoAtTheTargetRateIsExact) {
  const auto clip = load_audio(kFolder / "s16_16000.wav");
  ASSERT_TRUE(clip);
  ASSERT_EQ(clip->samples.size(), 4000u);
  for (const float v : clip->samples) EXPECT_EQ(v * 32768, std::round(v * 32768));
  EXPECT_EQ(clip->samples[4], 16384.0f / 32768);  // the crest of the tone
}

TEST(DecodeAudio, DamagedFiles) {
  const auto error = [](const char* name) { return error_of(load_audio(kFolder / "bad" / name)); };
  EXPECT_THAT(error("empty.wav"), HasSubstr("is empty"));
  EXPECT_THAT(error("text.mp3"), HasSubstr("is no known image or sound; a WAV, FLAC, Ogg, MP3 or AIFF sound"));
  EXPECT_THAT(error("truncated_s16_16000.wav"), HasSubstr("5318 of 8000 bytes of samples are there"));
  EXPECT_THAT(error("truncated_s16_48000_stereo.flac"), HasSubstr("damaged sound"));
  EXPECT_THAT(error("truncated_s16_11025.aiff"), HasSubstr("3664 of 5520 bytes of samples are there"));
  EXPECT_THAT(error("header_only.flac"), HasSubstr("damaged sound"));
  EXPECT_THAT(error("header_only.ogg"), HasSubstr("damaged sound"));
  EXPECT_THAT(error("id3_only.mp3"), HasSubstr("damaged sound"));
  EXPECT_THAT(error("not_there.wav"), HasSubstr("No such file"));
  EXPECT_THAT(error_of(load_audio(kFolder.parent_path() / "image/rgb.png")), HasSubstr("is a PNG image; a WAV, FLAC"));
}

TEST(DecodeAudio, AbsurdHeaders) {
  const std::vector<float> four = {0.1f, 0.2f, 0.3f, 0.4f};
  EXPECT_THAT(error_of(decode_audio("a", wav({.rate = 999, .data_bytes = 16}, four))),
              HasSubstr("a: 999 samples per second; 1000 to 768000 are allowed"));
  EXPECT_THAT(error_of(decode_audio("a", wav({.rate = 2'000'000'000, .data_bytes = 16}, four))),
              HasSubstr("samples per second"));
  EXPECT_THAT(error_of(decode_audio("a", wav({.rate = 0, .data_bytes = 16}, four))), HasSubstr("a: "));
  EXPECT_THAT(error_of(decode_audio("a", wav({.channels = 33, .data_bytes = 264}, std::vector<float>(66)))),
              HasSubstr("a: 33 channels; 1 to 32 are allowed"));
  EXPECT_THAT(error_of(decode_audio("a", wav({.channels = 65535, .data_bytes = 16}, four))), HasSubstr("a: "));
  EXPECT_THAT(error_of(decode_audio("a", wav({.channels = 0, .data_bytes = 16}, four))), HasSubstr("a: "));
  EXPECT_THAT(error_of(decode_audio("a", wav({.data_bytes = 20}, four))), HasSubstr("16 of 20 bytes"));
  EXPECT_THAT(error_of(decode_audio("a", wav(std::vector<float>{}))), HasSubstr("a: holds no sound: 0 samples"));
}

TEST(DecodeAudio, ExtremeRatesWork) {
  for (const uint32_t rate : {1000u, 768'000u}) {
    const auto clip = decode_audio("a", wav({.rate = rate, .data_bytes = rate * 4}, std::vector<float>(rate, 0.5f)));
    ASSERT_TRUE(clip) << clip.error().message;
    EXPECT_NEAR(static_cast<double>(clip->samples.size()), 16000, 20) << rate;
    EXPECT_NEAR(clip->samples[8000], 0.5, 1e-3) << rate;
  }
}

TEST(DecodeAudio, AStreamedWavHasNoSize) {
  const std::vector<float> samples = tone(1000, 16000, 1000);
  for (const uint32_t size : {0x7FFF'FFFFu, 0x8000'0000u, 0xFFFF'FFFFu}) {
    const auto clip = decode_audio("pipe", wav({.data_bytes = size}, samples));
    ASSERT_TRUE(clip) << clip.error().message;
    EXPECT_EQ(clip->samples, samples) << size;
  }
}

TEST(DecodeAudio, AStreamedFlacHasNoSampleCount) {
  auto bytes = read_media_file(kFolder / "s16_48000_stereo.flac", 1 << 20);
  ASSERT_TRUE(bytes);
  for (size_t i = 21; i < 26; ++i) (*bytes)[i] &= i == 21 ? std::byte{0xF0} : std::byte{0};  // 36 bits of STREAMINFO
  const auto clip = decode_audio("pipe", *bytes);
  ASSERT_TRUE(clip) << clip.error().message;
  EXPECT_EQ(clip->samples.size(), 4000u);
}

TEST(DecodeAudio, OneSample) {
  const auto clip = decode_audio("a", wav({0.25f}));
  ASSERT_TRUE(clip) << clip.error().message;
  EXPECT_THAT(clip->samples, ::testing::ElementsAre(0.25f));
}

TEST(DecodeAudio, ValuesOutOfRangeAreClampedAndCounted) {
  const auto clip = decode_audio("a", wav({0.5f, 1.5f, -1.0f, -32768.0f, 1.0f}));
  ASSERT_TRUE(clip);
  EXPECT_THAT(clip->samples, ::testing::ElementsAre(0.5f, 1.0f, -1.0f, -1.0f, 1.0f));
  EXPECT_EQ(clip->clipped_values, 2);
}

TEST(DecodeAudio, ValuesThatAreNoNumbersAreRefused) {
  using Limits = std::numeric_limits<float>;
  EXPECT_THAT(error_of(decode_audio("a", wav({0.5f, Limits::quiet_NaN()}))), HasSubstr("a: sample 1 is nan"));
  EXPECT_THAT(error_of(decode_audio("a", wav({-Limits::infinity()}))), HasSubstr("a: sample 0 is -inf"));
}

TEST(DecodeAudio, LimitsAreTheCallers) {
  const std::vector<std::byte> second = wav(std::vector<float>(16000));
  EXPECT_TRUE(decode_audio("a", second, {.max_encoded_bytes = second.size(), .max_seconds = 1}));
  EXPECT_THAT(error_of(decode_audio("a", second, {.max_encoded_bytes = 1000})), HasSubstr("at most 1000 are allowed"));
  EXPECT_THAT(error_of(decode_audio("a", wav(std::vector<float>(40000)), {.max_seconds = 1})),
              HasSubstr("seconds or more of sound; at most 1 are allowed"));
  EXPECT_THAT(error_of(load_audio(kFolder / "s16_48000_stereo.flac", {.max_seconds = 0.2})), HasSubstr("at most"));
}

TEST(MonoStream, ResamplingIsBandLimited) {
  for (const int64_t rate : {8000, 22050, 44100, 48000, 96000}) {
    const std::vector<float> kept = resample(1000, rate, static_cast<size_t>(rate));
    EXPECT_NEAR(static_cast<double>(kept.size()), 16000, 2) << rate;
    EXPECT_NEAR(amplitude_at(1000, kept), 0.5, 1e-4) << rate;
  }
  // Above the new Nyquist frequency nothing may fold back: 9 kHz would land on 7 kHz.
  const std::vector<float> removed = resample(9000, 44100, 44100);
  EXPECT_LT(rms(std::span(removed).subspan(4000, 8000)), 1e-4);
}

TEST(MonoStream, PiecesDoNotMatter) {
  const std::vector<float> x = tone(700, 44100, 20000);
  std::vector<float> whole, pieces;
  auto one = MonoStream::create("a", 44100, 2), many = MonoStream::create("a", 44100, 2);
  ASSERT_TRUE(one && many);
  ASSERT_TRUE(one->push(x, whole) && one->finish(whole));
  for (size_t at = 0; at < x.size(); at += 34)
    ASSERT_TRUE(many->push(std::span(x).subspan(at, std::min<size_t>(34, x.size() - at)), pieces));
  ASSERT_TRUE(many->finish(pieces));
  EXPECT_EQ(whole, pieces);
}

TEST(PcmStream, SixteenBitStereoInPiecesOfAnyLength) {
  std::vector<std::byte> bytes;
  for (const int value : {16384, -16384, 32767, 32767, -32768, 0}) append(bytes, static_cast<uint16_t>(value), 2);
  bytes.push_back(std::byte{1});  // the start of a frame that never comes
  for (const size_t piece : {1, 3, 4, 100}) {
    auto stream = PcmStream::create("pipe", {PcmFormat::Sample::kS16, 16000, 2});
    ASSERT_TRUE(stream);
    std::vector<float> out;
    for (size_t at = 0; at < bytes.size(); at += piece)
      ASSERT_TRUE(stream->push(std::span(bytes).subspan(at, std::min(piece, bytes.size() - at)), out));
    ASSERT_TRUE(stream->finish(out));
    EXPECT_THAT(out, ::testing::ElementsAre(0.0f, 32767.0f / 32768, -0.5f)) << piece;
  }
}

TEST(PcmStream, FloatsAtAnyRate) {
  std::vector<std::byte> bytes;
  for (const float v : tone(1000, 48000, 48000)) append(bytes, std::bit_cast<uint32_t>(v), 4);
  auto stream = PcmStream::create("pipe", {PcmFormat::Sample::kF32, 48000, 1});
  std::vector<float> out;
  ASSERT_TRUE(stream && stream->push(bytes, out) && stream->finish(out));
  EXPECT_EQ(out.size(), 16000u);
  EXPECT_NEAR(amplitude_at(1000, out), 0.5, 1e-4);
}

TEST(PcmStream, RefusesWhatMakesNoSense) {
  EXPECT_THAT(PcmStream::create("pipe", {PcmFormat::Sample::kS16, 0, 1}).error().message,
              HasSubstr("pipe: 0 samples per second; 1000 to 768000 are allowed"));
  EXPECT_THAT(PcmStream::create("pipe", {PcmFormat::Sample::kS16, 16000, 0}).error().message,
              HasSubstr("pipe: 0 channels; 1 to 32 are allowed"));
  auto stream = PcmStream::create("pipe", {PcmFormat::Sample::kF32, 16000, 1});
  std::vector<std::byte> bytes;
  append(bytes, 0x7FC00000, 4);
  std::vector<float> out;
  EXPECT_THAT(stream->push(bytes, out).error().message, HasSubstr("pipe: sample 0 is nan"));
}

}  // namespace
}  // namespace nestling
