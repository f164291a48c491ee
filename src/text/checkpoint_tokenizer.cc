#include "text/checkpoint_tokenizer.h"

#include "base/file.h"
#include "text/sentencepiece_model.h"
#include "text/tokenizer_json.h"

namespace nestling {
namespace {

constexpr uint64_t kMaxFileBytes = 64ULL << 20;

bool is_present(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

Result<std::vector<AddedToken>> read_added_tokens(const std::filesystem::path& directory) {
  using Reader = Result<std::vector<AddedToken>> (*)(std::string_view);
  static constexpr std::pair<const char*, Reader> kSources[] = {
      {"tokenizer.json", added_tokens_of_tokenizer_json},
      {"tokenizer_config.json", added_tokens_of_tokenizer_config},
      {"added_tokens.json", added_tokens_of_added_tokens_json},
  };
  for (const auto& [name, read] : kSources) {
    if (!is_present(directory / name)) continue;
    NESTLING_TRY(const std::string text, read_text_file(directory / name, kMaxFileBytes));
    NESTLING_TRY(auto tokens, read(text));
    if (!tokens.empty()) return tokens;
  }
  return std::vector<AddedToken>();
}

Result<SentencePieceModel> read_model(const std::filesystem::path& directory) {
  if (!is_present(directory / "tokenizer.model")) {
    NESTLING_TRY(const std::string text, read_text_file(directory / "tokenizer.json", kMaxFileBytes));
    return parse_tokenizer_json(text);
  }
  NESTLING_TRY(const std::string bytes, read_text_file(directory / "tokenizer.model", kMaxFileBytes));
  NESTLING_TRY(auto model, parse_sentencepiece_model(bytes));
  NESTLING_TRY(const auto added, read_added_tokens(directory));
  NESTLING_TRY_VOID(apply_added_tokens(model, added));
  NESTLING_TRY_VOID(check_sentencepiece_model(model));
  return model;
}

}  // namespace

Result<std::string> sentencepiece_from_checkpoint(const std::filesystem::path& directory) {
  if (!is_present(directory / "tokenizer.model") && !is_present(directory / "tokenizer.json")) return std::string();
  auto model = read_model(directory);
  if (!model) return fail(model.error().code, "{}: {}", directory.string(), model.error().message);
  return serialize_sentencepiece_model(*model);
}

}  // namespace nestling
