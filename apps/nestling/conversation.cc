#include "conversation.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "interrupt.h"
#include "text/utf8.h"

namespace nestling {
namespace {

using Json = nlohmann::json;

std::string shown(const ContentArgument& argument) {
  if (argument.kind == ContentKind::kText) return argument.value;
  return fmt::format("[{} {}]", argument.kind == ContentKind::kImage ? "image" : "audio", argument.value);
}

// A message as the history shows it.
std::string shown(const std::vector<ContentArgument>& content) {
  std::string text;
  for (const ContentArgument& argument : content) text += (text.empty() ? "" : "\n") + shown(argument);
  return text;
}

// Where pictures and sounds are among the ids, and which: [[begin, count, key], ...].
Json media_spans(const PromptInput& held) {
  Json spans = Json::array();
  const auto& keys = held.media_keys;
  for (size_t i = 0; i < keys.size();) {
    size_t end = i + 1;
    while (end < keys.size() && keys[end] == keys[i]) ++end;
    if (keys[i] != 0) spans.push_back({i, end - i, keys[i]});
    i = end;
  }
  return spans;
}

Status read_media_spans(const Json& spans, const std::string& path, PromptInput& held) {
  for (const Json& span : spans) {
    const auto begin = span.at(0).get<uint64_t>(), count = span.at(1).get<uint64_t>();
    if (begin > held.ids.size() || count > held.ids.size() - begin)
      return fail(ErrorCode::kModel, "{}: its conversation has media at token {}, beyond its {} ids", path, begin,
                  held.ids.size());
    held.media_keys.resize(held.ids.size(), 0);
    std::fill_n(held.media_keys.begin() + static_cast<std::ptrdiff_t>(begin), count, span.at(2).get<uint64_t>());
  }
  return {};
}

}  // namespace

Result<Prompt> Conversation::render(const std::vector<ContentPart>& parts) const {
  const Message user{"user", parts};
  if (!held_.ids.empty()) return render_next_turn(user, reply_closed_);
  std::vector<Message> messages;
  if (!system_.empty()) messages.push_back(Message::of("system", system_));
  messages.push_back(user);
  return render_chat(messages);
}

Result<Answer> Conversation::answer(const std::vector<ContentArgument>& content, const std::vector<Medium>& media,
                                    const MediaOptions& options, const Turn& turn) {
  std::vector<ContentPart> parts;
  for (const ContentArgument& argument : content)
    parts.push_back({argument.kind, argument.kind == ContentKind::kText ? argument.value : ""});
  NESTLING_TRY(const Prompt prompt, render(parts));
  NESTLING_TRY(PreparedPrompt prepared, prepare_shown(engine_, prompt, media, options));
  GenerateRequest request{.prompt = held_,
                          .size = turn.size,
                          .sampling = turn.sampling,
                          .max_tokens = turn.max_tokens,
                          .stop = turn.stop,
                          .speculate = turn.speculate,
                          .cancelled = interrupt_flag(),
                          .on_text = turn.on_text};
  request.prompt.append(std::move(prepared.input));
  request.sampling.seed += static_cast<uint64_t>(turns());
  NESTLING_TRY(GenerateResult generated, session_.generate(request));
  Answer result{std::move(generated), std::move(prepared.media), prepared.image_ms, prepared.audio_ms};
  result.limits.insert(result.limits.begin(), prepared.limits.begin(), prepared.limits.end());
  result.limits.insert(result.limits.begin(), prompt.notes.begin(), prompt.notes.end());
  if (result.ids.empty()) return result;

  held_ = std::move(request.prompt);
  held_.append({.ids = result.ids});
  drop_last_stop_id();
  messages_.push_back({"user", shown(content)});
  messages_.push_back({"assistant", result.text});
  return result;
}

// A turn ends with <end_of_turn>. Another stop id (<eos>) is no part of a conversation that goes on.
void Conversation::drop_last_stop_id() {
  const int32_t last = held_.ids.back();
  reply_closed_ = last == engine_.tokenizer()->find("<end_of_turn>");
  const auto& stop_ids = engine_.config().generation.stop_ids;
  if (!reply_closed_ && std::ranges::find(stop_ids, last) != stop_ids.end()) held_.truncate(held_.ids.size() - 1);
}

void Conversation::clear() {
  session_.clear();
  messages_.clear();
  held_ = {};
  reply_closed_ = false;
}

Status Conversation::save(const std::filesystem::path& path) const {
  Json messages = Json::array();
  for (const Line& line : messages_) messages.push_back({{"role", line.role}, {"text", line.text}});
  const Json data = {{"system", system_}, {"messages", messages}, {"ids", held_.ids}, {"media", media_spans(held_)},
                     {"reply_closed", reply_closed_}};
  return session_.save(path, data.dump(-1, ' ', false, Json::error_handler_t::replace));
}

Status Conversation::load(const std::filesystem::path& path) {
  std::string data;
  NESTLING_TRY_VOID(session_.load(path, &data));
  std::string system;
  try {
    const Json json = Json::parse(data);
    system = json.at("system").get<std::string>();
    held_.ids = json.at("ids").get<std::vector<int32_t>>();
    NESTLING_TRY_VOID(read_media_spans(json.at("media"), path.string(), held_));
    reply_closed_ = json.at("reply_closed").get<bool>();
    for (const Json& line : json.at("messages"))
      messages_.push_back({line.at("role").get<std::string>(), line.at("text").get<std::string>()});
  } catch (const Json::exception& error) {
    return fail(ErrorCode::kModel, "{}: its conversation cannot be read: {}", path.string(), error.what());
  }
  const int64_t vocabulary = engine_.config().text.vocab_size;
  if (std::ranges::any_of(held_.ids, [&](int32_t id) { return id < 0 || id >= vocabulary; }))
    return fail(ErrorCode::kModel, "{}: its conversation has ids outside 0 to {}", path.string(), vocabulary - 1);
  if (messages_.size() % 2 != 0)
    return fail(ErrorCode::kModel, "{}: its conversation has {} messages; questions and answers come in pairs",
                path.string(), messages_.size());
  if (!system_.empty() && system_ != system && !messages_.empty())
    return fail(ErrorCode::kUsage, "--system: the conversation in {} began with \"{}\"; the same, or none, is allowed",
                path.string(), system);
  if (!messages_.empty()) system_ = std::move(system);
  return {};
}

}  // namespace nestling
