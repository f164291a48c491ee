#include "text/chat_template.h"

#include "base/check.h"
#include "text/utf8.h"

namespace nestling {
namespace {

using Kind = PromptSegment::Kind;

// The pieces around the soft tokens of one medium.
struct MediaPieces {
  const char *start, *soft, *end;
};
constexpr MediaPieces kImagePieces{"<start_of_image>", "<image_soft_token>", "<end_of_image>"};
constexpr MediaPieces kAudioPieces{"<start_of_audio>", "<audio_soft_token>", "<end_of_audio>"};

bool is_media(Kind kind) { return kind == Kind::kImage || kind == Kind::kAudio; }
const MediaPieces& media_pieces(Kind kind) { return kind == Kind::kImage ? kImagePieces : kAudioPieces; }

class PromptWriter {
 public:
  void control(const char* name) { prompt_.segments.push_back({Kind::kControl, name}); }
  void media(ContentKind kind) {
    prompt_.segments.push_back({kind == ContentKind::kImage ? Kind::kImage : Kind::kAudio, {}});
  }
  void text(std::string_view text) {
    auto& segments = prompt_.segments;
    if (segments.empty() || segments.back().kind != Kind::kText) segments.push_back({Kind::kText, {}});
    segments.back().text += text;
  }
  void note(std::string note) { prompt_.notes.push_back(std::move(note)); }
  Prompt take() { return std::move(prompt_); }

 private:
  Prompt prompt_;
};

Status check_utf8(const Message& message, size_t index) {
  const auto check = [&](std::string_view text, const char* what) -> Status {
    const auto offset = find_invalid_utf8(text);
    if (!offset) return {};
    return fail(ErrorCode::kUsage, "message {}: the {} is not valid UTF-8: byte {} is 0x{:02X}", index + 1, what,
                *offset, static_cast<uint8_t>(text[*offset]));
  };
  NESTLING_TRY_VOID(check(message.role, "role"));
  for (const ContentPart& part : message.content) NESTLING_TRY_VOID(check(part.text, "text"));
  return {};
}

// The text of a system message, which goes before the first user content.
Result<std::string> system_text(const Message& system, PromptWriter& out) {
  if (system.content.empty() || system.content.front().kind != ContentKind::kText) {
    return fail(ErrorCode::kUsage, "message 1 (system): its content must begin with a text");
  }
  if (system.content.size() > 1) {
    out.note(fmt::format("system message: only the first of its {} parts is used", system.content.size()));
  }
  return system.content.front().text + "\n\n";
}

void write_turn(const Message& message, std::string_view prefix, PromptWriter& out) {
  out.control("<start_of_turn>");
  out.text(message.role == "assistant" ? "model" : message.role);
  out.text("\n");
  out.text(prefix);
  for (const ContentPart& part : message.content) {
    part.kind == ContentKind::kText ? out.text(strip(part.text)) : out.media(part.kind);
  }
  out.control("<end_of_turn>");
  out.text("\n");
}

void write_generation_prompt(PromptWriter& out) {
  out.control("<start_of_turn>");
  out.text("model\n");
}

}  // namespace

Result<Prompt> render_chat(std::span<const Message> messages, bool add_generation_prompt) {
  for (size_t i = 0; i < messages.size(); ++i) NESTLING_TRY_VOID(check_utf8(messages[i], i));
  PromptWriter out;
  out.control("<bos>");
  std::string prefix;
  size_t first = 0;
  if (!messages.empty() && messages.front().role == "system") {
    NESTLING_TRY(prefix, system_text(messages.front(), out));
    first = 1;
  }
  if (first == messages.size()) return fail(ErrorCode::kUsage, "no user message; at least one is needed");
  for (size_t i = first; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    const bool user_turn = (i - first) % 2 == 0;
    if ((role == "user") != user_turn) {
      return fail(ErrorCode::kUsage,
                  "message {} has role \"{}\"; roles must alternate user and assistant, beginning with "
                  "user after an optional system message, so \"{}\" is allowed here",
                  i + 1, role, user_turn ? "user" : "assistant");
    }
    write_turn(messages[i], prefix, out);
    prefix.clear();
  }
  if (add_generation_prompt) write_generation_prompt(out);
  return out.take();
}

Result<Prompt> render_next_turn(const Message& user, bool reply_closed) {
  if (user.role != "user") {
    return fail(ErrorCode::kUsage, "a message with role \"{}\" after a reply; \"user\" is allowed here", user.role);
  }
  NESTLING_TRY_VOID(check_utf8(user, 0));
  PromptWriter out;
  if (!reply_closed) out.control("<end_of_turn>");
  out.text("\n");
  write_turn(user, "", out);
  write_generation_prompt(out);
  return out.take();
}

Result<Prompt> render_raw(std::span<const ContentPart> parts, ControlText controls) {
  PromptWriter out;
  out.control("<bos>");
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].kind != ContentKind::kText) {
      out.media(parts[i].kind);
      continue;
    }
    NESTLING_TRY_VOID(check_utf8({"user", {parts[i]}}, i));
    out.text(parts[i].text);
  }
  Prompt prompt = out.take();
  prompt.controls = controls;
  return prompt;
}

