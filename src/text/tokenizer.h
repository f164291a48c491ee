// Text to token ids and back, with Gemma's vocabulary or one laid out like it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nestling {

// What a control piece's name (<start_of_turn>, <unused7>, [multimodal], ...; is_control_text) means inside a text.
enum class ControlText {
  kInert,   // encoding: plain characters; decoding: a control id gives no text
  kParsed,  // encoding: the control id, as Hugging Face tokenizers does; decoding: a control id gives its name
};

// Immutable after load; safe to use from several threads at once.
class Tokenizer {
 public:
  // `model` is a serialized SentencePiece model (sentencepiece_from_checkpoint). kModel when it cannot be used.
  static Result<std::unique_ptr<Tokenizer>> load(std::string_view model);
  ~Tokenizer();

  int64_t size() const;  // ids are 0 .. size() - 1

  // Ids of `text`, without <bos>. With ControlText::kInert no text whatever yields a control id: the form for
  // everything a user wrote. Takes time and memory in proportion to the text. kUsage: invalid UTF-8 (says at which
  // byte), or longer than kMaxTextBytes.
  Result<std::vector<int32_t>> encode(std::string_view text, ControlText controls = ControlText::kInert) const;
  static constexpr size_t kMaxTextBytes = size_t{16} << 20;

  // Text of `ids`; bytes that form no character become U+FFFD. kUsage: an id out of range. For ids that arrive one by
  // one: Detokenizer.
  Result<std::string> decode(std::span<const int32_t> ids, ControlText controls = ControlText::kInert) const;

  // The piece of an id as the vocabulary writes it: "▁the", "<0x0A>", "<bos>".
  std::string_view piece(int32_t id) const;
  // The id of exactly this piece.
  std::optional<int32_t> find(std::string_view piece) const;
  bool is_control(int32_t id) const;
  // Appends the bytes `id` stands for: part of a character for a byte piece; an id out of range stands for nothing.
  void append_bytes(int32_t id, ControlText controls, std::string& out) const;

 private:
  Tokenizer();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nestling
