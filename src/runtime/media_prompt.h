// A prompt with pictures and sounds, from messages to what a session reads.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "runtime/media_reader.h"
#include "runtime/session.h"

namespace nestling {

struct PreparedPrompt {
  PromptInput input;
  std::vector<MediaReport> media;       // in the order of the placeholders
  double image_ms = 0, audio_ms = 0;    // encoding; 0 for what came from the cache
  int64_t media_tokens = 0;             // soft tokens and padding among the ids
  std::vector<std::string> limits;      // what was cut or scaled, in words
};

// Reads and encodes `media`, which the placeholders of `prompt` stand for in order, and encodes the prompt around them.
// Errors: those of read_medium(); kModel, no tokenizer.
Result<PreparedPrompt> prepare_prompt(Engine& engine, const Prompt& prompt, std::span<const Medium> media,
                                      const MediaOptions& options);

}  // namespace nestling
