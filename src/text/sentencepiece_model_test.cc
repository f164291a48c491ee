#include "text/sentencepiece_model.h"

#include <gmock/gmock.h>

#include <limits>

#include "text/gemma_fixture.h"
#include "text/tokenizer_json.h"

namespace nestling {
namespace {

using ::testing::HasSubstr;

SentencePieceModel tiny_model() { return parse_tokenizer_json(testing::tiny_tokenizer_json().dump()).value(); }

TEST(SentencePieceModel, WrittenAndReadBack) {
  const auto model = tiny_model();
  const auto again = parse_sentencepiece_model(serialize_sentencepiece_model(model));
  ASSERT_TRUE(again) << again.error().message;
  ASSERT_EQ(again->pieces.size(), model.pieces.size());
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    EXPECT_EQ(again->pieces[i].text, model.pieces[i].text);
    EXPECT_EQ(again->pieces[i].score, model.pieces[i].score);
    EXPECT_EQ(again->pieces[i].type, model.pieces[i].type);
  }
}

TEST(SentencePieceModel, ReadsWhatThePackageWrites) {
  const auto model = parse_sentencepiece_model(testing::read_test_file("data/text/small.model"));
  ASSERT_TRUE(model) << model.error().message;
  ASSERT_EQ(model->pieces.size(), 420);
  EXPECT_EQ(model->pieces[3].type, PieceType::kUnknown);
  EXPECT_EQ(model->pieces[5].text, "<start_of_turn>");
  EXPECT_EQ(model->pieces[5].type, PieceType::kUserDefined);
  EXPECT_EQ(model->pieces[9].text, "\n\n");
  EXPECT_EQ(model->pieces[13].type, PieceType::kByte);
  EXPECT_EQ(model->pieces[419].type, PieceType::kNormal);
  EXPECT_LT(model->pieces[419].score, model->pieces[300].score);
}

TEST(SentencePieceModel, EveryTruncationIsRefused) {
  const std::string bytes = serialize_sentencepiece_model(tiny_model());
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(parse_sentencepiece_model(bytes.substr(0, size))) << size;
}

TEST(SentencePieceModel, RefusesWrongPieces) {
  const auto expect_refused = [](auto change, const char* reason) {
    auto model = tiny_model();
    change(model.pieces);
    const auto status = check_sentencepiece_model(model);
    ASSERT_FALSE(status) << reason;
    EXPECT_EQ(status.error().code, ErrorCode::kModel);
    EXPECT_THAT(status.error().message, HasSubstr(reason));
  };
  expect_refused([](auto& p) { p.clear(); }, "0 pieces; 1 to 1048576");
  expect_refused([](auto& p) { p[266].text.clear(); }, "piece 266 has 0 bytes");
  expect_refused([](auto& p) { p[266].text = "\xFF"; }, "valid UTF-8");
  expect_refused([](auto& p) { p[266].text = std::string(65536, 'a'); }, "65536 bytes");
  expect_refused([](auto& p) { p[266].text = "ab"; }, "piece 266 (ab) occurs twice");
  expect_refused([](auto& p) { p[266].score = std::numeric_limits<float>::quiet_NaN(); }, "must be finite");
  expect_refused([](auto& p) { p[3].type = PieceType::kControl; }, "0 unknown pieces");
  expect_refused([](auto& p) { p[9].text = "<0x0>"; }, "byte piece 9 is <0x0>");
  expect_refused([](auto& p) { p[9].type = PieceType::kNormal; }, "255 byte pieces");
}

// The specifications of trainer and normalizer are fields 2 and 3 of the message; a later one replaces an earlier one.
TEST(SentencePieceModel, RefusesOtherKinds) {
  const std::string bytes = serialize_sentencepiece_model(tiny_model());
  const std::pair<std::string, const char*> additions[] = {
      {std::string("\x12\x05\x18\x01\x98\x02\x01", 7), "type 1"},               // unigram
      {std::string("\x12\x02\x18\x02", 4), "byte fallback 0"},                  // BPE without it
      {std::string("\x1A\x06\x18\x01\x20\x00\x28\x01", 8), "dummy prefix 1"},   //
      {std::string("\x1A\x06\x18\x00\x20\x01\x28\x01", 8), "space removal 1"},  //
      {std::string("\x1A\x09\x12\x01x\x18\x00\x20\x00\x28\x01", 11), "map of 1 bytes"},
      {std::string("\x08\x01", 2), "damaged"},
      {std::string("\x1A\x7F", 2), "damaged"},
  };
  for (const auto& [addition, reason] : additions) {
    const auto model = parse_sentencepiece_model(bytes + addition);
    ASSERT_FALSE(model) << reason;
    EXPECT_THAT(model.error().message, HasSubstr(reason));
  }
}

TEST(SentencePieceModel, ControlTexts) {
  for (const char* text :
       {"<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "[multimodal]", "<start_of_turn>", "<end_of_turn>",
        "<start_of_image>", "<end_of_audio>", "<image_soft_token>", "<unused0>", "<unused6241>"}) {
    EXPECT_TRUE(is_control_text(text)) << text;
  }
  for (const char* text : {"<table>", "</b>", "<unused>", "<unusedx>", "\n", "\u2581\u2581", "<0x0A>", "<",
                           "start_of_turn", "<start_of_turn", "<b>", ""}) {
    EXPECT_FALSE(is_control_text(text)) << text;
  }
}

}  // namespace
}  // namespace nestling
