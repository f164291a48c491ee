#include "text/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

namespace nestling {
namespace {

struct Outcome {
  std::string text, matched;
  bool operator==(const Outcome&) const = default;
};

Outcome run(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  auto matcher = StopStrings::create(stops).value();
  Outcome outcome;
  for (const std::string& piece : pieces) outcome.text += matcher.feed(piece);
  outcome.text += matcher.flush();
  outcome.matched = matcher.matched();
  EXPECT_EQ(matcher.stopped(), !outcome.matched.empty());
  return outcome;
}

// The definition, without streaming: the first end of a stop string, the longest one there.
Outcome expected(const std::vector<std::string>& stops, std::string_view text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::string best;
    for (const std::string& stop : stops) {
      if (stop.size() > best.size() && text.substr(0, end).ends_with(stop)) best = stop;
    }
    if (!best.empty()) return {std::string(text.substr(0, end - best.size())), best};
  }
  return {std::string(text), ""};
}

TEST(StopStrings, GivesTheTextBeforeTheStop) {
  EXPECT_EQ(run({"END"}, {"one E", "N", "D two"}), (Outcome{"one ", "END"}));
  EXPECT_EQ(run({"END"}, {"one EN", "ough"}), (Outcome{"one ENough", ""}));
  EXPECT_EQ(run({"END"}, {"EN"}), (Outcome{"EN", ""}));
  EXPECT_EQ(run({}, {"a", "b"}), (Outcome{"ab", ""}));
  EXPECT_EQ(run({"aab"}, {"aa", "ab"}), (Outcome{"a", "aab"}));
  EXPECT_EQ(run({"b", "abc"}, {"abc"}), (Outcome{"a", "b"}));
  EXPECT_EQ(run({"\n\nUser:", "\n\n"}, {"x\n\nUser:"}), (Outcome{"x", "\n\n"}));
}

TEST(StopStrings, HoldsBackOnlyWhatCouldBeAStop) {
  auto matcher = StopStrings::create({"###", "\u00E9\u00E9"}).value();
  EXPECT_EQ(matcher.feed("ab#"), "ab");
  EXPECT_EQ(matcher.feed("#c"), "##c");
  EXPECT_EQ(matcher.feed("x\u00E9"), "x");
  EXPECT_EQ(matcher.feed("y"), "\u00E9y");
  EXPECT_EQ(matcher.feed("##"), "");
  EXPECT_FALSE(matcher.stopped());
  EXPECT_EQ(matcher.feed("#rest"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.matched(), "###");
  EXPECT_EQ(matcher.feed("more"), "");
  EXPECT_EQ(matcher.flush(), "");
}

TEST(StopStrings, CutsMakeNoDifference) {
  std::mt19937 random(11);
  const auto word = [&](size_t longest) {
    std::string text(1 + random() % longest, 'a');
    for (char& c : text) c = static_cast<char>('a' + random() % 2);
    return text;
  };
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::string> stops, pieces;
    for (size_t i = random() % 4; i > 0; --i) stops.push_back("a" + word(6));
    for (size_t i = random() % 8; i > 0; --i) pieces.push_back(word(6));
    std::string text;
    for (const std::string& piece : pieces) text += piece;
    EXPECT_EQ(run(stops, pieces), expected(stops, text)) << text;
  }
}

TEST(StopStrings, RefusesStopsThatCannotWork) {
  for (const std::vector<std::string>& stops :
       {std::vector<std::string>{""}, {"ok", "\xFF"}, std::vector<std::string>(65, "x")}) {
    const auto result = StopStrings::create(stops);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::kUsage);
  }
}

}  // namespace
}  // namespace nestling
