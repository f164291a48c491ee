// Fuzzes the tokenizer readers: tokenizer.json, its neighbours, and the SentencePiece model they become. The first byte
// chooses: 'M' = the rest is a tokenizer.model; anything else, that byte included, is JSON.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "text/tokenizer.h"
#include "text/tokenizer_json.h"

namespace {

void use(const nestling::Result<nestling::SentencePieceModel>& model) {
  using namespace nestling;
  if (!model) return;
  const std::string bytes = serialize_sentencepiece_model(*model);
  const auto again = parse_sentencepiece_model(bytes);
  NESTLING_CHECK(again.has_value());
  NESTLING_CHECK_EQ(serialize_sentencepiece_model(*again), bytes);
  const auto tokenizer = Tokenizer::load(bytes);
  if (!tokenizer) return;
  const auto ids = (*tokenizer)->encode("a  \n\n<start_of_turn>\xE2\x96\x81\xE2\x96\x81\xF0\x9F\x90\xA6");
  NESTLING_CHECK(ids.has_value());
  for (const int32_t id : *ids) NESTLING_CHECK(!(*tokenizer)->is_control(id));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace nestling;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  if (input.starts_with('M')) {
    use(parse_sentencepiece_model(input.substr(1)));
    return 0;
  }
  use(parse_tokenizer_json(input));
  (void)added_tokens_of_tokenizer_json(input);
  (void)added_tokens_of_tokenizer_config(input);
  (void)added_tokens_of_added_tokens_json(input);
  return 0;
}
