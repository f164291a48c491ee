// A clip in pieces gives the rows of the clip as a whole, bit for bit, however it is cut, with any number of threads,
// and wherever the weights are.
#include <gtest/gtest.h>

#include "model/audio/test_tower.h"

namespace nestling {
namespace {

class Streaming : public testing::TestWithParam<WeightType> {
 protected:
  AudioConfig config_ = small_tower_config();
  TowerValues values_ = random_tower(config_);
  TestTower tower_{config_, values_, GetParam()};
  std::mt19937 random_{5};

  std::vector<float> mel(int64_t frames) { return random_mel(frames, config_.input_feat_size); }
  std::function<int64_t()> pieces_of(int64_t count) {
    return [count] { return count; };
  }
  std::function<int64_t()> random_pieces(int64_t most) {
    return [this, most] { return 1 + static_cast<int64_t>(random_() % static_cast<uint64_t>(most)); };
  }
};

TEST_P(Streaming, EveryLengthFrameByFrame) {
  for (int64_t frames = 1; frames <= 64; ++frames) {
    const auto clip = mel(frames);
    const auto whole = tower_.encode(clip);
    EXPECT_EQ(whole.size(), static_cast<size_t>(audio_rows(frames, 4) * config_.hidden_size));
    EXPECT_EQ(tower_.encode_in_pieces(clip, pieces_of(1)), whole) << frames;
  }
}

TEST_P(Streaming, EveryCutOfOneClip) {
  const auto clip = mel(64);
  const auto whole = tower_.encode(clip);
  for (int64_t first = 1; first < 64; ++first) {
    int64_t next = first;
    EXPECT_EQ(tower_.encode_in_pieces(clip, [&] { return std::exchange(next, 64); }), whole) << first;
  }
}

// Longer than what runs through the layers together (3000 mel frames).
TEST_P(Streaming, LongClips) {
  for (const int64_t frames : {2999, 3001, 3004, 7013}) {
    const auto clip = mel(frames);
    const auto whole = tower_.encode(clip);
    EXPECT_EQ(tower_.encode_in_pieces(clip, pieces_of(48)), whole) << frames;
    EXPECT_EQ(tower_.encode_in_pieces(clip, random_pieces(1000)), whole) << frames;
  }
}

TEST_P(Streaming, MasksInPieces) {
  const auto clip = mel(61);
  std::vector<uint8_t> mask(61, 1);
  for (const int64_t t : {0, 1, 2, 16, 17, 40, 48, 60}) mask[static_cast<size_t>(t)] = 0;
  std::vector<bool> whole_valid, valid;
  const auto whole = tower_.encode(clip, mask, &whole_valid);
  EXPECT_EQ(whole_valid, (std::vector<bool>{false, false, true, false}));
  EXPECT_EQ(tower_.encode_in_pieces(clip, random_pieces(7), mask, &valid), whole);
  EXPECT_EQ(valid, whole_valid);
}

TEST_P(Streaming, ThreadsDoNotMatter) {
  const auto clip = mel(301);
  const auto one = tower_.encode(clip, {}, nullptr, 1);
  for (const int threads : {2, 3, 5}) EXPECT_EQ(tower_.encode(clip, {}, nullptr, threads), one) << threads;
}

TEST_P(Streaming, LayersReadFromStorageGiveTheSameRows) {
  TestTower streamed(config_, values_, GetParam(), AudioWeights::kStreamed);
  EXPECT_FALSE(streamed.package().is_loaded(Region::kAudio));
  const auto clip = mel(100);
  EXPECT_EQ(streamed.encode(clip), tower_.encode(clip));
  const uint64_t once = streamed.encoder().bytes_streamed();
  EXPECT_GT(once, 0u);
  EXPECT_EQ(tower_.encoder().bytes_streamed(), 0u);
  // Every layer is read once for every 750 encoder frames.
  const auto clip_of_three_pieces = mel(6001);
  EXPECT_EQ(streamed.encode(clip_of_three_pieces), tower_.encode(clip_of_three_pieces));
  EXPECT_EQ(streamed.encoder().bytes_streamed(), 4 * once);
  EXPECT_EQ(streamed.encode_in_pieces(clip, random_pieces(40)), tower_.encode(clip));
}

TEST_P(Streaming, StateDoesNotGrow) {
  tower_.encode_in_pieces(mel(9), pieces_of(1));
  const uint64_t bytes = tower_.state_bytes();
  tower_.encode_in_pieces(mel(4001), pieces_of(500));
  EXPECT_EQ(tower_.state_bytes(), bytes);
  EXPECT_EQ(tower_.encoder().workspace_bytes(1 << 20, 2), tower_.encoder().workspace_bytes(3004, 2));
}

// Two clips at the same time do not disturb each other.
TEST_P(Streaming, InterleavedClips) {
  const auto clip = mel(40), other = random_mel(40, config_.input_feat_size, 9);
  ThreadPool pool(1);
  std::array<AudioEncoder::Stream, 2> streams{AudioEncoder::Stream(tower_.encoder()),
                                              AudioEncoder::Stream(tower_.encoder())};
  std::array<std::vector<float>, 2> rows;
  for (int64_t t = 0; t < 40; t += 5)
    for (const size_t i : {0u, 1u})
      ASSERT_TRUE(streams[i].push(tower_.kernels(), pool, (i == 0 ? clip : other).data() + t * config_.input_feat_size,
                                  5, rows[i]));
  for (const size_t i : {0u, 1u}) ASSERT_TRUE(streams[i].finish(tower_.kernels(), pool, nullptr, 0, rows[i]));
  EXPECT_EQ(rows[0], tower_.encode(clip));
  EXPECT_EQ(rows[1], tower_.encode(other));
}

INSTANTIATE_TEST_SUITE_P(Types, Streaming, testing::Values(WeightType::kF32, WeightType::kBF16, WeightType::kI8),
                         [](const auto& tested) { return std::string(weight_type_name(tested.param)); });

}  // namespace
}  // namespace nestling
