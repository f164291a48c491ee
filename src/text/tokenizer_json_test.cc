#include "text/tokenizer_json.h"

#include <gmock/gmock.h>

#include "text/gemma_fixture.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace nestling {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

void expect_refused(const json& value, const char* reason) {
  const auto model = parse_tokenizer_json(value.dump());
  ASSERT_FALSE(model) << reason;
  EXPECT_EQ(model.error().code, ErrorCode::kModel);
  EXPECT_THAT(model.error().message, HasSubstr(reason));
}

TEST(TokenizerJson, PieceTypes) {
  const auto model = parse_tokenizer_json(testing::tiny_tokenizer_json().dump());
  ASSERT_TRUE(model) << model.error().message;
  const auto& pieces = model->pieces;
  ASSERT_EQ(pieces.size(), 271);
  EXPECT_EQ(pieces[0].type, PieceType::kControl);
  EXPECT_EQ(pieces[3].type, PieceType::kUnknown);
  EXPECT_EQ(pieces[4].type, PieceType::kControl);
  EXPECT_EQ(pieces[6].type, PieceType::kUserDefined);
  EXPECT_EQ(pieces[9].type, PieceType::kByte);
  EXPECT_EQ(pieces[265].text, "ab");
  EXPECT_EQ(pieces[265].type, PieceType::kNormal);
  EXPECT_GT(pieces[265].score, pieces[266].score);
}

TEST(TokenizerJson, AppendsTokensBeyondTheVocabulary) {
  auto value = testing::tiny_tokenizer_json();
  value["added_tokens"].push_back({{"id", 274}, {"content", "<image_soft_token>"}, {"special", true}});
  const auto model = parse_tokenizer_json(value.dump());
  ASSERT_TRUE(model) << model.error().message;
  ASSERT_EQ(model->pieces.size(), 275);
  EXPECT_EQ(model->pieces[272].text, "<reserved_272>");
  EXPECT_EQ(model->pieces[272].type, PieceType::kControl);
  EXPECT_EQ(model->pieces[274].text, "<image_soft_token>");
}

TEST(TokenizerJson, RefusesWhatItCannotRepresent) {
  const auto tiny = testing::tiny_tokenizer_json();
  const auto with = [&](const char* pointer, const json& value) {
    json changed = tiny;
    changed[json::json_pointer(pointer)] = value;
    return changed;
  };
  expect_refused(with("/model/type", "Unigram"), "\"type\": \"BPE\"");
  expect_refused(with("/model/byte_fallback", false), "byte_fallback");
  expect_refused(with("/model/unk_token", nullptr), "unk_token");
  expect_refused(with("/model/vocab", json::array()), "vocab");
  expect_refused(with("/model/vocab", json::object()), "0 pieces");
  expect_refused(with("/model/vocab/abc", 3), "each once");
  expect_refused(with("/model/vocab/abc", 999), "ids must be 0 to 270");
  expect_refused(with("/model/vocab/abc", -1), "token id -1");
  expect_refused(with("/model/vocab/abc", 1.5), "token id 1.5");
  expect_refused(with("/added_tokens/0/id", uint64_t{1} << 63), "token id 9223372036854775808");
  expect_refused(with("/added_tokens/0/id", kMaxPieces), "token id 1048576; 0 to 1048575 are allowed");
  expect_refused(with("/added_tokens/0/content", 5), "added token 0");
  expect_refused(with("/added_tokens/0/content", "a"), "occurs twice");
  expect_refused(with("/added_tokens/0/content", ""), "0 bytes");
  expect_refused(with("/added_tokens", 5), "not a list");
  expect_refused(json::array(), "not a JSON object");
  expect_refused(json::object(), "BPE");

  json without_byte = tiny;
  without_byte["model"]["vocab"].erase("<0x41>");
  without_byte["model"]["vocab"]["A"] = tiny["model"]["vocab"]["<0x41>"];
  expect_refused(without_byte, "255 byte pieces");
  const auto damaged = parse_tokenizer_json("{\"model\": {");
  ASSERT_FALSE(damaged);
  EXPECT_THAT(damaged.error().message, HasSubstr("tokenizer.json: "));
}

TEST(TokenizerJson, AddedTokensOfTheNeighbourFiles) {
  const auto config = added_tokens_of_tokenizer_config(
      R"({"chat_template": "x",
          "added_tokens_decoder": {"7": {"content": "<a>", "special": true}, "9": {"content": "<b>"}}})");
  ASSERT_TRUE(config) << config.error().message;
  ASSERT_EQ(config->size(), 2);
  EXPECT_EQ((*config)[0].id, 7);
  EXPECT_TRUE((*config)[0].special);
  EXPECT_EQ((*config)[1].text, "<b>");
  EXPECT_FALSE((*config)[1].special);
  EXPECT_TRUE(added_tokens_of_tokenizer_config("{}")->empty());
  EXPECT_FALSE(added_tokens_of_tokenizer_config(R"({"added_tokens_decoder": {"7x": {"content": "<a>"}}})"));
  const auto list = added_tokens_of_added_tokens_json(R"({"<a>": 12})");
  ASSERT_TRUE(list);
  EXPECT_EQ((*list)[0].id, 12);
  EXPECT_FALSE(added_tokens_of_added_tokens_json(R"({"<a>": "12"})"));
}

TEST(TokenizerJson, FuzzCorpus) {
  int files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(NESTLING_SOURCE_DIR "/tests/fuzz/corpus/tokenizer_json")) {
    const std::string bytes = testing::read_test_file("fuzz/corpus/tokenizer_json/" + entry.path().filename().string());
    SCOPED_TRACE(entry.path().filename().string());
    EXPECT_EQ(LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()), 0);
    ++files;
  }
  EXPECT_GE(files, 20);
}

}  // namespace
}  // namespace nestling
