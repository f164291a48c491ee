// The whole tower at toy size against numbers computed once in float64 by two independent forms (attention per query,
// and transformers' blocks).
#include "model/audio/audio_encoder.h"

#include <array>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/audio/test_tower.h"

namespace nestling {
namespace {

using testing::HasSubstr;

constexpr float kTolerance = 1e-4f;
constexpr int64_t kToyFrames = 37, kToyBins = 8;

// A linear congruential generator: u in [-1, 1).
class Uniform {
 public:
  explicit Uniform(uint32_t seed) : state_(seed) {}
  double next() {
    state_ = 1664525u * state_ + 1013904223u;
    return static_cast<double>(state_ >> 8) / 16777216.0 * 2 - 1;
  }

 private:
  uint32_t state_;
};

AudioConfig toy_config() {
  AudioConfig c;
  c.hidden_size = 8;
  c.num_attention_heads = 2;
  c.num_hidden_layers = 2;
  c.input_feat_size = kToyBins;
  c.sscp_channels = {3, 2};
  c.chunk_size = 4;
  c.context_left = 5;
  c.conv_kernel_size = 3;
  return c;
}

class ToyWeights {
 public:
  TowerValues make() {
    const std::string front = "subsample_conv_projection.";
    uniform(front + "conv_0.conv.weight", 27, 3);
    norm(front + "conv_0.norm.weight", 3);
    uniform(front + "conv_1.conv.weight", 54, 9);
    norm(front + "conv_1.norm.weight", 2);
    uniform(front + "input_proj_linear.weight", 32, 4);
    for (int layer = 0; layer < 2; ++layer) {
      const std::string block = fmt::format("conformer.{}.", layer);
      feed_forward(block + "ffw_layer_start.");
      norm(block + "attention.pre_attn_norm.weight", 8);
      uniform(block + "attention.attn.per_dim_scale", 4, 1);
      for (const char* name : {"attn.q_proj", "attn.k_proj", "attn.v_proj",
                               "attn.relative_position_embedding.pos_proj", "post"})
        uniform(block + "attention." + name + ".weight", 64, 8);
      norm(block + "attention.post_norm.weight", 8);
      norm(block + "lconv1d.pre_layer_norm.weight", 8);
      uniform(block + "lconv1d.linear_start.weight", 128, 8);
      uniform(block + "lconv1d.depthwise_conv1d.weight", 24, 3);
      norm(block + "lconv1d.conv_norm.weight", 8);
      uniform(block + "lconv1d.linear_end.weight", 64, 8);
      feed_forward(block + "ffw_layer_end.");
      norm(block + "norm.weight", 8);
    }
    return std::move(values_);
  }

