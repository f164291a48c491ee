#include "runtime/session.h"

#include <algorithm>

namespace nestling {

void PromptInput::append(PromptInput next) {
  const size_t total = ids.size() + next.ids.size();
  ids.insert(ids.end(), next.ids.begin(), next.ids.end());
  const auto extend = [total](auto& mine, auto& theirs) {
    if (mine.empty() && theirs.empty()) return;
    mine.resize(total - (theirs.empty() ? 0 : theirs.size()));
    mine.insert(mine.end(), theirs.begin(), theirs.end());
    mine.resize(total);
  };
  extend(embeddings, next.embeddings);
  extend(media_keys, next.media_keys);
  storage.insert(storage.end(), next.storage.begin(), next.storage.end());
}

void PromptInput::truncate(size_t count) {
  ids.resize(std::min(count, ids.size()));
  if (embeddings.size() > count) embeddings.resize(count);
  if (media_keys.size() > count) media_keys.resize(count);
}

Session::Session(Engine& engine)
    : engine_(engine),
      kv_(std::make_unique<KvCache>(engine.config().text, KvCacheOptions{.type = *engine.options().kv,
                                                                          .context = engine.options().context,
                                                                          .max_chunk = engine.options().chunk})) {
  ids_.reserve(static_cast<size_t>(engine.options().context));
  media_keys_.reserve(static_cast<size_t>(engine.options().context));
  ple_ids_.reserve(static_cast<size_t>(engine.options().chunk));
}

void Session::clear() {
  ids_.clear();
  media_keys_.clear();
  kv_signature_.clear();
  written_ = 0;
  kv_->clear();
}

void Session::keep(size_t count) {
  ids_.resize(count);
  media_keys_.resize(count);
  if (count == 0) written_ = 0;  // nothing is left that an earlier token could have overwritten
}

void Session::request_ple(int ticket, std::span<const int32_t> ids) {
  ple_ids_.clear();
  for (const int32_t id : ids) ple_ids_.push_back(engine_.text().ple_row(id));
  engine_.ple().request(ticket, ple_ids_);
}

Result<const float*> Session::forward(std::span<const int32_t> ids, std::span<const float* const> embeddings,
                                      int64_t wanted, const ModelSize& size, int ticket) {
  const TextPass pass{.ids = ids,
                      .embeddings = embeddings,
                      .first_position = position(),
                      .wanted = wanted,
                      .size = &size,
                      .kv = kv_.get(),
                      .ple = &engine_.ple(),
                      .ple_ticket = ticket};
  written_ = std::max(written_, position() + static_cast<int64_t>(ids.size()));
  NESTLING_TRY(const float* hidden,
               engine_.text().forward(engine_.kernels(), engine_.pool(), engine_.workspace(), pass));
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  media_keys_.resize(ids_.size(), 0);
  return hidden;
}

Result<std::vector<double>> Session::score(std::span<const int32_t> ids, const ModelSize& size,
                                           const std::atomic<bool>* cancelled) {
  NESTLING_TRY_VOID(check_prompt(ids));
  clear();
  kv_signature_ = size.kv_signature(engine_.config().text);
  const auto chunk = static_cast<size_t>(engine_.options().chunk), D = static_cast<size_t>(engine_.config().text.hidden_size);
  const auto V = static_cast<size_t>(engine_.config().text.vocab_size);
  std::vector<double> result;
  std::vector<float> hidden;
  for (size_t begin = 0; begin < ids.size(); begin += chunk) {
    if (cancelled != nullptr && *cancelled) return fail(ErrorCode::kCancelled, "interrupted");
    const auto part = ids.subspan(begin, std::min(chunk, ids.size() - begin));
    request_ple(0, part);
    NESTLING_TRY(const float* states, forward(part, {}, static_cast<int64_t>(part.size()), size, 0));
    hidden.assign(states, states + part.size() * D);  // computing logits uses the workspace
    for (size_t row = 0; row < part.size(); row += Engine::kLogitRows) {
      const size_t rows = std::min<size_t>(Engine::kLogitRows, part.size() - row);
      engine_.text().logits(engine_.kernels(), engine_.pool(), engine_.workspace(), hidden.data() + row * D,
                            static_cast<int64_t>(rows), engine_.logits());
      for (size_t i = 0; i < rows && begin + row + i + 1 < ids.size(); ++i)
        result.push_back(log_probability({engine_.logits() + i * V, V}, ids[begin + row + i + 1]));
    }
  }
  engine_.pool().park();
  return result;
}

}  // namespace nestling
