// Session: one conversation's K/V and position. It always holds the K/V of a prefix of the ids it was given last, so a
// prompt that begins with the same ids pays only for what is new.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/text/kv_cache.h"
#include "runtime/engine.h"
#include "sampling/sampler.h"

namespace nestling {

// A prompt as the model reads it. `embeddings`: empty, or one pointer per id: the row [D] that replaces the token's
// embedding (soft tokens of pictures and sound), null elsewhere; `media_keys`: empty, or one number per id that tells two
// such rows apart (0 for text), so that a cached prefix is only reused for the same media. An id with a key and no row
// can only be reused: its picture or sound is gone.
struct PromptInput {
  std::vector<int32_t> ids;
  std::vector<const float*> embeddings;
  std::vector<uint64_t> media_keys;
  std::vector<std::shared_ptr<const std::vector<float>>> storage;  // keeps the rows alive

  // Makes this prompt go on with `next`.
  void append(PromptInput next);
  void truncate(size_t count);  // to the first `count` ids
};

struct GenerateRequest {
  PromptInput prompt;
  ModelSize size;
  SamplingParams sampling;
  int64_t max_tokens = 0;                          // 0: until a stop or the end of the context
  std::vector<std::string> stop;                   // stop strings
  bool use_stop_ids = true;                        // the model's own (1 and 106)
  // Most tokens that prompt lookup proposes for one pass (prompt_lookup.h), 0: off. The answer is the same, bit for bit.
  int64_t speculate = 0;
  const std::atomic<bool>* cancelled = nullptr;    // set by Ctrl-C
  // Called with every piece of text, complete characters only. Empty pieces are not reported.
  std::function<void(std::string_view piece)> on_text;
};

struct GenerateResult {
  std::string text;
  std::vector<int32_t> ids;          // generated, the stop id included
  std::vector<Sampled> logprobs;     // one per id when asked for
  std::string finish_reason;         // "stop", "length" (max_tokens), "context", "cancelled"
  std::string stop_string;           // the one that matched, or ""
  int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  int64_t proposed_tokens = 0, accepted_tokens = 0;  // accepted: each spared a pass
  double prefill_ms = 0, first_token_ms = 0, decode_ms = 0;
  PleCounters ple;                   // of this request
  std::vector<std::string> limits;   // whatever was cut, refused, scaled or read again, in words
};

class Session {
 public:
  explicit Session(Engine& engine);

  int64_t position() const { return static_cast<int64_t>(ids_.size()); }  // tokens whose K/V are held
  std::span<const int32_t> ids() const { return ids_; }

  // The one decode loop. Errors: kUsage (empty prompt, prompt longer than the context, an id out of range, sampling
  // parameters), storage errors.
  Result<GenerateResult> generate(const GenerateRequest& request);

  // Log-probability of every id but the first, given those before it (natural logarithm), [ids.size() - 1].
  Result<std::vector<double>> score(std::span<const int32_t> ids, const ModelSize& size,
                                    const std::atomic<bool>* cancelled = nullptr);

  // Saves ids, K/V, position and what they are tied to (config, weight and K/V types, widths), with `user_data` (text);
  // load() refuses a file that does not fit with the reason, and checks every count. A session file is a GGUF container.
  Status save(const std::filesystem::path& path, std::string_view user_data = "") const;
  Status load(const std::filesystem::path& path, std::string* user_data = nullptr);
  void clear();

  // A pass of the last token and those proposed must fit the logits.
  static constexpr int64_t kMostProposals = Engine::kLogitRows - 1;

 private:
  class Decoding;  // generate.cc

  Status check_prompt(std::span<const int32_t> ids) const;
  // kUsage: a medium that has to be read again has no rows.
  Status check_media(const PromptInput& prompt) const;
  // Keeps the longest prefix of `prompt` whose K/V are held and valid for `size` (at least one token is left to run).
  void reuse_prefix(const PromptInput& prompt, const ModelSize& size, std::vector<std::string>& limits);
  // Runs what is missing of the prompt; returns the final hidden state [D] of its last token, or null when cancelled.
  Result<const float*> prefill(const GenerateRequest& request);
  // Forgets all tokens but the first `count`; later passes overwrite their K/V.
  void keep(size_t count);
  // One pass over `ids` (their PLE rows requested under `ticket`), appended to the held tokens.
  Result<const float*> forward(std::span<const int32_t> ids, std::span<const float* const> embeddings, int64_t wanted,
                               const ModelSize& size, int ticket);
  void request_ple(int ticket, std::span<const int32_t> ids);

  Engine& engine_;
  std::unique_ptr<KvCache> kv_;
  std::vector<int32_t> ids_;          // tokens in K/V
  int64_t written_ = 0;               // positions that K/V were written for: more than ids_ where tokens were taken back
  std::vector<uint64_t> media_keys_;
  std::string kv_signature_;          // of the size that wrote them
  std::vector<int32_t> ple_ids_;      // scratch of request_ple
};

}  // namespace nestling
