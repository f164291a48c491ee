// Engine: one open model with everything that conversations share. Weights are const; a size is a value per request.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "model/text/text_model.h"
#include "runtime/memory_plan.h"
#include "storage/package.h"
#include "text/tokenizer.h"

namespace nestling {

struct EngineOptions {
  int threads = 0;                        // 0: default_thread_count()
  int64_t context = 4096;                 // tokens a conversation may hold, prompt and answer
  int64_t chunk = 256;                    // most prompt tokens of one pass
  std::optional<KvType> kv;               // default bf16; f32 when the weights are f32
  PleOptions ple;
  std::optional<uint64_t> memory_budget;  // bytes; a plan above it is refused
  std::string size;                       // size the plan is made for: name, list, "auto" or "" (full)

  static constexpr int64_t kMinContext = 16;
  static constexpr int64_t kMaxChunk = 4096;
  static constexpr int kMaxThreads = 256;
};

class Engine {
 public:
  // Opens a package (importing/cache.h makes one from a checkpoint). Errors: kUsage for options out of range, kModel for
  // the package, kBudget for the plan.
  static Result<std::unique_ptr<Engine>> open(const std::filesystem::path& package, const EngineOptions& options);

  const EngineOptions& options() const { return options_; }  // with defaults filled in
  const ModelConfig& config() const { return config_; }
  const TextModel& text() const { return text_; }
  const Kernels& kernels() const { return kernels_; }
  Package& package() { return package_; }
  ThreadPool& pool() { return *pool_; }
  Workspace& workspace() { return *workspace_; }
  PleStore& ple() { return *ple_; }
  // Logits of up to kLogitRows positions, [kLogitRows, V].
  float* logits() { return logits_.data(); }
  static constexpr int64_t kLogitRows = 4;
  static constexpr int64_t kMinPlannedContext = 256;  // smallest context that an over-budget message proposes

  // Null when the checkpoint had no tokenizer: ids only.
  const Tokenizer* tokenizer() const { return tokenizer_.get(); }
  Result<const Tokenizer*> require_tokenizer() const;

  // Ids that end an answer: those of the model's configuration, and <end_of_turn> where the tokenizer has it.
  std::span<const int64_t> stop_ids() const { return stop_ids_; }

  // The size the engine was opened for, and any other of the same file (parse_size; quantisation group of the weights).
  const ModelSize& default_size() const { return default_size_; }
  Result<ModelSize> size(std::string_view text) const;
  // Drops the vision and audio parameters from memory; the next picture or sound loads them again. Embeddings made from
  // them before stay valid: they are copies.
  void release_modalities();

  const MemoryPlan& plan() const { return plan_; }
  double load_ms() const { return load_ms_; }
  // In words, whatever opening scaled, warned of or chose by itself (for `limits[]` and the log).
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  Engine(Package package, Kernels kernels) : package_(std::move(package)), kernels_(kernels) {}
  MemoryRequest memory_request(const ModelSize& size) const;
  Status plan_and_reserve();

  EngineOptions options_;
  Package package_;
  Kernels kernels_;
  ModelConfig config_;
  TextModel text_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Workspace> workspace_;
  std::unique_ptr<PleStore> ple_;
  AlignedArray<float> logits_;
  std::vector<int64_t> stop_ids_;
  ModelSize default_size_;
  MemoryPlan plan_;
  double load_ms_ = 0;
  std::vector<std::string> notes_;
};

}  // namespace nestling
