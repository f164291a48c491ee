// The tokenizer of a Hugging Face checkpoint directory as one self-contained SentencePiece model.
#pragma once

#include <filesystem>
#include <string>

#include "base/error.h"

namespace nestling {

// Serialized SentencePiece model for Tokenizer::load: from tokenizer.model, or else built from tokenizer.json. Added
// tokens, those beyond the model's pieces included, come from the first of tokenizer.json, tokenizer_config.json and
// added_tokens.json that names any. "" when the directory has neither tokenizer.model nor tokenizer.json; kModel when
// one is there that cannot be used.
Result<std::string> sentencepiece_from_checkpoint(const std::filesystem::path& directory);

}  // namespace nestling
