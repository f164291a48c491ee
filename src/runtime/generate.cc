// Session::generate: the one decode loop. Streaming is a callback, sampling a parameter, speculation a source of more rows
// for a pass.
#include <algorithm>
#include <chrono>

#include "runtime/prompt_lookup.h"
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
  if (!kv_->can_rewind(written_, static_cast<int64_t>(common))) {
    limits.push_back(fmt::format("the prompt departs from the conversation at token {}, farther back than the sliding "
                                 "window keeps: all of it is read again", common));
    common = 0;
  }
  keep(common);
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

// An answer in the making: what the rows of a pass predict becomes tokens and text, and these choose the next pass.
class Session::Decoding {
 public:
  Decoding(Session& session, const GenerateRequest& request, StopStrings stops, Clock::time_point started,
           GenerateResult& result)
      : session_(session), engine_(session.engine_), request_(request), result_(result), started_(started),
        context_(engine_.options().context), vocabulary_(engine_.config().text.vocab_size),
        allowed_(engine_.config().text.vocab_size_per_layer_input),
        output_(engine_.tokenizer(), std::move(stops), request, result.text),
        sampler_(request.sampling, vocabulary_, allowed_),
        lookup_(request.prompt.ids, static_cast<size_t>(context_) + 1, allowed_),
        budget_(std::min(request.speculate, engine_.options().chunk - 1)) {
    sampler_.observe_prompt(request.prompt.ids);
    const int64_t room = context_ - result.prompt_tokens + 1;
    result.ids.reserve(static_cast<size_t>(request.max_tokens > 0 ? std::min(room, request.max_tokens) : room));
    pass_ = lookup_.next_pass(0);
  }

  // `hidden`: of the last token of the prompt; null when cancelled.
  Status run(const float* hidden) {
    while (hidden != nullptr) {
      const auto rows = static_cast<int64_t>(pass_.size());
      engine_.text().logits(engine_.kernels(), engine_.pool(), engine_.workspace(), hidden, rows, engine_.logits());
      if (!take_rows()) break;
      NESTLING_TRY(hidden, session_.forward(pass_, {}, static_cast<int64_t>(pass_.size()), request_.size, 0));
    }
    if (result_.finish_reason.empty()) result_.finish_reason = "cancelled";
    output_.finish();
    result_.stop_string = output_.matched();
    result_.completion_tokens = count();
    return {};
  }

 private:
  int64_t count() const { return static_cast<int64_t>(result_.ids.size()); }

  // Row i predicts what follows the i-th token of the pass. It counts as long as every proposed token before it is the one
  // that was picked: so each token is picked from the logits, and in the order, that one row a pass would give. The session
  // holds what such passes would have left. Returns whether the answer goes on.
  bool take_rows() {
    const size_t proposed = pass_.size() - 1;
    result_.proposed_tokens += static_cast<int64_t>(proposed);
    session_.keep(session_.ids_.size() - proposed);
    for (size_t row = 0;; ++row) {
      const int32_t id = pick(row);
      if (request_.use_stop_ids && std::ranges::find(engine_.stop_ids(), id) != engine_.stop_ids().end()) {
        result_.finish_reason = "stop";
        return false;
      }
      const bool last = count() == request_.max_tokens || session_.position() == context_;
      const bool as_proposed = row < proposed && id == pass_[row + 1];
      if (!last && !as_proposed) {
        budget_.record(static_cast<int64_t>(proposed), static_cast<int64_t>(row));
        choose_pass();  // its PLE rows are on their way while the text goes out
      }
      output_.add(id);
      if (output_.stopped())
        result_.finish_reason = "stop";
      else if (count() == request_.max_tokens)
        result_.finish_reason = "length";
      else if (last)
        result_.finish_reason = "context";
      if (!result_.finish_reason.empty() || is_cancelled(request_)) return false;
      if (!as_proposed) return true;
      session_.ids_.push_back(id);
      session_.media_keys_.push_back(0);
      ++result_.accepted_tokens;
    }
  }

  int32_t pick(size_t row) {
    const auto V = static_cast<size_t>(vocabulary_);
    Sampled sampled = sampler_.sample({engine_.logits() + row * V, V});
    const int32_t id = sampled.id;
    result_.ids.push_back(id);
    lookup_.add(id);
    if (request_.sampling.top_logprobs > 0) result_.logprobs.push_back(std::move(sampled));
    if (count() == 1) result_.first_token_ms = milliseconds_since(started_);
    return id;
  }

  // The token picked last, and as many after it as the budget, the context and max_tokens have room for.
  void choose_pass() {
    int64_t most = std::min(budget_.length(), context_ - session_.position() - 1);
    if (request_.max_tokens > 0) most = std::min(most, request_.max_tokens - count() - 1);
    pass_ = lookup_.next_pass(static_cast<size_t>(most));
    session_.request_ple(0, pass_);
  }

  Session& session_;
  Engine& engine_;
  const GenerateRequest& request_;
  GenerateResult& result_;
  const Clock::time_point started_;
  const int64_t context_, vocabulary_, allowed_;
  TextOutput output_;
  Sampler sampler_;
  PromptLookup lookup_;
  ProposalBudget budget_;
  std::span<const int32_t> pass_;  // ids of the pass whose rows come next
};

Result<GenerateResult> Session::generate(const GenerateRequest& request) {
  const auto started = Clock::now();
  NESTLING_TRY_VOID(check_prompt(request.prompt.ids));
  if (request.max_tokens < 0)
    return fail(ErrorCode::kUsage, "max_tokens: {}; 1 or more, or 0 for no limit, is allowed", request.max_tokens);
  if (request.speculate < 0 || request.speculate > kMostProposals)
    return fail(ErrorCode::kUsage, "speculate: {}; 0 (off) to {} proposed tokens a pass are allowed", request.speculate,
                kMostProposals);
  NESTLING_TRY_VOID(request.sampling.check(engine_.config().text.vocab_size));
  NESTLING_TRY(StopStrings stops, StopStrings::create(request.stop));
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

  Decoding decoding(*this, request, std::move(stops), started, result);
  const auto decode_started = Clock::now();
  NESTLING_TRY_VOID(decoding.run(hidden));
  result.decode_ms = milliseconds_since(decode_started);
  result.ple = difference(engine_.ple().counters(), ple_before);
  if (result.finish_reason == "context")
    result.limits.push_back(fmt::format("the answer ends because the context of {} tokens is full",
                                        engine_.options().context));
  engine_.pool().park();
  return result;
}

}  // namespace nestling