 private:
  void feed_forward(const std::string& prefix) {
    norm(prefix + "pre_layer_norm.weight", 8);
    uniform(prefix + "ffw_layer_1.weight", 256, 8);
    uniform(prefix + "ffw_layer_2.weight", 256, 32);
    norm(prefix + "post_layer_norm.weight", 8);
  }
  void uniform(const std::string& name, int count, int fan) {
    for (int i = 0; i < count; ++i)
      values_[name].push_back(static_cast<float>(generator_.next() / std::sqrt(static_cast<double>(fan))));
  }
  void norm(const std::string& name, int count) {
    for (int i = 0; i < count; ++i) values_[name].push_back(static_cast<float>(1 + 0.25 * generator_.next()));
  }
  Uniform generator_{12345};
  TowerValues values_;
};

std::vector<float> toy_mel(int64_t frames = kToyFrames) {
  Uniform generator(777);
  std::vector<float> mel;
  for (int64_t i = 0; i < frames * kToyBins; ++i) mel.push_back(static_cast<float>(3 * generator.next() - 4));
  return mel;
}

class ToyTower : public testing::Test {
 protected:
  ToyTower() : tower_(toy_config(), ToyWeights().make(), WeightType::kF32) {}
  TestTower tower_;
};

void expect_row(const std::vector<float>& rows, size_t k, const std::vector<float>& expected) {
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(rows[k * 8 + i], expected[i], kTolerance) << k << " " << i;
}

const std::vector<float> kRow0 = {0.46433713f,  -1.71807036f, -0.65859062f, -1.36646553f,
                                  -1.15252468f, -0.37490488f, 0.97826279f,  0.53753047f};
const std::vector<float> kRow1 = {-0.29347998f, -1.18237116f, -0.05843298f, -0.16149647f,
                                  -1.95445661f, 0.25440695f,  1.46018629f,  -0.09132741f};
const std::vector<float> kRow2 = {-0.90931409f, -1.00598629f, -0.79563822f, 1.34695226f,
                                  -0.80950672f, 0.68547188f,  -0.86529447f, -1.21760329f};

TEST_F(ToyTower, WholeClip) {
  std::vector<bool> valid;
  const auto rows = tower_.encode(toy_mel(), {}, &valid);
  ASSERT_EQ(rows.size(), 24u);
  expect_row(rows, 0, kRow0);
  expect_row(rows, 1, kRow1);
  expect_row(rows, 2, kRow2);
  EXPECT_EQ(valid, (std::vector<bool>{true, true, true}));
}

TEST_F(ToyTower, InvalidFramesAtTheEnd) {
  std::vector<uint8_t> mask(kToyFrames, 0);
  std::fill_n(mask.begin(), 21, 1);
  std::vector<bool> valid;
  const auto rows = tower_.encode(toy_mel(), mask, &valid);
  EXPECT_EQ(valid, (std::vector<bool>{true, true, false}));
  expect_row(rows, 0, kRow0);
  expect_row(rows, 1, kRow1);
  expect_row(rows, 2, std::vector<float>(8, 0));
}

// Without the frames behind it the last row sees zeros instead of them.
TEST_F(ToyTower, ShorterClipAlone) {
  const auto rows = tower_.encode(toy_mel(21));
  ASSERT_EQ(rows.size(), 16u);
  expect_row(rows, 1, {-0.21559879f, -1.1329794f, 0.12158297f});
}

TEST_F(ToyTower, InvalidFrameAtTheStart) {
  std::vector<uint8_t> mask(kToyFrames, 1);
  mask[0] = 0;
  std::vector<bool> valid;
  const auto rows = tower_.encode(toy_mel(), mask, &valid);
  EXPECT_EQ(valid, (std::vector<bool>{false, true, true}));
  expect_row(rows, 1, {-0.54296915f, -0.88214671f});
  expect_row(rows, 2, {-0.89760297f, -0.97154429f});
}

TEST(AudioRows, PublishedCounts) {
  for (const auto& [mel, rows] : {std::pair{1, 1}, {13, 1}, {17, 2}, {48, 3}, {97, 7}, {197, 13}, {497, 32}, {997, 63},
                                  {1997, 125}, {2997, 188}})
    EXPECT_EQ(audio_rows(mel, 4), rows) << mel;
}

// What one 40 ms frame of the published tower costs is 654.9 million; the dropped frames of the last block save 2.4 %.
TEST(AudioEncoder, MultiplyAddsOfOneToy) {
  TestTower tower(toy_config(), ToyWeights().make(), WeightType::kF32);
  const int64_t front = 2 * 4 * 3 * 9 + 2 * 2 * 27 + 8 * 4;  // of one encoder frame
  const int64_t layer = 4 * 8 * 32 + 4 * 64 + 3 * 8 * 5 + 2 * 64 + 8 * 3 + 64;
  const int64_t dropped = 8 * 3 + 64 + 2 * 8 * 32;
  EXPECT_EQ(tower.encoder().multiply_adds(16), 4 * (front + 2 * layer) - 3 * dropped);
}

// ---- What a package may get wrong.

std::string refusal(const AudioConfig& config, const std::function<void(PackageTensor&)>& change,
                    const AudioConfig& asked) {
  const TestDirectory directory;
  write_tower(directory / "tower.nest", config, random_tower(config), WeightType::kF32, change);
  auto package = Package::open(directory / "tower.nest");
  if (!package) return package.error().message;
  EXPECT_TRUE(package->load_region(Region::kAudio));
  for (const AudioWeights weights : {AudioWeights::kStreamed, AudioWeights::kResident}) {
    const auto encoder = AudioEncoder::bind(*package, asked, weights);
    if (encoder) return ADD_FAILURE() << "accepted", "";
    EXPECT_EQ(encoder.error().code, ErrorCode::kModel);
    if (weights == AudioWeights::kResident) return encoder.error().message;
  }
  return "";
}

TEST(AudioEncoderHostile, MissingTensorsAreNamed) {
  const AudioConfig c = small_tower_config();
  for (const char* name : {"a.conv1d.1.weight", "a.pre_encode.out.weight", "a.blk.1.linear_pos.weight",
                           "a.blk.2.per_dim_scale", "a.blk.0.ffn_down_1.weight"}) {
    const auto drop = [&](PackageTensor& t) { if (t.name == name) t.name.clear(); };
    EXPECT_THAT(refusal(c, drop, c), HasSubstr(fmt::format("tensor {} is missing", name)));
  }
}

TEST(AudioEncoderHostile, WrongShapesTypesAndLayouts) {
  const AudioConfig c = small_tower_config();
  const auto change = [&](const char* name, auto what) {
    return refusal(c, [=](PackageTensor& t) { if (t.name == name) what(t); }, c);
  };
  EXPECT_THAT(change("a.blk.1.attn_q.weight", [](PackageTensor& t) { t.rows = 15; }),
              HasSubstr("tensor a.blk.1.attn_q.weight is 15 x 16; the configuration needs 16 x 16"));
  EXPECT_THAT(change("a.conv1d.0.norm.weight", [](PackageTensor& t) { t.cols = 3; }), HasSubstr("needs 1 x 4"));
  EXPECT_THAT(change("a.blk.0.conv_pw1.weight", [](PackageTensor& t) { t.layout = Layout::kRows; }),
              HasSubstr("is f32 in rows; f32, bf16, i8 or i16 in il16 is needed"));
  EXPECT_THAT(change("a.blk.0.conv_pw1.weight", [](PackageTensor& t) { t.type = WeightType::kQ8; }),
              HasSubstr("is q8 in il16"));
  EXPECT_THAT(change("a.blk.0.ln1.weight", [](PackageTensor& t) { t.type = WeightType::kBF16; }),
              HasSubstr("f32 in rows is needed"));
}

// Products that share an input need not share a type.
TEST(AudioEncoderHostile, TypesMayDiffer) {
  const AudioConfig c = small_tower_config();
  const TestDirectory directory;
  write_tower(directory / "tower.nest", c, random_tower(c), WeightType::kI8, [](PackageTensor& t) {
    if (t.name == "a.blk.0.attn_q.weight" || t.name == "a.blk.1.attn_v.weight") t.type = WeightType::kF32;
    if (t.name == "a.pre_encode.out.weight") t.type = WeightType::kI8;
  });
  const Package package = std::move(*Package::open(directory / "tower.nest"));
  auto encoder = AudioEncoder::bind(package, c, AudioWeights::kStreamed);
  ASSERT_TRUE(encoder) << encoder.error().message;
  ThreadPool pool(1);
  const auto mel = random_mel(40, c.input_feat_size);
  const auto rows = encoder->encode(*Kernels::choose(), pool, mel.data(), 40);
  ASSERT_TRUE(rows);
  const auto exact = TestTower(c, random_tower(c), WeightType::kF32).encode(mel);
  for (size_t i = 0; i < exact.size(); ++i) EXPECT_NEAR((*rows)[i], exact[i], 0.3) << i;
}

TEST(AudioEncoderHostile, AFileThatLostItsEnd) {
  const AudioConfig c = small_tower_config();
  const TestDirectory directory;
  const auto path = directory / "tower.nest";
  write_tower(path, c, random_tower(c), WeightType::kF32);
  const Package package = std::move(*Package::open(path));
  auto encoder = AudioEncoder::bind(package, c, AudioWeights::kStreamed);
  ASSERT_TRUE(encoder);
  std::filesystem::resize_file(path, package.find("a.blk.1.attn_q.weight")->offset);
  ThreadPool pool(1);
  const auto mel = random_mel(40, c.input_feat_size);
  const auto rows = encoder->encode(*Kernels::choose(), pool, mel.data(), 40);
  ASSERT_FALSE(rows);
  EXPECT_THAT(rows.error().message, HasSubstr("was truncated"));
}

TEST(AudioEncoderHostile, AbsurdConfigurations) {
  const AudioConfig c = small_tower_config();
  const auto asked = [&](auto change) {
    AudioConfig other = c;
    change(other);
    return refusal(c, nullptr, other);
  };
  EXPECT_THAT(asked([](AudioConfig& o) { o.reduction_factor = 0; }), HasSubstr("conf_reduction_factor is 0"));
  EXPECT_THAT(asked([](AudioConfig& o) { o.num_attention_heads = 3; }), HasSubstr("a divisor of hidden_size (16)"));
  EXPECT_THAT(asked([](AudioConfig& o) { o.num_attention_heads = 0; }), HasSubstr("conf_num_attention_heads is 0"));
  EXPECT_THAT(asked([](AudioConfig& o) { o.hidden_size = int64_t{1} << 40; }), HasSubstr("is 1099511627776"));
  EXPECT_THAT(asked([](AudioConfig& o) { o.hidden_size = 18; }), HasSubstr("a multiple of 4"));
  EXPECT_THAT(asked([](AudioConfig& o) { o.num_hidden_layers = -1; }), HasSubstr("conf_num_hidden_layers is -1"));
  EXPECT_THAT(asked([](AudioConfig& o) { o.num_hidden_layers = 4; }), HasSubstr("a.blk.3.ffn_norm.weight is missing"));
  EXPECT_THAT(asked([](AudioConfig& o) { o.context_left = 1 << 20; }), HasSubstr("conf_attention_context_left"));
  EXPECT_THAT(asked([](AudioConfig& o) { o.conv_kernel_size = 0; }), HasSubstr("conf_conv_kernel_size is 0"));
  EXPECT_THAT(asked([](AudioConfig& o) { o.sscp_channels = {}; }), HasSubstr("sscp_conv_channel_size is []"));
  EXPECT_THAT(asked([](AudioConfig& o) { o.input_feat_size = 128; }), HasSubstr("a.pre_encode.out.weight is 16 x 9"));
}

TEST_F(ToyTower, AClipWithoutFramesIsRefused) {
  ThreadPool pool(1);
  const auto rows = tower_.encoder().encode(tower_.kernels(), pool, nullptr, 0);
  ASSERT_FALSE(rows);
  EXPECT_THAT(rows.error().message, HasSubstr("a clip of 0 mel frames"));
  EXPECT_TRUE(tower_.encode_in_pieces({}, [] { return 1; }).empty());
}

}  // namespace
}  // namespace nestling
