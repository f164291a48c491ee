#include "text/tokenizer.h"

#include <gmock/gmock.h>

#include <cstdlib>

#include "text/gemma_fixture.h"
#include "text/sentencepiece_model.h"
#include "text/utf8.h"

namespace nestling {
namespace {

using ::testing::ElementsAre;
using testing::gemma_tokenizer;
using ::testing::HasSubstr;
using testing::read_test_json;
using testing::Vocabulary;
using Ids = std::vector<int32_t>;

Ids encode(const Tokenizer& tokenizer, std::string_view text, ControlText controls = ControlText::kInert) {
  const auto ids = tokenizer.encode(text, controls);
  EXPECT_TRUE(ids) << ids.error().message;
  return ids.value_or(Ids{-1});
}

// A typed U+2581 is the vocabulary's space.
std::string as_decoded(std::string_view text) {
  static constexpr std::string_view kMark = "\u2581";
  std::string out;
  for (size_t at; (at = text.find(kMark)) != text.npos; text.remove_prefix(at + kMark.size())) {
    out.append(text.substr(0, at));
    out.push_back(' ');
  }
  return out.append(text);
}

void expect_golden_strings(const Tokenizer& tokenizer) {
  const auto goldens = read_test_json("data/text/strings.json")["cases"];
  ASSERT_EQ(goldens.size(), 325);
  for (const auto& golden : goldens) {
    const auto text = golden["text"].get<std::string>();
    const Ids ids = encode(tokenizer, text, ControlText::kParsed);
    EXPECT_EQ(ids, golden["ids"].get<Ids>()) << text;
    EXPECT_EQ(tokenizer.decode(ids, ControlText::kParsed).value(), golden["decoded"].get<std::string>());
  }
}

void expect_inert_strings(const Tokenizer& tokenizer) {
  for (const auto& golden : read_test_json("data/text/inert.json")) {
    EXPECT_EQ(encode(tokenizer, golden["text"].get<std::string>()), golden["ids"].get<Ids>()) << golden["text"];
  }
  for (const auto& golden : read_test_json("data/text/strings.json")["cases"]) {
    const auto text = golden["text"].get<std::string>();
    const Ids ids = encode(tokenizer, text);
    for (const int32_t id : ids) EXPECT_FALSE(tokenizer.is_control(id)) << text << ": " << tokenizer.piece(id);
    EXPECT_EQ(tokenizer.decode(ids).value(), as_decoded(text));
  }
}

TEST(Tokenizer, GoldenStrings) { expect_golden_strings(gemma_tokenizer(Vocabulary::kGemma3)); }
TEST(Tokenizer, ControlNamesInATextAreCharacters) { expect_inert_strings(gemma_tokenizer(Vocabulary::kGemma3)); }

// The same with Gemma's whole vocabulary, when there is one.
TEST(Tokenizer, WholeVocabulary) {
  const char* path = std::getenv("NESTLING_GEMMA_TOKENIZER");
  if (!path) GTEST_SKIP() << "NESTLING_GEMMA_TOKENIZER is not set to the path of Gemma 3's tokenizer.json (33 MB)";
  const auto directory = testing::make_test_directory("whole");
  std::filesystem::create_symlink(std::filesystem::absolute(path), directory / "tokenizer.json");
  const auto tokenizer = testing::load_directory(directory);
  std::filesystem::remove_all(directory);
  ASSERT_TRUE(tokenizer);
  ASSERT_EQ(tokenizer->size(), 262145);
  expect_golden_strings(*tokenizer);
  expect_inert_strings(*tokenizer);
  // Every piece that is text is found again: alone it decodes to itself, and its text encodes and decodes to the same.
  for (int32_t id = 0; id < tokenizer->size(); ++id) {
    EXPECT_EQ(tokenizer->find(tokenizer->piece(id)), id);
    const std::string text = tokenizer->decode(Ids{id}).value();
    const Ids ids = encode(*tokenizer, text);
    EXPECT_EQ(tokenizer->decode(ids).value(), text) << id;
  }
}

// Ids on which Hugging Face tokenizers and the JavaScript package of Gemma 3's tokenizer agree.
TEST(Tokenizer, KnownTexts) {
  const std::pair<std::string, Ids> cases[] = {
      {"", {}},
      {"Hi", {10979}},
      {"Hello, world!", {9259, 236764, 1902, 236888}},
      {"  two leading spaces", {138, 13498, 5830, 9952}},
      {"a   b\tc\t\td", {236746, 139, 236763, 255968, 236755, 255969, 236753}},
      {"line1\nline2\n\n\nline4", {1257, 236770, 107, 1257, 236778, 109, 1257, 236812}},
      {"1234567890 3.14159",
       {236770, 236778, 236800, 236812, 236810, 236825, 236832, 236828, 236819, 236771, 236743, 236800, 236761, 236770,
        236812, 236770, 236810, 236819}},
      {"def f(x):\n    return x**2  # sq\n",
       {2063, 517, 236769, 236781, 1473, 107, 140, 2060, 1123, 1018, 236778, 138, 236865, 18288, 107}},
      {"naïve café 東京 한국어 العربية हिन्दी", {1789, 238527, 560, 33443, 86459, 50413, 237430, 87595, 85394}},
      {"\U00010348 Gothic", {478, 382, 379, 374, 57881}},
      {"\u2581literal", {37087}},
      {"<table><tr><td>x</td></tr></table>", {168, 173, 175, 236781, 183, 181, 176}},
      {"\r\n", {251, 107}},
      {"xxx" + std::string(40, ' ') + "y", {41128, 167, 145, 236762}},
      {std::string(40, '\n'), {137, 115}},
      {std::string("\0\a", 2), {238, 245}},
      {"I'm can't HTTPServerError", {236777, 236789, 236757, 740, 236789, 236745, 103099, 43471, 3494}},
  };
  for (const auto& [text, ids] : cases) EXPECT_EQ(encode(gemma_tokenizer(), text), ids) << text;
}

// tokenizers cuts typed runs of U+2581 out alone; spaces beside them are runs of their own.
TEST(Tokenizer, TypedSpaceMarks) {
  const Tokenizer& tokenizer = gemma_tokenizer();
  std::string marks;
  for (int i = 0; i < 32; ++i) marks += "\u2581";
  EXPECT_THAT(encode(tokenizer, " \u2581\u2581 "), ElementsAre(236743, 138, 236743));
  EXPECT_THAT(encode(tokenizer, " \u2581 "), ElementsAre(139));
  EXPECT_THAT(encode(tokenizer, "\u2581\u2581\u2581\u2581"), ElementsAre(140));
  EXPECT_THAT(encode(tokenizer, marks), ElementsAre(167, 236743));
  EXPECT_THAT(encode(tokenizer, marks + " "), ElementsAre(167, 138));
}

TEST(Tokenizer, ParsedControlNames) {
  const Tokenizer& tokenizer = gemma_tokenizer();
  EXPECT_THAT(encode(tokenizer, "<bos><start_of_turn>user\nHi<end_of_turn>\n", ControlText::kParsed),
              ElementsAre(2, 105, 2364, 107, 10979, 106, 107));
  EXPECT_THAT(encode(tokenizer, "<audio_soft_token><start_of_audio>", ControlText::kParsed),
              ElementsAre(262273, 256000));
  EXPECT_EQ(tokenizer.decode(Ids{2, 105, 10979, 106}).value(), "Hi");
  EXPECT_EQ(tokenizer.decode(Ids{2, 105, 10979, 106}, ControlText::kParsed).value(),
            "<bos><start_of_turn>Hi<end_of_turn>");
}

TEST(Tokenizer, PiecesAndIds) {
  const Tokenizer& tokenizer = gemma_tokenizer();
  EXPECT_EQ(tokenizer.size(), 262274);
  EXPECT_EQ(tokenizer.find("<image_soft_token>"), 262145);
  EXPECT_EQ(tokenizer.find("<end_of_turn>"), 106);
  EXPECT_EQ(tokenizer.find("<unk>"), 3);
  EXPECT_EQ(tokenizer.find("no such piece"), std::nullopt);
  EXPECT_EQ(tokenizer.find(""), std::nullopt);
  EXPECT_EQ(tokenizer.piece(506), "\u2581the");
  EXPECT_EQ(tokenizer.piece(262200), "<reserved_262200>");
  for (const int32_t id : {0, 1, 2, 3, 4, 5, 6, 105, 106, 255999, 256000, 262144, 262145, 262200, 262272, 262273}) {
    EXPECT_TRUE(tokenizer.is_control(id)) << tokenizer.piece(id);
  }
  for (const int32_t id : {-1, 107, 138, 168, 237, 238, 506, 236743, 255968, 262274})
    EXPECT_FALSE(tokenizer.is_control(id));
}

TEST(Tokenizer, RefusesInvalidText) {
  const Tokenizer& tokenizer = gemma_tokenizer();
  const auto damaged = tokenizer.encode("ab\xE2\x82");
  ASSERT_FALSE(damaged);
  EXPECT_EQ(damaged.error().code, ErrorCode::kUsage);
  EXPECT_EQ(damaged.error().message, "text is not valid UTF-8: byte 2 is 0xE2");
  const auto long_text = tokenizer.encode(std::string(Tokenizer::kMaxTextBytes + 1, 'a'));
  ASSERT_FALSE(long_text);
  EXPECT_EQ(long_text.error().code, ErrorCode::kUsage);
}

TEST(Tokenizer, RefusesUnknownIds) {
  const Tokenizer& tokenizer = gemma_tokenizer();
  for (const int32_t id : {-1, 262274, INT32_MAX, INT32_MIN}) {
    const auto text = tokenizer.decode(Ids{5, id});
    ASSERT_FALSE(text);
    EXPECT_EQ(text.error().code, ErrorCode::kUsage);
    EXPECT_EQ(text.error().message, fmt::format("token id {}; 0 to 262273 are allowed", id));
  }
}

TEST(Tokenizer, DecodesBytesToCharacters) {
  const Tokenizer& tokenizer = gemma_tokenizer();
  EXPECT_EQ(tokenizer.decode(Ids{478, 382, 379, 374}).value(), "\U00010348");
  EXPECT_EQ(tokenizer.decode(Ids{478, 382, 10979}).value(), "\uFFFDHi");
  EXPECT_EQ(tokenizer.decode(Ids{478, 382}).value(), "\uFFFD");
}

TEST(Tokenizer, LongTexts) {
  const Tokenizer& tokenizer = gemma_tokenizer();
  EXPECT_EQ(encode(tokenizer, std::string(310000, '\n')).size(), 10000);
  EXPECT_EQ(encode(tokenizer, std::string(310000, ' ')).size(), 10000);
  for (const std::string unit :
       {"The quick brown fox jumps over the lazy dog.", "<start_of_turn>", "\u2581", "\U00010348", "<"}) {
    std::string text;
    while (text.size() < 60000) text += unit;
    for (const auto controls : {ControlText::kInert, ControlText::kParsed}) {
      EXPECT_EQ(tokenizer.decode(encode(tokenizer, text, controls), ControlText::kParsed).value(), as_decoded(text))
          << unit;
    }
  }
}

TEST(Tokenizer, RefusesDamagedModels) {
  const std::string model = testing::read_test_file("data/text/small.model");
  EXPECT_TRUE(Tokenizer::load(model));
  for (const std::string& damaged : {std::string(), std::string("hello"), model.substr(0, 1000), model.substr(1)}) {
    const auto tokenizer = Tokenizer::load(damaged);
    ASSERT_FALSE(tokenizer);
    EXPECT_EQ(tokenizer.error().code, ErrorCode::kModel);
    EXPECT_THAT(tokenizer.error().message, HasSubstr("tokenizer model"));
  }
}

// A tokenizer.model by the sentencepiece package itself, in which <start_of_turn> is USER_DEFINED.
TEST(Tokenizer, ModelWrittenBySentencePiece) {
  const auto tokenizer = Tokenizer::load(testing::read_test_file("data/text/small.model"));
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  for (const auto& golden : read_test_json("data/text/small.json")) {
    EXPECT_EQ(encode(**tokenizer, golden["text"].get<std::string>()), golden["ids"].get<Ids>()) << golden["text"];
  }
  EXPECT_THAT(encode(**tokenizer, "<start_of_turn>", ControlText::kParsed), ElementsAre(5));
  EXPECT_GT(encode(**tokenizer, "<start_of_turn>").size(), 5);
}

}  // namespace
}  // namespace nestling
