// The bundled model understands speech of voices it never heard, and hears nothing in silence.
#include <algorithm>
#include <sstream>

#include <gtest/gtest.h>

#include "media/mel.h"
#include "runtime/session.h"
#include "support/chat_question.h"
#include "support/tolerances.h"

namespace nestling {
namespace {

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  std::string plain;
  for (const char c : text) plain += std::isalnum(static_cast<unsigned char>(c)) ? static_cast<char>(std::tolower(c)) : ' ';
  std::istringstream stream(plain);
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

// Words inserted, left out or replaced: the edit distance.
size_t word_errors(const std::vector<std::string>& want, const std::vector<std::string>& got) {
  std::vector<size_t> row(got.size() + 1);
  for (size_t j = 0; j < row.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= want.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j < row.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (want[i - 1] != got[j - 1])});
      diagonal = above;
    }
  }
  return row.back();
}

// Silence as raw samples: a sound without a file.
Medium silence(double seconds) {
  auto left = static_cast<size_t>(seconds * kAudioSampleRate) * 2;
  return {.kind = ContentKind::kAudio, .name = "silence", .path = {}, .encoded = {},
          .pcm = [left](std::span<std::byte> bytes) mutable -> Result<size_t> {
            const size_t count = std::min(left, bytes.size());
            std::ranges::fill(bytes.first(count), std::byte{0});
            left -= count;
            return count;
          },
          .pcm_format = {}};
}

double word_error_rate(WeightType weights, const char* size_name, AudioTokens tokens, bool silent) {
  const TestPackage package(nano_path(), {.weights = weights, .head = {}, .ple = {}});
  EngineOptions options;
  options.threads = 2;
  options.context = 512;
  const auto engine = package.open(options);
  const ModelSize size = value_or_fail(engine->size(size_name));
  Session session(*engine);
  size_t errors = 0, words = 0;
  for (const MediaQuestion& q : media_questions(nano_path() / "heldout_sounds.jsonl")) {
    const Medium sound = silent ? silence(2)
                                : Medium{.kind = ContentKind::kAudio, .name = q.file, .path = nano_path() / q.file};
    const PreparedPrompt prompt = prepare_question(*engine, sound, q.question, {.audio_tokens = tokens});
    const auto want = words_of(q.answer);
    errors += word_errors(want, words_of(greedy_answer(session, size, prompt.input)));
    words += want.size();
  }
  const double rate = static_cast<double>(errors) / static_cast<double>(words);
  fmt::print("[ MEASURED ] {} weights, {}, {}{}: {} errors in {} words ({:.3f})\n", weight_type_name(weights), size_name,
             tokens == AudioTokens::kExact ? "exact" : "padded", silent ? ", silence" : "", errors, words, rate);
  return rate;
}

TEST(NanoSounds, E4b) {
  EXPECT_LE(word_error_rate(WeightType::kBF16, "e4b", AudioTokens::kExact, false), kNanoWordErrors);
}
TEST(NanoSounds, E4bPaddedAsTransformersDoes) {
  EXPECT_LE(word_error_rate(WeightType::kBF16, "e4b", AudioTokens::kPadded, false), kNanoWordErrors);
}
TEST(NanoSounds, E2b) {
  EXPECT_LE(word_error_rate(WeightType::kBF16, "e2b", AudioTokens::kExact, false), kNanoWordErrorsSlices);
}
// The weights users get by default: int8 products in the tower.
TEST(NanoSounds, Q4AtE4b) {
  EXPECT_LE(word_error_rate(WeightType::kQ4, "e4b", AudioTokens::kExact, false), kNanoWordErrorsSlices);
}
TEST(NanoSounds, NothingToHearInSilence) {
  EXPECT_GE(word_error_rate(WeightType::kBF16, "e4b", AudioTokens::kExact, true), kNanoWordErrorsOfSilence);
}

TEST(WordErrors, AreAnEditDistance) {
  EXPECT_EQ(words_of("Play some Music, please."), (std::vector<std::string>{"play", "some", "music", "please"}));
  EXPECT_EQ(word_errors(words_of("a b c"), words_of("a b c")), 0u);
  EXPECT_EQ(word_errors(words_of("a b c"), words_of("a x c d")), 2u);
  EXPECT_EQ(word_errors(words_of("a b c"), {}), 3u);
}

}  // namespace
}  // namespace nestling
