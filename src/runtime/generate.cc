// Session::generate: the one decode loop. Streaming is a callback, sampling a parameter.
#include <algorithm>
#include <chrono>

#include "runtime/session.h"
#include "text/detokenizer.h"
#include "text/stop_strings.h"

namespace nestling {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

bool is_cancelled(const GenerateRequest& request) { return request.cancelled != nullptr && *request.cancelled; }

PleCounters difference(const PleCounters& after, const PleCounters& before) {
  return {.rows = after.rows - before.rows,
          .bytes_read = after.bytes_read - before.bytes_read,
          .cache_hits = after.cache_hits - before.cache_hits,
          .stalls = after.stalls - before.stalls,
          .stall_ms = after.stall_ms - before.stall_ms};
}

// Turns ids into text that is given out: whole characters, nothing of a stop string.
class TextOutput {
 public:
  TextOutput(const Tokenizer* tokenizer, StopStrings stops, const GenerateRequest& request, std::string& text)
      : stops_(std::move(stops)), request_(request), text_(text) {
    if (tokenizer != nullptr) detokenizer_.emplace(*tokenizer);
  }

  void add(int32_t id) {
    if (detokenizer_) give(stops_.feed(detokenizer_->feed(id)));
  }
  void finish() {
    if (!detokenizer_ || stops_.stopped()) return;
    give(stops_.feed(detokenizer_->flush()));
    if (!stops_.stopped()) give(stops_.flush());
  }
  bool stopped() const { return stops_.stopped(); }
  const std::string& matched() const { return stops_.matched(); }

 private:
  void give(const std::string& piece) {
    if (piece.empty()) return;
    text_ += piece;
    if (request_.on_text) request_.on_text(piece);
  }
  std::optional<Detokenizer> detokenizer_;
  StopStrings stops_;
  const GenerateRequest& request_;
  std::string& text_;
};

}  // namespace

Status Session::check_prompt(std::span<const int32_t> ids) const {
  const int64_t V = engine_.config().text.vocab_size, context = engine_.options().context;
  if (ids.empty()) return fail(ErrorCode::kUsage, "the prompt is empty; at least one token is needed");
  if (static_cast<int64_t>(ids.size()) > context)
    return fail(ErrorCode::kUsage, "the prompt has {} tokens; the context holds {} (up to {} with --ctx)", ids.size(),
                context, engine_.config().text.max_position_embeddings);
  for (const int32_t id : ids)
    if (id < 0 || id >= V) return fail(ErrorCode::kUsage, "token id {} is outside the vocabulary of {}", id, V);
  return {};
}

Status Session::check_media(const PromptInput& prompt) const {
  for (size_t i = ids_.size(); i < prompt.media_keys.size(); ++i)
    if (prompt.media_keys[i] != 0 && (prompt.embeddings.empty() || prompt.embeddings[i] == nullptr))
      return fail(ErrorCode::kUsage, "the conversation has to be read again from token {}, where it shows a picture or "
                  "sound that a saved session does not hold: show it again in a new conversation, or keep the size",
                  ids_.size());
  return {};
}

void Session::reuse_prefix(const PromptInput& prompt, const ModelSize& size, std::vector<std::string>& limits) {
  const std::string signature = size.kv_signature(engine_.config().text);
  const auto media_key = [&](size_t i) { return prompt.media_keys.empty() ? 0 : prompt.media_keys[i]; };
  size_t common = 0;
  while (common < ids_.size() && common + 1 < prompt.ids.size() && ids_[common] == prompt.ids[common] &&
         media_keys_[common] == media_key(common))
    ++common;
  if (common > 0 && signature != kv_signature_) {
    limits.push_back(fmt::format("size {} has other K/V than the size before: {} tokens are read again", size.name,
                                 common));
    common = 0;
  }
  if (!kv_->can_rewind(position(), static_cast<int64_t>(common))) {
    limits.push_back(fmt::format("the prompt departs from the conversation at token {}, farther back than the sliding "
                                 "window keeps: all of it is read again", common));
    common = 0;
  }
  ids_.resize(common);
  media_keys_.resize(common);
  kv_signature_ = signature;
}

