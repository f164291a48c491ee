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

}  // namespace

Result<Prompt> Conversation::render(const std::vector<ContentPart>& parts) const {
  const Message user{"user", parts};
  if (!ids_.empty()) return render_next_turn(user, reply_closed_);
  std::vector<Message> messages;
  if (!system_.empty()) messages.push_back(Message::of("system", system_));
  messages.push_back(user);
  return render_chat(messages);
}

Result<GenerateResult> Conversation::answer(const std::vector<ContentArgument>& content, const MediaOptions& media,
                                            const Turn& turn) {
  std::vector<ContentPart> parts;
  for (const ContentArgument& argument : content)
    parts.push_back({argument.kind, argument.kind == ContentKind::kText ? argument.value : ""});
  NESTLING_TRY(const Prompt prompt, render(parts));
  NESTLING_TRY(PromptInput input, prepare_prompt(engine_, prompt, media_of(content), media));
  input.ids.insert(input.ids.begin(), ids_.begin(), ids_.end());
  GenerateRequest request{.prompt = std::move(input),
                          .size = turn.size,
                          .sampling = turn.sampling,
                          .max_tokens = turn.max_tokens,
                          .stop = turn.stop,
                          .cancelled = interrupt_flag(),
                          .on_text = turn.on_text};
  request.sampling.seed += static_cast<uint64_t>(turns());
  NESTLING_TRY(GenerateResult result, session_.generate(request));
  result.limits.insert(result.limits.begin(), prompt.notes.begin(), prompt.notes.end());
  if (result.ids.empty()) return result;

  ids_ = std::move(request.prompt.ids);
  ids_.insert(ids_.end(), result.ids.begin(), result.ids.end());
  drop_last_stop_id();
  messages_.push_back({"user", shown(content)});
  messages_.push_back({"assistant", result.text});
  return result;
}

// A turn ends with <end_of_turn>. Another stop id (<eos>) is no part of a conversation that goes on.
void Conversation::drop_last_stop_id() {
  reply_closed_ = ids_.back() == engine_.tokenizer()->find("<end_of_turn>");
  const auto& stop_ids = engine_.config().generation.stop_ids;
  if (!reply_closed_ && std::ranges::find(stop_ids, ids_.back()) != stop_ids.end()) ids_.pop_back();
}

void Conversation::clear() {
  session_.clear();
  messages_.clear();
  ids_.clear();
  reply_closed_ = false;
}

Status Conversation::save(const std::filesystem::path& path) const {
  Json messages = Json::array();
  for (const Line& line : messages_) messages.push_back({{"role", line.role}, {"text", line.text}});
  const Json data = {{"system", system_}, {"messages", messages}, {"ids", ids_}, {"reply_closed", reply_closed_}};
  return session_.save(path, data.dump(-1, ' ', false, Json::error_handler_t::replace));
}

Status Conversation::load(const std::filesystem::path& path) {
  std::string data;
  NESTLING_TRY_VOID(session_.load(path, &data));
  std::string system;
  try {
    const Json json = Json::parse(data);
    system = json.at("system").get<std::string>();
    ids_ = json.at("ids").get<std::vector<int32_t>>();
    reply_closed_ = json.at("reply_closed").get<bool>();
    for (const Json& line : json.at("messages"))
      messages_.push_back({line.at("role").get<std::string>(), line.at("text").get<std::string>()});
  } catch (const Json::exception& error) {
    return fail(ErrorCode::kModel, "{}: its conversation cannot be read: {}", path.string(), error.what());
  }
  const int64_t vocabulary = engine_.config().text.vocab_size;
  if (std::ranges::any_of(ids_, [&](int32_t id) { return id < 0 || id >= vocabulary; }))
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
