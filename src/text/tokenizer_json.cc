#include "text/tokenizer_json.h"

#include <charconv>
#include <nlohmann/json.hpp>

namespace nestling {
namespace {

using nlohmann::json;

// The member `dropped` at `dropped_depth` (1 = of the top level, 0 = none) is skipped without being stored.
Result<json> parse_object(std::string_view text, const char* file, int dropped_depth = 0,
                          std::string_view dropped = {}) {
  const auto keep = [=](int depth, json::parse_event_t event, const json& value) {
    if (event != json::parse_event_t::key || depth != dropped_depth) return true;
    return value.get_ref<const std::string&>() != dropped;
  };
  try {
    json value = json::parse(text, keep);
    if (!value.is_object()) return fail(ErrorCode::kModel, "{}: not a JSON object", file);
    return value;
  } catch (const json::exception& e) {
    return fail(ErrorCode::kModel, "{}: {}", file, e.what());
  }
}

const json* find(const json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(name);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

Result<int64_t> read_id(const json& value, const char* file) {
  // An unsigned number above 2^63 would turn negative in get<int64_t>, and is refused just the same.
  if (value.is_number_integer()) {
    const auto id = value.get<int64_t>();
    if (id >= 0 && id < kMaxPieces) return id;
  }
  return fail(ErrorCode::kModel, "{}: token id {}; 0 to {} are allowed", file,
              value.dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 40), kMaxPieces - 1);
}

// {"content": text, "special": bool}, with the id inside or outside.
Result<AddedToken> read_added_token(const json& entry, int64_t id, const char* file) {
  const json* content = find(entry, "content");
  const json* special = find(entry, "special");
  if (!content || !content->is_string() || (special && !special->is_boolean())) {
    return fail(ErrorCode::kModel, "{}: added token {} needs a string \"content\" and a boolean \"special\"", file, id);
  }
  return AddedToken{id, content->get<std::string>(), special && special->get<bool>()};
}

Result<std::vector<AddedToken>> read_added_tokens(const json& root, const char* file) {
  std::vector<AddedToken> tokens;
  const json* list = find(root, "added_tokens");
  if (!list) return tokens;
  if (!list->is_array()) return fail(ErrorCode::kModel, "{}: \"added_tokens\" is not a list", file);
  for (const json& entry : *list) {
    const json* id_value = find(entry, "id");
    if (!id_value) return fail(ErrorCode::kModel, "{}: an added token without \"id\"", file);
    NESTLING_TRY(const int64_t id, read_id(*id_value, file));
    NESTLING_TRY(auto token, read_added_token(entry, id, file));
    tokens.push_back(std::move(token));
  }
  return tokens;
}

bool is_byte_text(std::string_view text) { return text.size() == 6 && text.starts_with("<0x") && text.ends_with(">"); }

Result<SentencePieceModel> read_vocabulary(const json& vocab, const std::string& unknown, const char* file) {
  const auto count = static_cast<int64_t>(vocab.size());
  if (count < 1 || count > kMaxPieces) {
    return fail(ErrorCode::kModel, "{}: a vocabulary of {} pieces; 1 to {} are allowed", file, count, kMaxPieces);
  }
  SentencePieceModel model;
  model.pieces.resize(count);
  for (const auto& [text, value] : vocab.items()) {
    NESTLING_TRY(const int64_t id, read_id(value, file));
    if (id >= count || text.empty() || !model.pieces[id].text.empty()) {
      return fail(ErrorCode::kModel, "{}: a vocabulary of {} pieces gives id {} to {}; ids must be 0 to {}, each once",
                  file, count, id, text.empty() ? "an empty piece" : text, count - 1);
    }
    PieceType type = PieceType::kNormal;
    if (is_byte_text(text)) type = PieceType::kByte;
    if (text == unknown) type = PieceType::kUnknown;
    // Gemma's ids of merged pieces are in order of priority.
    model.pieces[id] = {text, type == PieceType::kNormal ? -static_cast<float>(id) : 0.0F, type};
  }
  return model;
}

}  // namespace

Result<SentencePieceModel> parse_tokenizer_json(std::string_view text) {
  constexpr const char* kFile = "tokenizer.json";
  NESTLING_TRY(const json root, parse_object(text, kFile, 2, "merges"));
  const json none = json::object();
  const json* bpe = find(root, "model");
  if (!bpe) bpe = &none;
  const json* type = find(*bpe, "type");
  const json* byte_fallback = find(*bpe, "byte_fallback");
  if (!type || *type != "BPE" || !byte_fallback || *byte_fallback != true) {
    return fail(ErrorCode::kModel, "{}: the model must have \"type\": \"BPE\" and \"byte_fallback\": true", kFile);
  }
  const json* vocab = find(*bpe, "vocab");
  const json* unknown = find(*bpe, "unk_token");
  if (!vocab || !vocab->is_object() || !unknown || !unknown->is_string()) {
    return fail(ErrorCode::kModel, "{}: the model needs an object \"vocab\" and a string \"unk_token\"", kFile);
  }
  NESTLING_TRY(const auto added, read_added_tokens(root, kFile));
  NESTLING_TRY(auto model, read_vocabulary(*vocab, unknown->get<std::string>(), kFile));
  NESTLING_TRY_VOID(apply_added_tokens(model, added));
  NESTLING_TRY_VOID(check_sentencepiece_model(model));
  return model;
}

Result<std::vector<AddedToken>> added_tokens_of_tokenizer_json(std::string_view text) {
  NESTLING_TRY(const json root, parse_object(text, "tokenizer.json", 1, "model"));
  return read_added_tokens(root, "tokenizer.json");
}

Result<std::vector<AddedToken>> added_tokens_of_tokenizer_config(std::string_view text) {
  constexpr const char* kFile = "tokenizer_config.json";
  NESTLING_TRY(const json root, parse_object(text, kFile, 1, "chat_template"));
  std::vector<AddedToken> tokens;
  const json* table = find(root, "added_tokens_decoder");
  if (!table) return tokens;
  if (!table->is_object()) return fail(ErrorCode::kModel, "{}: \"added_tokens_decoder\" is not an object", kFile);
  for (const auto& [key, entry] : table->items()) {
    int64_t id = -1;
    const auto [end, code] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (code != std::errc() || end != key.data() + key.size()) id = -1;
    NESTLING_TRY(id, read_id(json(id), kFile));
    NESTLING_TRY(auto token, read_added_token(entry, id, kFile));
    tokens.push_back(std::move(token));
  }
  return tokens;
}

Result<std::vector<AddedToken>> added_tokens_of_added_tokens_json(std::string_view text) {
  constexpr const char* kFile = "added_tokens.json";
  NESTLING_TRY(const json root, parse_object(text, kFile));
  std::vector<AddedToken> tokens;
  for (const auto& [name, value] : root.items()) {
    NESTLING_TRY(const int64_t id, read_id(value, kFile));
    tokens.push_back({id, name, true});
  }
  return tokens;
}

Status apply_added_tokens(SentencePieceModel& model, const std::vector<AddedToken>& tokens) {
  auto& pieces = model.pieces;
  for (const AddedToken& token : tokens) {
    if (token.id < 0 || token.id >= kMaxPieces) {
      return fail(ErrorCode::kModel, "tokenizer: added token id {}; 0 to {} are allowed", token.id, kMaxPieces - 1);
    }
    while (std::ssize(pieces) <= token.id) {
      pieces.push_back({fmt::format("<reserved_{}>", pieces.size()), 0, PieceType::kControl});
    }
    SentencePiece& piece = pieces[token.id];
    piece.text = token.text;
    if (piece.type == PieceType::kUnknown || piece.type == PieceType::kByte) continue;
    piece.type = token.special ? PieceType::kControl : PieceType::kUserDefined;
    piece.score = 0;
  }
  return {};
}

}  // namespace nestling
