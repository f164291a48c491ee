// Token ids that arrive one by one to text, never splitting a character.
#pragma once

#include <string>

#include "text/tokenizer.h"
#include "text/utf8.h"

namespace nestling {

// The pieces given out, joined, are what Tokenizer::decode gives for all ids at once.
class Detokenizer {
 public:
  // `tokenizer` must outlive this. A control id gives no text, or its name with ControlText::kParsed.
  explicit Detokenizer(const Tokenizer& tokenizer, ControlText controls = ControlText::kInert)
      : tokenizer_(&tokenizer), controls_(controls) {}

  // The characters that `id` completes, often one piece, sometimes none. An id beyond the vocabulary has no text.
  std::string feed(int32_t id);
  // U+FFFD if a character was left incomplete; then ready for another text.
  std::string flush();

 private:
  const Tokenizer* tokenizer_;
  ControlText controls_;
  Utf8Decoder decoder_;
};

}  // namespace nestling
