#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include <random>

#include "text/gemma_fixture.h"

namespace nestling {
namespace {

using testing::gemma_tokenizer;
using Ids = std::vector<int32_t>;

TEST(Detokenizer, StreamedTextIsTheWholeText) {
  const Tokenizer& tokenizer = gemma_tokenizer(testing::Vocabulary::kGemma3);
  for (const auto& golden : testing::read_test_json("data/text/strings.json")["cases"]) {
    Detokenizer detokenizer(tokenizer, ControlText::kParsed);
    std::string text;
    for (const int32_t id : golden["ids"].get<Ids>()) {
      const std::string piece = detokenizer.feed(id);
      EXPECT_FALSE(find_invalid_utf8(piece)) << "a split character in " << golden["text"];
      text += piece;
    }
    EXPECT_EQ(detokenizer.flush(), "");
    EXPECT_EQ(text, golden["decoded"].get<std::string>());
  }
}

TEST(Detokenizer, AnyIdsGiveWholeCharacters) {
  const Tokenizer& tokenizer = gemma_tokenizer();
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    Ids ids(30);
    // Mostly bytes, so that characters begin, end and break everywhere.
    for (int32_t& id : ids) id = random() % 4 ? 238 + 128 + static_cast<int32_t>(random() % 128) : random() % 600;
    Detokenizer detokenizer(tokenizer);
    std::string text;
    for (const int32_t id : ids) {
      const std::string piece = detokenizer.feed(id);
      EXPECT_FALSE(find_invalid_utf8(piece));
      text += piece;
    }
    text += detokenizer.flush();
    EXPECT_EQ(text, tokenizer.decode(ids).value());
  }
}

TEST(Detokenizer, HoldsBackUnfinishedCharacters) {
  Detokenizer detokenizer(gemma_tokenizer());
  EXPECT_EQ(detokenizer.feed(478), "");
  EXPECT_EQ(detokenizer.feed(382), "");
  EXPECT_EQ(detokenizer.feed(379), "");
  EXPECT_EQ(detokenizer.feed(374), "\U00010348");
  EXPECT_EQ(detokenizer.feed(478), "");
  EXPECT_EQ(detokenizer.feed(10979), "\uFFFDHi");
  EXPECT_EQ(detokenizer.feed(478), "");
  EXPECT_EQ(detokenizer.flush(), "\uFFFD");
  EXPECT_EQ(detokenizer.flush(), "");
  EXPECT_EQ(detokenizer.feed(10979), "Hi");
}

TEST(Detokenizer, ControlPieces) {
  Detokenizer hidden(gemma_tokenizer()), shown(gemma_tokenizer(), ControlText::kParsed);
  EXPECT_EQ(hidden.feed(106), "");
  EXPECT_EQ(shown.feed(106), "<end_of_turn>");
  EXPECT_EQ(hidden.feed(168), "<table>");
  EXPECT_EQ(hidden.feed(300000), "");
  EXPECT_EQ(hidden.feed(-5), "");
}

}  // namespace
}  // namespace nestling