Result<const float*> Session::prefill(const GenerateRequest& request) {
  const PromptInput& prompt = request.prompt;
  const auto chunk = static_cast<size_t>(engine_.options().chunk);
  const auto part = [&](size_t begin) {
    return std::span(prompt.ids).subspan(begin, std::min(chunk, prompt.ids.size() - begin));
  };
  const float* hidden = nullptr;
  int ticket = 0;
  request_ple(ticket, part(ids_.size()));
  while (ids_.size() < prompt.ids.size()) {
    if (is_cancelled(request)) return nullptr;
    const size_t begin = ids_.size(), end = begin + part(begin).size();
    if (end < prompt.ids.size()) request_ple(1 - ticket, part(end));  // read while this chunk runs
    const auto embeddings = prompt.embeddings.empty()
                                ? std::span<const float* const>()
                                : std::span(prompt.embeddings).subspan(begin, end - begin);
    NESTLING_TRY(hidden, forward(part(begin), embeddings, end == prompt.ids.size() ? 1 : 0, request.size, ticket));
    if (!prompt.media_keys.empty())
      std::copy_n(prompt.media_keys.begin() + static_cast<int64_t>(begin), end - begin,
                  media_keys_.begin() + static_cast<int64_t>(begin));
    ticket = 1 - ticket;
  }
  return hidden;
}

Result<GenerateResult> Session::generate(const GenerateRequest& request) {
  const auto started = Clock::now();
  NESTLING_TRY_VOID(check_prompt(request.prompt.ids));
  if (request.max_tokens < 0)
    return fail(ErrorCode::kUsage, "max_tokens: {}; 1 or more, or 0 for no limit, is allowed", request.max_tokens);
  NESTLING_TRY_VOID(request.sampling.check(engine_.config().text.vocab_size));
  NESTLING_TRY(StopStrings stops, StopStrings::create(request.stop));
  const TextConfig& config = engine_.config().text;
  const auto V = static_cast<size_t>(config.vocab_size);
  const auto context = static_cast<size_t>(engine_.options().context);
  const PleCounters ple_before = engine_.ple().counters();

  GenerateResult result;
  result.prompt_tokens = static_cast<int64_t>(request.prompt.ids.size());
  if (request.size.experimental)
    result.limits.push_back(fmt::format("size {} is experimental: no published size has these widths", request.size.name));
  reuse_prefix(request.prompt, request.size, result.limits);
  result.cached_tokens = position();
  NESTLING_TRY_VOID(check_media(request.prompt));
  NESTLING_TRY(const float* hidden, prefill(request));
  result.prefill_ms = milliseconds_since(started);

  Sampler sampler(request.sampling, config.vocab_size, config.vocab_size_per_layer_input);
  sampler.observe_prompt(request.prompt.ids);
  TextOutput output(engine_.tokenizer(), std::move(stops), request, result.text);
  const size_t room = context - request.prompt.ids.size() + 1;
  result.ids.reserve(request.max_tokens > 0 ? std::min(room, static_cast<size_t>(request.max_tokens)) : room);
  const auto decode_started = Clock::now();

  while (hidden != nullptr) {
    engine_.text().logits(engine_.kernels(), engine_.pool(), engine_.workspace(), hidden, 1, engine_.logits());
    Sampled sampled = sampler.sample({engine_.logits(), V});
    const int32_t id = sampled.id;
    result.ids.push_back(id);
    if (request.sampling.top_logprobs > 0) result.logprobs.push_back(std::move(sampled));
    if (result.ids.size() == 1) result.first_token_ms = milliseconds_since(started);
    if (request.use_stop_ids && std::ranges::find(engine_.stop_ids(), id) != engine_.stop_ids().end()) {
      result.finish_reason = "stop";
      break;
    }
    const bool last = static_cast<int64_t>(result.ids.size()) == request.max_tokens || ids_.size() == context;
    if (!last) request_ple(0, {&id, 1});  // on its way while the text goes out
    output.add(id);
    if (output.stopped())
      result.finish_reason = "stop";
    else if (static_cast<int64_t>(result.ids.size()) == request.max_tokens)
      result.finish_reason = "length";
    else if (last)
      result.finish_reason = "context";
    if (!result.finish_reason.empty() || is_cancelled(request)) break;
    NESTLING_TRY(hidden, forward({&id, 1}, {}, 1, request.size, 0));
  }
  if (result.finish_reason.empty()) result.finish_reason = "cancelled";
  output.finish();
  result.stop_string = output.matched();
  result.decode_ms = milliseconds_since(decode_started);
  result.completion_tokens = static_cast<int64_t>(result.ids.size());
  result.ple = difference(engine_.ple().counters(), ple_before);
  if (result.finish_reason == "context")
    result.limits.push_back(fmt::format("the answer ends because the context of {} tokens is full", context));
  engine_.pool().park();
  return result;
}

}  // namespace nestling
