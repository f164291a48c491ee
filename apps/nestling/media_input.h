// The command line's content (texts, pictures, sounds, in order), and where its bytes come from.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "runtime/media_prompt.h"
#include "text/chat_template.h"

namespace nestling {

struct ContentArgument {
  ContentKind kind = ContentKind::kText;
  std::string value;  // the text, or the path of a picture or sound; "-": standard input
};

// --image-size --audio-tokens --audio-limit --release-modalities, and what raw samples on standard input are.
struct MediaChoice {
  MediaOptions options;
  std::optional<PcmFormat::Sample> sample;    // --audio-format
  std::optional<int64_t> rate, channels;      // --audio-rate, --audio-channels
};

// The texts with standard input read, and places for the media. kUsage: nothing to answer, "-" twice.
Result<std::vector<ContentPart>> read_content(const std::vector<ContentArgument>& content);

// The pictures and sounds among `content`, in order. A file that is not there is refused now (kFailed), before a model is
// opened. kUsage: raw sample options without --audio - and --audio-rate.
Result<std::vector<Medium>> media_of(const std::vector<ContentArgument>& content, const MediaChoice& choice);

// Lets `engine` count what `media` need in its size and budget.
void expect_media(const std::vector<Medium>& media, const MediaOptions& options, EngineOptions& engine);

// prepare_prompt() that Ctrl-C interrupts and that shows at a terminal how far a long sound is.
Result<PreparedPrompt> prepare_shown(Engine& engine, const Prompt& prompt, const std::vector<Medium>& media,
                                     MediaOptions options);

}  // namespace nestling
