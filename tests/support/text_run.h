// A conversation run pass by pass, with the cuts a test wants: for properties that compare bits.
#pragma once

#include <algorithm>
#include <vector>

#include "runtime/engine.h"
#include "support/test_package.h"

namespace nestling {

class TextRun {
 public:
  explicit TextRun(Engine& engine, ModelSize size)
      : engine_(engine), size_(std::move(size)), kv_(engine.config().text, {.type = *engine.options().kv,
                                                                             .context = engine.options().context,
                                                                             .max_chunk = engine.options().chunk}) {}
  explicit TextRun(Engine& engine) : TextRun(engine, engine.default_size()) {}

  void use(ModelSize size) { size_ = std::move(size); }

  // One pass; returns the logits [wanted, V] of its last `wanted` tokens.
  std::vector<float> pass(std::span<const int32_t> ids, int64_t wanted) {
    std::vector<int32_t> rows;
    for (const int32_t id : ids) rows.push_back(engine_.text().ple_row(id));
    engine_.ple().request(0, rows);
    const float* states = value_or_fail(engine_.text().forward(
        engine_.kernels(), engine_.pool(), engine_.workspace(),
        {.ids = ids, .embeddings = {}, .first_position = position_, .wanted = wanted, .size = &size_, .kv = &kv_,
         .ple = &engine_.ple(), .ple_ticket = 0, .taps = nullptr}));
    position_ += static_cast<int64_t>(ids.size());
    const int64_t D = engine_.config().text.hidden_size, V = engine_.config().text.vocab_size;
    const std::vector<float> hidden(states, states + wanted * D);
    std::vector<float> logits(static_cast<size_t>(wanted * V));
    for (int64_t i = 0; i < wanted; i += Engine::kLogitRows)
      engine_.text().logits(engine_.kernels(), engine_.pool(), engine_.workspace(), hidden.data() + i * D,
                            std::min(Engine::kLogitRows, wanted - i), logits.data() + i * V);
    return logits;
  }

  // All ids in passes of `chunk`; the logits of the last one.
  std::vector<float> last_logits(std::span<const int32_t> ids, size_t chunk) {
    std::vector<float> logits;
    for (size_t begin = 0; begin < ids.size(); begin += chunk) {
      const auto part = ids.subspan(begin, std::min(chunk, ids.size() - begin));
      logits = pass(part, begin + part.size() == ids.size() ? 1 : 0);
    }
    return logits;
  }

  // Logits of every position [ids.size(), V].
  std::vector<float> all_logits(std::span<const int32_t> ids, size_t chunk) {
    std::vector<float> logits;
    for (size_t begin = 0; begin < ids.size(); begin += chunk) {
      const auto part = ids.subspan(begin, std::min(chunk, ids.size() - begin));
      const std::vector<float> next = pass(part, static_cast<int64_t>(part.size()));
      logits.insert(logits.end(), next.begin(), next.end());
    }
    return logits;
  }

  // Every byte of K/V in use.
  std::vector<std::byte> kv_bytes() {
    std::vector<std::byte> bytes;
    for (const KvLayer& layer : kv_.owners())
      for (const auto part : layer.used(position_)) bytes.insert(bytes.end(), part.begin(), part.end());
    return bytes;
  }

 private:
  Engine& engine_;
  ModelSize size_;
  KvCache kv_;
  int64_t position_ = 0;
};

// Ids that use the whole vocabulary, the same on every run.
inline std::vector<int32_t> some_ids(int64_t count, int64_t vocabulary) {
  std::vector<int32_t> ids;
  uint64_t state = 12345;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    ids.push_back(static_cast<int32_t>((state >> 33) % static_cast<uint64_t>(vocabulary)));
  }
  return ids;
}

}  // namespace nestling