std::string prompt_text(const Prompt& prompt) {
  std::string out;
  for (const PromptSegment& segment : prompt.segments) {
    out += is_media(segment.kind) ? media_pieces(segment.kind).soft : segment.text;
  }
  return out;
}

namespace {

// Collects text until something that is not text ends it: only whole stretches are encoded, because merges reach across
// the borders of parts.
class PromptEncoder {
 public:
  PromptEncoder(const Tokenizer& tokenizer, ControlText controls) : tokenizer_(tokenizer), controls_(controls) {}

  void text(std::string_view text) { text_ += text; }

  Status control(std::string_view name, int64_t count = 1) {
    NESTLING_TRY_VOID(end_text());
    const auto id = tokenizer_.find(name);
    if (!id) return fail(ErrorCode::kModel, "the model's tokenizer has no piece {}, which this prompt needs", name);
    out_.ids.insert(out_.ids.end(), count, *id);
    return {};
  }

  Status media(Kind kind, int64_t count) {
    const MediaPieces& pieces = media_pieces(kind);
    text("\n\n");
    NESTLING_TRY_VOID(control(pieces.start));
    out_.media.push_back(
        {kind == Kind::kImage ? ContentKind::kImage : ContentKind::kAudio, std::ssize(out_.ids), count});
    NESTLING_TRY_VOID(control(pieces.soft, count));
    NESTLING_TRY_VOID(control(pieces.end));
    text("\n\n");
    return {};
  }

  Result<EncodedPrompt> finish() {
    NESTLING_TRY_VOID(end_text());
    return std::move(out_);
  }

 private:
  Status end_text() {
    NESTLING_TRY(const auto ids, tokenizer_.encode(text_, controls_));
    out_.ids.insert(out_.ids.end(), ids.begin(), ids.end());
    text_.clear();
    return {};
  }

  const Tokenizer& tokenizer_;
  ControlText controls_;
  EncodedPrompt out_;
  std::string text_;
};

}  // namespace

Result<EncodedPrompt> encode_prompt(const Tokenizer& tokenizer, const Prompt& prompt, std::span<const int64_t> counts) {
  PromptEncoder encoder(tokenizer, prompt.controls);
  size_t place = 0;
  for (const PromptSegment& segment : prompt.segments) {
    switch (segment.kind) {
      case Kind::kText:
        encoder.text(segment.text);
        break;
      case Kind::kControl:
        NESTLING_TRY_VOID(encoder.control(segment.text));
        break;
      case Kind::kImage:
      case Kind::kAudio: {
        int64_t count = segment.kind == Kind::kImage ? kImageSoftTokens : kAudioSoftTokens;
        if (!counts.empty()) {
          NESTLING_CHECK_LT(place, counts.size());
          count = counts[place];
          NESTLING_CHECK_GE(count, 1);
        }
        NESTLING_TRY_VOID(encoder.media(segment.kind, count));
        ++place;
        break;
      }
    }
  }
  if (!counts.empty()) NESTLING_CHECK_EQ(place, counts.size());
  return encoder.finish();
}

}  // namespace nestling
