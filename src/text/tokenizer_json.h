// Tokenizer files of a Hugging Face checkpoint in JSON: tokenizer.json, and the added tokens of its neighbours.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/sentencepiece_model.h"

namespace nestling {

// A token found in the raw text before any merging; may lie beyond the vocabulary.
struct AddedToken {
  int64_t id = 0;
  std::string text;
  bool special = false;
};

// The SentencePiece model that encodes as tokenizer.json does (model type BPE with byte fallback, vocabulary ordered by
// merge priority as Gemma's is): added tokens USER_DEFINED, or CONTROL where special; <0xNN> BYTE; all others NORMAL
// with falling scores. The list of merges is not read. kModel for anything else.
Result<SentencePieceModel> parse_tokenizer_json(std::string_view json);

// "added_tokens" of tokenizer.json, "added_tokens_decoder" of tokenizer_config.json, and added_tokens.json itself
// (text to id, all special). Absent: an empty list. kModel: not JSON, or entries of another shape.
Result<std::vector<AddedToken>> added_tokens_of_tokenizer_json(std::string_view json);
Result<std::vector<AddedToken>> added_tokens_of_tokenizer_config(std::string_view json);
Result<std::vector<AddedToken>> added_tokens_of_added_tokens_json(std::string_view json);

// Gives the ids of `tokens` their text and type (an unknown or byte piece keeps its type). Ids beyond the model's
// pieces are appended; ids between that nobody names become CONTROL pieces <reserved_ID>.
Status apply_added_tokens(SentencePieceModel& model, const std::vector<AddedToken>& tokens);

}  // namespace nestling
