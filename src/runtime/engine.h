// Engine: one open model with everything that conversations share. Weights are const; a size is a value per request.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "model/text/text_model.h"
#include "runtime/memory_plan.h"
#include "runtime/towers.h"
#include "storage/package.h"
#include "text/tokenizer.h"

namespace nestling {

struct EngineOptions {
  int threads = 0;                        // 0: default_thread_count()
  int64_t worth_sharing = ThreadPool::kWorthSharing;  // work below it is done by one thread; 0 in tests of small models
  int64_t context = 4096;                 // tokens a conversation may hold, prompt and answer
  int64_t chunk = 256;                    // most prompt tokens of one pass
  std::optional<KvType> kv;               // default bf16; f32 when the weights are f32
  PleOptions ple;
  std::optional<uint64_t> memory_budget;  // bytes; a plan above it is refused
  std::string size;                       // size the plan is made for: name, list, "auto" or "" (full)
  // Pictures of this many pixels a side (0: as the model says), and sounds, are about to come: the size auto and the
  // budget count what they need. Without it a modality enters the plan when it is first used.
  std::optional<int64_t> pictures;
  bool sounds = false;

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
  static constexpr int64_t kLogitRows = 8;
  static constexpr int64_t kMinPlannedContext = 256;  // smallest context that an over-budget message proposes

  // Null when the checkpoint had no tokenizer: ids only.
  const Tokenizer* tokenizer() const { return tokenizer_.get(); }
  Result<const Tokenizer*> require_tokenizer() const;

  // Ids that end an answer: those of the model's configuration, and <end_of_turn> where the tokenizer has it.
  std::span<const int64_t> stop_ids() const { return stop_ids_; }

  // The size the engine was opened for, and any other of the same file (parse_size; quantisation group of the weights).
  const ModelSize& default_size() const { return default_size_; }
  Result<ModelSize> size(std::string_view text) const;

  // Pictures and sounds. Each is loaded when it is first used and counted in the plan from then on. kModel: the model does
  // not hold it; kBudget: the plan does not fit. Audio weights stay on storage where the budget has no room for them.
  Towers& towers() { return *towers_; }
  const Towers& towers() const { return *towers_; }
  Status load_vision(int64_t image_size);
  Status load_sound();
  // The size a picture is scaled to, as the model's preprocessor says.
  int64_t default_image_size() const;
  // Drops the vision and audio parameters from memory; the next picture or sound loads them again. Embeddings made from
  // them before stay valid: they are copies.
  void release_modalities() { towers_->release(); }

  const MemoryPlan& plan() const { return plan_; }
  double load_ms() const { return load_ms_; }
  // In words, whatever was scaled, warned of or chosen without being asked (for `limits[]`; the log has it too).
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  Engine(Package package, Kernels kernels) : package_(std::move(package)), kernels_(kernels) {}
  Status choose_default_size();
  Status plan_and_reserve();
  Status measure_vision(int64_t image_size);
  Status measure_sound(AudioWeights weights);
  Status stream_sound_if_tight();
  Status hold_budget() const;
  bool fits_budget() const;
  void note(std::string text);
  void note_streamed_sound();

  EngineOptions options_;
  Package package_;
  Kernels kernels_;
  ModelConfig config_;
  TextModel text_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Towers> towers_;
  std::unique_ptr<Workspace> workspace_;
  std::unique_ptr<PleStore> ple_;
  AlignedArray<float> logits_;
  std::vector<int64_t> stop_ids_;
  ModelSize default_size_;
  MemoryRequest request_;  // what plan_ was made for
  MemoryPlan plan_;
  double load_ms_ = 0;
  std::vector<std::string> notes_;
};

}  // namespace nestling
