#include "media_input.h"

#include <algorithm>
#include <cerrno>

#include <unistd.h>

#include "interrupt.h"
#include "text/utf8.h"

namespace nestling {
namespace {

Result<std::string> read_standard_input() {
  std::string text;
  char buffer[1 << 16];
  while (true) {
    if (!wait_for_input()) return fail(ErrorCode::kCancelled, "interrupted");
    const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (n == 0) return text;
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(ErrorCode::kFailed, "standard input: cannot be read: {}", errno_text(errno));
    text.append(buffer, static_cast<size_t>(n));
    if (text.size() > Tokenizer::kMaxTextBytes)
      return fail(ErrorCode::kUsage, "standard input: more than {} bytes; at most as many are allowed",
                  Tokenizer::kMaxTextBytes);
  }
}

const char* noun(ContentKind kind) { return kind == ContentKind::kImage ? "picture" : "sound"; }

Status check_tower(const Package& package, const ContentArgument& medium) {
  const bool image = medium.kind == ContentKind::kImage;
  if (package.has_region(image ? Region::kVision : Region::kAudio)) return {};
  return fail(ErrorCode::kModel, "{}: this model holds no {} tower, so the {} {} cannot be read",
              package.file().path().string(), image ? "vision" : "audio", noun(medium.kind), medium.value);
}

}  // namespace

Result<std::vector<ContentPart>> read_content(const std::vector<ContentArgument>& content) {
  std::vector<ContentPart> parts;
  bool input_read = false, empty = true;
  for (const ContentArgument& argument : content) {
    ContentPart part{argument.kind, ""};
    if (argument.kind == ContentKind::kText) part.text = argument.value;
    if (argument.kind == ContentKind::kText && argument.value == "-") {
      if (input_read) return fail(ErrorCode::kUsage, "-p -: standard input is named twice; once is allowed");
      NESTLING_TRY(part.text, read_standard_input());
      input_read = true;
    }
    empty = empty && part.kind == ContentKind::kText && strip(part.text).empty();
    parts.push_back(std::move(part));
  }
  if (content.empty())
    return fail(ErrorCode::kUsage, "no prompt: give -p TEXT, or -p - to read standard input");
  if (empty) return fail(ErrorCode::kUsage, "-p: the prompt is empty; at least one character is needed");
  return parts;
}

std::vector<ContentArgument> media_of(const std::vector<ContentArgument>& content) {
  std::vector<ContentArgument> media;
  std::ranges::copy_if(content, std::back_inserter(media),
                       [](const ContentArgument& argument) { return argument.kind != ContentKind::kText; });
  return media;
}

Result<PromptInput> prepare_prompt(Engine& engine, const Prompt& prompt, const std::vector<ContentArgument>& media,
                                   const MediaOptions&) {
  for (const ContentArgument& medium : media) {
    NESTLING_TRY_VOID(check_tower(engine.package(), medium));
    return fail(ErrorCode::kModel, "{}: this build of nestling reads no {}s yet", medium.value, noun(medium.kind));
  }
  NESTLING_TRY(const Tokenizer* tokenizer, engine.require_tokenizer());
  NESTLING_TRY(EncodedPrompt encoded, encode_prompt(*tokenizer, prompt));
  return PromptInput{.ids = std::move(encoded.ids)};
}

}  // namespace nestling
