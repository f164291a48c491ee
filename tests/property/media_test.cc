// Pictures and sounds in the runtime: what is encoded once, what is loaded when, what a session may reuse.
#include <cmath>

#include <gtest/gtest.h>

#include "media/media_file.h"
#include "runtime/session.h"
#include "support/chat_question.h"

namespace nestling {
namespace {

// The bundled model, which sees and hears.
class RuntimeMediaTest : public testing::Test {
 protected:
  // tests/quality fails without the towers; these would only repeat that.
  void SetUp() override {
    const Checkpoint nano = value_or_fail(Checkpoint::open(nano_path()));
    for (const char* prefix : {"vision_tower.", "audio_tower."}) {
      const auto found = nano.tensors().lower_bound(prefix);
      if (found == nano.tensors().end() || !found->first.starts_with(prefix)) GTEST_SKIP() << "models/nano: no " << prefix;
    }
  }
  static const TestPackage& package() {
    static const TestPackage instance(nano_path(), {.weights = WeightType::kQ4, .head = {}, .ple = {}});
    return instance;
  }
  static EngineOptions options() {
    EngineOptions o;
    o.threads = 2;
    o.context = 1024;
    return o;
  }
  static Medium picture(const char* name = "rgb.png") {
    const auto path = std::filesystem::path(NESTLING_SOURCE_DIR) / "tests/data/media/image" / name;
    return {.kind = ContentKind::kImage, .name = name, .path = path};
  }
  static Medium sound() {
    const auto path = std::filesystem::path(NESTLING_SOURCE_DIR) / "tests/data/media/audio/s16_16000.wav";
    return {.kind = ContentKind::kAudio, .name = "sound", .path = path};
  }
  static GenerateRequest greedy(const Engine& engine, PromptInput prompt) {
    GenerateRequest request;
    request.prompt = std::move(prompt);
    request.size = engine.default_size();
    request.sampling.temperature = 0;
    request.max_tokens = 6;
    request.use_stop_ids = false;
    return request;
  }
};

std::vector<float> some_samples(size_t count) {
  std::vector<float> samples;
  for (size_t i = 0; i < count; ++i) samples.push_back(0.3f * std::sin(static_cast<float>(i * i % 9973) * 0.01f));
  return samples;
}

TEST_F(RuntimeMediaTest, APictureIsEncodedOnce) {
  const auto engine = package().open(options());
  const Towers& towers = engine->towers();
  const ReadMedium first = value_or_fail(read_medium(*engine, picture(), {}));
  EXPECT_FALSE(first.report.cached);
  EXPECT_EQ(first.tokens, kVisionTokens);
  const ReadMedium again = value_or_fail(read_medium(*engine, picture(), {}));
  EXPECT_TRUE(again.report.cached);
  EXPECT_EQ(again.report.encode_ms, 0);
  EXPECT_EQ(again.media.rows, first.media.rows);
  EXPECT_EQ(again.report.facts.width, first.report.facts.width);
  EXPECT_EQ(towers.vision.modality().counters.encoded, 1);
  EXPECT_EQ(towers.vision.modality().counters.cached, 1);
  // Another size is another picture to the encoder.
  EXPECT_FALSE(value_or_fail(read_medium(*engine, picture(), {.image_size = 512})).report.cached);
  EXPECT_NE(value_or_fail(read_medium(*engine, picture("gray.png"), {})).media.key, first.media.key);
}

TEST_F(RuntimeMediaTest, ASoundIsEncodedOnceForEveryLimit) {
  const auto engine = package().open(options());
  const ReadMedium first = value_or_fail(read_medium(*engine, sound(), {}));
  EXPECT_TRUE(value_or_fail(read_medium(*engine, sound(), {})).report.cached);
  // The number of places is no matter of the encoder.
  const ReadMedium padded = value_or_fail(read_medium(*engine, sound(), {.audio_tokens = AudioTokens::kPadded}));
  EXPECT_TRUE(padded.report.cached);
  EXPECT_EQ(padded.tokens, engine->config().audio_soft_tokens_per_image);
  const ReadMedium cut = value_or_fail(read_medium(*engine, sound(), {.audio_limit_seconds = 0.1}));
  EXPECT_FALSE(cut.report.cached);
  EXPECT_TRUE(cut.report.cut);
  EXPECT_NE(cut.media.key, first.media.key);
}

TEST_F(RuntimeMediaTest, TextLoadsNothing) {
  const auto engine = package().open(options());
  Session session(*engine);
  const Message message = Message::of("user", "Hello!");
  PreparedPrompt prepared = value_or_fail(prepare_prompt(*engine, value_or_fail(render_chat({&message, 1})), {}, {}));
  EXPECT_TRUE(prepared.input.embeddings.empty());
  value_or_fail(session.generate(greedy(*engine, std::move(prepared.input))));
  for (const Region region : {Region::kVision, Region::kAudio}) EXPECT_FALSE(engine->package().is_loaded(region));
  EXPECT_EQ(engine->towers().vision.modality().counters.loads, 0);
  EXPECT_EQ(engine->towers().sound.modality().counters.loads, 0);
}

TEST_F(RuntimeMediaTest, ReleasedPartsLoadAgainOnlyWhenNeeded) {
  const auto engine = package().open(options());
  const Modality& vision = engine->towers().vision.modality();
  const PreparedPrompt first = prepare_question(*engine, picture(), "What?", {.release_modalities = true});
  EXPECT_FALSE(engine->package().is_loaded(Region::kVision));
  EXPECT_EQ(vision.counters.loads, 1);
  const PreparedPrompt second = prepare_question(*engine, picture(), "How many?");
  EXPECT_EQ(second.image_ms, 0);
  EXPECT_EQ(vision.counters.loads, 1);  // rows and hard tokens are kept
  prepare_question(*engine, picture("gray.png"), "What?");
  EXPECT_EQ(vision.counters.loads, 2);
  // What was made before the release is as good as ever.
  Session session(*engine), fresh(*engine);
  const auto answer = value_or_fail(session.generate(greedy(*engine, first.input)));
  EXPECT_EQ(value_or_fail(fresh.generate(greedy(*engine, prepare_question(*engine, picture(), "What?").input))).ids,
            answer.ids);
}

TEST_F(RuntimeMediaTest, APrefixIsReusedForTheSamePictureOnly) {
  const auto engine = package().open(options());
  Session session(*engine), fresh(*engine);
  const PreparedPrompt first = prepare_question(*engine, picture(), "What is it?");
  value_or_fail(session.generate(greedy(*engine, first.input)));
  const PreparedPrompt second = prepare_question(*engine, picture(), "What colour?");
  const auto same = value_or_fail(session.generate(greedy(*engine, second.input)));
  EXPECT_GT(same.cached_tokens, kVisionTokens);
  EXPECT_EQ(same.ids, value_or_fail(fresh.generate(greedy(*engine, second.input))).ids);
  const PreparedPrompt third = prepare_question(*engine, picture("gray.png"), "What colour?");
  const auto other = value_or_fail(session.generate(greedy(*engine, third.input)));
  EXPECT_LT(other.cached_tokens, 10);  // up to the picture
  fresh.clear();
  EXPECT_EQ(other.ids, value_or_fail(fresh.generate(greedy(*engine, third.input))).ids);
}

TEST_F(RuntimeMediaTest, SavedSessionsKnowTheirPictures) {
  const auto engine = package().open(options());
  const TemporaryPath file(".session");
  Session session(*engine), restored(*engine);
  const PreparedPrompt first = prepare_question(*engine, picture(), "What is it?");
  value_or_fail(session.generate(greedy(*engine, first.input)));
  ok_or_fail(session.save(file.path()));
  ok_or_fail(restored.load(file.path()));
  PromptInput without_rows = first.input;
  without_rows.embeddings.clear();
  EXPECT_EQ(value_or_fail(restored.generate(greedy(*engine, without_rows))).cached_tokens,
            static_cast<int64_t>(first.input.ids.size()) - 1);
  // Another picture's keys are not the saved ones: it would have to be read, and has no rows.
  PromptInput other = prepare_question(*engine, picture("gray.png"), "What is it?").input;
  other.embeddings.clear();
  const auto refused = restored.generate(greedy(*engine, other));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUsage);
  EXPECT_NE(refused.error().message.find("saved session"), std::string::npos) << refused.error().message;
}

TEST_F(RuntimeMediaTest, HearingInPiecesIsHearingTheWhole) {
  const auto engine = package().open(options());
  const std::vector<float> samples = some_samples(16000 * 3);
  std::vector<std::vector<float>> results;
  for (const AudioWeights weights : {AudioWeights::kResident, AudioWeights::kStreamed}) {
    engine->release_modalities();
    Sound& hearing = engine->towers().sound;
    ok_or_fail(hearing.load(weights));
    for (const size_t piece : {samples.size(), size_t{1000}, size_t{7777}}) {
      Sound::Listener listener(hearing);
      for (size_t at = 0; at < samples.size(); at += piece)
        ok_or_fail(listener.push(std::span(samples).subspan(at, std::min(piece, samples.size() - at)), piece == 1000));
      results.push_back(value_or_fail(listener.finish()));
      EXPECT_EQ(results.back(), results.front()) << piece;
    }
  }
  EXPECT_EQ(static_cast<int64_t>(results.front().size()) / engine->towers().sound.modality().encoder_width(),
            engine->towers().sound.rows_of(static_cast<int64_t>(samples.size())));
  EXPECT_GT(engine->towers().sound.bytes_streamed(), 0u);
}

TEST_F(RuntimeMediaTest, APipeIsHeardLikeAFile) {
  const auto engine = package().open(options());
  const auto file = value_or_fail(read_media_file(sound().path, 1 << 20));
  size_t at = 44;  // after the WAV header
  Medium pipe{.kind = ContentKind::kAudio, .name = "pipe", .path = {}, .encoded = {},
              .pcm = [&](std::span<std::byte> bytes) -> Result<size_t> {
                const size_t count = std::min({bytes.size(), file.size() - at, size_t{777}});
                std::copy_n(file.begin() + static_cast<std::ptrdiff_t>(at), count, bytes.begin());
                at += count;
                return count;
              },
              .pcm_format = {}};
  const ReadMedium heard = value_or_fail(read_medium(*engine, pipe, {}));
  EXPECT_EQ(*heard.media.rows, *value_or_fail(read_medium(*engine, sound(), {})).media.rows);
}

TEST_F(RuntimeMediaTest, ThePlanCountsWhatIsUsed) {
  EngineOptions plain = options(), expecting = options();
  expecting.pictures = 0;
  expecting.sounds = true;
  const uint64_t text = package().open(plain)->plan().resident();
  const auto engine = package().open(expecting);
  EXPECT_GT(engine->plan().resident(), text);
  const auto later = package().open(plain);
  value_or_fail(read_medium(*later, picture(), {}));
  value_or_fail(read_medium(*later, sound(), {}));
  EXPECT_EQ(later->plan().resident(), engine->plan().resident());

  plain.memory_budget = text + 1000;
  const auto tight = package().open(plain);
  const auto refused = read_medium(*tight, picture(), {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kBudget);
  EXPECT_FALSE(tight->package().is_loaded(Region::kVision));
  EXPECT_EQ(tight->plan().resident(), text);
  expecting.memory_budget = text + 1000;
  EXPECT_EQ(Engine::open(package().path(), expecting).error().code, ErrorCode::kBudget);
}

TEST_F(RuntimeMediaTest, SoundBeyondTheContextIsRefusedBeforeItIsHeard) {
  EngineOptions small = options();
  small.context = 16;
  const auto engine = package().open(small);
  std::vector<std::byte> silence(16000 * 2 * 4);
  size_t at = 0;
  Medium pipe{.kind = ContentKind::kAudio, .name = "pipe", .path = {}, .encoded = {},
              .pcm = [&](std::span<std::byte> bytes) -> Result<size_t> {
                const size_t count = std::min(bytes.size(), silence.size() - at);
                at += count;
                return count;
              },
              .pcm_format = {}};
  const auto refused = read_medium(*engine, pipe, {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUsage);
  at = 0;
  EXPECT_TRUE(read_medium(*engine, pipe, {.audio_limit_seconds = 1}));
}

}  // namespace
}  // namespace nestling
