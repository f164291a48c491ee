#include "media_input.h"

#include <algorithm>
#include <cerrno>

#include <unistd.h>

#include "interrupt.h"
#include "media/audio.h"
#include "media/image.h"
#include "text/utf8.h"

namespace nestling {
namespace {

constexpr const char* kStandardInput = "standard input";

// At most bytes.size(), 0 at the end.
Result<size_t> read_some(std::span<std::byte> bytes) {
  while (true) {
    if (!wait_for_input()) return fail(ErrorCode::kCancelled, "interrupted");
    const ssize_t n = ::read(STDIN_FILENO, bytes.data(), bytes.size());
    if (n >= 0) return static_cast<size_t>(n);
    if (errno != EINTR) return fail(ErrorCode::kFailed, "{}: cannot be read: {}", kStandardInput, errno_text(errno));
  }
}

// All of standard input; more than `most` bytes fail with `code`.
template <typename Bytes>
Status read_all(Bytes& all, uint64_t most, ErrorCode code) {
  std::byte buffer[1 << 16];
  while (true) {
    NESTLING_TRY(const size_t count, read_some(buffer));
    if (count == 0) return {};
    const auto* begin = reinterpret_cast<const typename Bytes::value_type*>(buffer);
    all.insert(all.end(), begin, begin + count);
    if (all.size() > most)
      return fail(code, "{}: more than {} bytes; at most as many are allowed", kStandardInput, most);
  }
}

Status check_pcm_options(const std::vector<ContentArgument>& content, const MediaChoice& choice) {
  const bool from_input = std::ranges::any_of(content, [](const ContentArgument& argument) {
    return argument.kind == ContentKind::kAudio && argument.value == "-";
  });
  if (choice.rate && !from_input)
    return fail(ErrorCode::kUsage, "--audio-rate: is for raw samples on standard input, with --audio -");
  if (!choice.rate && (choice.sample || choice.channels))
    return fail(ErrorCode::kUsage, "--audio-format and --audio-channels: are for raw samples, with --audio-rate");
  return {};
}

Result<Medium> medium_of(const ContentArgument& argument, const MediaChoice& choice) {
  const bool picture = argument.kind == ContentKind::kImage;
  Medium medium{.kind = argument.kind, .name = argument.value, .path = argument.value};
  if (argument.value != "-") {
    if (::access(argument.value.c_str(), R_OK) == 0) return medium;
    return fail(ErrorCode::kFailed, "{}: {}", argument.value, errno_text(errno));
  }
  medium.name = kStandardInput;
  if (!picture && choice.rate) {
    medium.pcm = read_some;
    medium.pcm_format = {.sample = choice.sample.value_or(PcmFormat::Sample::kS16), .rate = *choice.rate,
                         .channels = choice.channels.value_or(1)};
    return medium;
  }
  const uint64_t most = picture ? ImageLimits().max_encoded_bytes : AudioLimits().max_encoded_bytes;
  NESTLING_TRY_VOID(read_all(medium.encoded, most, ErrorCode::kFailed));
  if (!medium.encoded.empty()) return medium;
  return fail(ErrorCode::kFailed, "{}: is empty; a {} is needed", kStandardInput, picture ? "picture" : "sound");
}

// A line at a terminal while a sound of more than a few seconds is heard.
class HearingDisplay {
 public:
  HearingDisplay() : enabled_(::isatty(STDERR_FILENO) == 1) {}
  ~HearingDisplay() {
    if (shown_) fmt::print(stderr, "\r\x1b[K");
  }
  void show(double heard, double total) {
    constexpr double kLong = 20;  // seconds
    if (!enabled_ || std::max(heard, total) < kLong) return;
    shown_ = true;
    if (total > 0) fmt::print(stderr, "\r\x1b[Khearing: {:.0f} of {:.0f} s", heard, total);
    else fmt::print(stderr, "\r\x1b[Khearing: {:.0f} s", heard);
    std::fflush(stderr);
  }

 private:
  bool enabled_, shown_ = false;
};

}  // namespace

Result<std::vector<ContentPart>> read_content(const std::vector<ContentArgument>& content) {
  std::vector<ContentPart> parts;
  bool empty = true;
  if (std::ranges::count(content, "-", &ContentArgument::value) > 1)
    return fail(ErrorCode::kUsage, "-: standard input is named twice; once is allowed");
  for (const ContentArgument& argument : content) {
    ContentPart part{argument.kind, ""};
    if (argument.kind == ContentKind::kText) part.text = argument.value;
    if (argument.kind == ContentKind::kText && argument.value == "-") {
      part.text.clear();
      NESTLING_TRY_VOID(read_all(part.text, Tokenizer::kMaxTextBytes, ErrorCode::kUsage));
    }
    empty = empty && part.kind == ContentKind::kText && strip(part.text).empty();
    parts.push_back(std::move(part));
  }
  if (content.empty())
    return fail(ErrorCode::kUsage, "no prompt: give -p TEXT, or -p - to read standard input");
  if (empty) return fail(ErrorCode::kUsage, "-p: the prompt is empty; at least one character is needed");
  return parts;
}

Result<std::vector<Medium>> media_of(const std::vector<ContentArgument>& content, const MediaChoice& choice) {
  NESTLING_TRY_VOID(check_pcm_options(content, choice));
  std::vector<Medium> media;
  for (const ContentArgument& argument : content) {
    if (argument.kind == ContentKind::kText) continue;
    NESTLING_TRY(Medium medium, medium_of(argument, choice));
    media.push_back(std::move(medium));
  }
  return media;
}

void expect_media(const std::vector<Medium>& media, const MediaOptions& options, EngineOptions& engine) {
  for (const Medium& medium : media) {
    if (medium.kind == ContentKind::kImage) engine.pictures = options.image_size;
    if (medium.kind == ContentKind::kAudio) engine.sounds = true;
  }
}

Result<PreparedPrompt> prepare_shown(Engine& engine, const Prompt& prompt, const std::vector<Medium>& media,
                                     MediaOptions options) {
  HearingDisplay display;
  options.cancelled = interrupt_flag();
  options.on_heard = [&display](double heard, double total) { display.show(heard, total); };
  return prepare_prompt(engine, prompt, media, options);
}

}  // namespace nestling
