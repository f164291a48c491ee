// Gemma 3n's chat template: messages to a prompt, and a prompt to ids with places for pictures and sound.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/tokenizer.h"

namespace nestling {

enum class ContentKind { kText, kImage, kAudio };

struct ContentPart {
  ContentKind kind = ContentKind::kText;
  std::string text;  // of a text part
};

struct Message {
  std::string role;  // "system" (first only), "user", "assistant"
  std::vector<ContentPart> content;

  static Message of(std::string role, std::string text) {
    return {std::move(role), {{ContentKind::kText, std::move(text)}}};
  }
};

struct PromptSegment {
  enum class Kind {
    kText,     // what a user, or the template, says
    kControl,  // one control piece, by name
    kImage,    // place of one picture
    kAudio,    // place of one sound
  };
  Kind kind = Kind::kText;
  std::string text;
};

struct Prompt {
  std::vector<PromptSegment> segments;
  ControlText controls = ControlText::kInert;  // what control names inside the texts mean
  std::vector<std::string> notes;              // what the template leaves out of the messages, in words
};

// The whole conversation, from <bos>. The first message may be "system"; then roles must alternate, beginning with
// "user", as the published template demands. kUsage: they do not, there is no user message, text that is not valid
// UTF-8.
Result<Prompt> render_chat(std::span<const Message> messages, bool add_generation_prompt = true);

// What follows a reply of the model when the user speaks again, so that earlier ids and these together are the whole
// conversation's. `reply_closed`: the ids so far end with <end_of_turn>; otherwise it is put first.
Result<Prompt> render_next_turn(const Message& user, bool reply_closed);

// No template: <bos> and the parts in order. `controls` tells whether control names typed in the texts count.
Result<Prompt> render_raw(std::span<const ContentPart> parts, ControlText controls);

// The prompt as one string, with <image_soft_token> and <audio_soft_token> as placeholders, as the template prints it.
std::string prompt_text(const Prompt& prompt);

// Where the soft tokens of one picture or sound go.
struct MediaSpan {
  ContentKind kind = ContentKind::kImage;
  int64_t begin = 0;  // index of the first soft token in ids
  int64_t count = 0;
};

struct EncodedPrompt {
  std::vector<int32_t> ids;
  std::vector<MediaSpan> media;  // in the order of the placeholders
};

inline constexpr int64_t kImageSoftTokens = 256;
inline constexpr int64_t kAudioSoftTokens = 188;

// Ids of a prompt. A picture becomes "\n\n" <start_of_image> N x <image_soft_token> <end_of_image> "\n\n", a sound
// likewise, where the newlines join those of the text around them. `counts` gives N for each placeholder in order,
// empty for the published 256 and 188. kModel: the tokenizer lacks a control piece that is needed.
Result<EncodedPrompt> encode_prompt(const Tokenizer& tokenizer, const Prompt& prompt,
                                    std::span<const int64_t> counts = {});

}  // namespace nestling
