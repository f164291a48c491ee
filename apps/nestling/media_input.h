// From the command line's content (texts, pictures, sounds, in order) to what the model reads.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "runtime/engine.h"
#include "runtime/session.h"
#include "text/chat_template.h"

namespace nestling {

struct ContentArgument {
  ContentKind kind = ContentKind::kText;
  std::string value;  // the text ("-": standard input), or the path of a picture or sound
};

struct MediaOptions {
  int64_t image_size = 768;          // pixels: 256, 512 or 768
  int64_t audio_tokens = 188;        // most soft tokens of one sound
  double audio_limit_seconds = 30;   // of one sound
  bool release_modalities = false;   // unload vision and audio after each request
};

// The texts with standard input read, and places for the media. kUsage: nothing to answer, "-" twice.
Result<std::vector<ContentPart>> read_content(const std::vector<ContentArgument>& content);

// Ids and soft tokens of a prompt whose placeholders stand for `media` in order. kModel: the model holds no tower for
// one of them.
Result<PromptInput> prepare_prompt(Engine& engine, const Prompt& prompt, const std::vector<ContentArgument>& media,
                                   const MediaOptions& options);

// The pictures and sounds among `content`, in order.
std::vector<ContentArgument> media_of(const std::vector<ContentArgument>& content);

}  // namespace nestling
