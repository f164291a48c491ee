#include "text/checkpoint_tokenizer.h"

#include <gmock/gmock.h>

#include "text/gemma_fixture.h"
#include "text/sentencepiece_model.h"
#include "text/tokenizer_json.h"

namespace nestling {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class CheckpointTokenizer : public ::testing::Test {
 protected:
  CheckpointTokenizer()
      : directory_(testing::make_test_directory(::testing::UnitTest::GetInstance()->current_test_info()->name())) {}
  ~CheckpointTokenizer() override { std::filesystem::remove_all(directory_); }

  void write(const char* name, const std::string& bytes) { testing::write_file(directory_ / name, bytes); }
  void write_small_model() { write("tokenizer.model", testing::read_test_file("data/text/small.model")); }

  std::filesystem::path directory_;
};

TEST_F(CheckpointTokenizer, NoneIsEmpty) {
  const auto model = sentencepiece_from_checkpoint(directory_);
  ASSERT_TRUE(model);
  EXPECT_EQ(*model, "");
}

TEST_F(CheckpointTokenizer, BothFormsAgree) {
  const auto tiny = testing::tiny_tokenizer_json();
  write("tokenizer.json", tiny.dump());
  const auto from_json = sentencepiece_from_checkpoint(directory_);
  ASSERT_TRUE(from_json) << from_json.error().message;
  // As Google's file has it: <start_of_turn> and <end_of_turn> USER_DEFINED.
  auto model = parse_tokenizer_json(tiny.dump()).value();
  model.pieces[4].type = model.pieces[5].type = PieceType::kUserDefined;
  write("tokenizer.model", serialize_sentencepiece_model(model));
  const auto from_model = sentencepiece_from_checkpoint(directory_);
  ASSERT_TRUE(from_model) << from_model.error().message;
  EXPECT_EQ(*from_model, *from_json);
}

TEST_F(CheckpointTokenizer, AppendedTokensComeFromTheFirstFileThatNamesSome) {
  write_small_model();
  const auto find_soft_token = [this] { return testing::load_directory(directory_)->find("<image_soft_token>"); };
  EXPECT_EQ(find_soft_token(), std::nullopt);
  write("added_tokens.json", R"({"<image_soft_token>": 430})");
  EXPECT_EQ(find_soft_token(), 430);
  write("tokenizer_config.json",
        R"({"added_tokens_decoder": {"425": {"content": "<image_soft_token>", "special": true}}})");
  EXPECT_EQ(find_soft_token(), 425);
  write("tokenizer.json", R"({"added_tokens": [{"id": 421, "content": "<image_soft_token>", "special": true}]})");
  EXPECT_EQ(find_soft_token(), 421);
  write("tokenizer.json", R"({"added_tokens": []})");
  EXPECT_EQ(find_soft_token(), 425);
}

TEST_F(CheckpointTokenizer, AddedTokensRenamePieces) {
  write_small_model();
  write("added_tokens.json", R"({"<start_of_audio>": 4})");  // [multimodal] in the model
  const auto tokenizer = testing::load_directory(directory_);
  EXPECT_EQ(tokenizer->find("<start_of_audio>"), 4);
  EXPECT_EQ(tokenizer->find("[multimodal]"), std::nullopt);
  EXPECT_TRUE(tokenizer->is_control(4));
}

TEST_F(CheckpointTokenizer, ErrorsNameTheDirectory) {
  write("tokenizer.model", "not a model");
  const auto damaged = sentencepiece_from_checkpoint(directory_);
  ASSERT_FALSE(damaged);
  EXPECT_EQ(damaged.error().code, ErrorCode::kModel);
  EXPECT_THAT(damaged.error().message, StartsWith(directory_.string()));
  write_small_model();
  write("tokenizer.json", "{");
  const auto bad_json = sentencepiece_from_checkpoint(directory_);
  ASSERT_FALSE(bad_json);
  EXPECT_THAT(bad_json.error().message, HasSubstr("tokenizer.json"));
}

}  // namespace
}  // namespace nestling
