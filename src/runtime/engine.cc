#include "runtime/engine.h"

#include <algorithm>
#include <chrono>

#include "base/log.h"

namespace nestling {
namespace {

Status check_options(const EngineOptions& o, const TextConfig& config) {
  if (o.threads < 0 || o.threads > EngineOptions::kMaxThreads)
    return fail(ErrorCode::kUsage, "threads: {}; 1 to {} are allowed, 0 chooses", o.threads, EngineOptions::kMaxThreads);
  if (o.context < EngineOptions::kMinContext || o.context > config.max_position_embeddings)
    return fail(ErrorCode::kUsage, "context: {} tokens; {} to {} are allowed by this model", o.context,
                EngineOptions::kMinContext, config.max_position_embeddings);
  if (o.chunk < 1 || o.chunk > EngineOptions::kMaxChunk)
    return fail(ErrorCode::kUsage, "chunk: {} tokens; 1 to {} are allowed", o.chunk, EngineOptions::kMaxChunk);
  return {};
}

// Widths of a size must not cut a block of shared scales.
int64_t quantization_group(const TextModel& text) {
  return is_quantized(text.weights().layers.front().down_proj.type) ? kQuantBlock : 1;
}

}  // namespace

Result<ModelSize> Engine::size(std::string_view text) const {
  if (text.empty()) return default_size_;
  return parse_size(text, config_.text, quantization_group(text_));
}

Result<const Tokenizer*> Engine::require_tokenizer() const {
  if (tokenizer_ == nullptr)
    return fail(ErrorCode::kModel, "{}: holds no tokenizer; the checkpoint had neither tokenizer.model nor tokenizer.json",
                package_.file().path().string());
  return tokenizer_.get();
}

void Engine::release_modalities() {
  package_.release_region(Region::kVision);
  package_.release_region(Region::kAudio);
}

Result<std::unique_ptr<Engine>> Engine::open(const std::filesystem::path& path, const EngineOptions& options) {
  const auto started = std::chrono::steady_clock::now();
  NESTLING_TRY(Kernels kernels, Kernels::choose());
  NESTLING_TRY(Package package, Package::open(path));
  std::unique_ptr<Engine> engine(new Engine(std::move(package), kernels));
  Engine& e = *engine;
  e.options_ = options;
  NESTLING_TRY(e.config_, config_from_json(e.package_.info().config_json, path.string()));
  NESTLING_TRY_VOID(check_options(options, e.config_.text));
  NESTLING_TRY(e.text_, TextModel::bind(e.package_, e.config_.text));
  if (e.options_.threads == 0) e.options_.threads = default_thread_count();
  if (!e.options_.kv)
    e.options_.kv = e.text_.weights().embed_tokens.type == WeightType::kF32 ? KvType::kF32 : KvType::kBF16;
  NESTLING_TRY_VOID(e.plan_and_reserve());
  e.load_ms_ = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - started).count();
  return engine;
}

MemoryRequest Engine::memory_request(const ModelSize& size) const {
  return {.size = size, .context = options_.context, .chunk = options_.chunk, .kv = *options_.kv, .ple = options_.ple,
          .threads = options_.threads};
}

Status Engine::plan_and_reserve() {
  options_.chunk = std::min(options_.chunk, options_.context);
  MemoryRequest request = memory_request({});
  NESTLING_TRY(request.size, choose_size(package_, config_, request, options_.size, quantization_group(text_),
                                         options_.memory_budget, notes_));
  default_size_ = request.size;
  if (options_.memory_budget)
    NESTLING_TRY_VOID(check_budget(package_, config_, request, *options_.memory_budget));
  plan_ = plan_memory(package_, config_, request);
  if (const uint64_t available = available_memory_bytes(); available > 0 && plan_.resident() > available)
    notes_.push_back(fmt::format("the plan needs {:.0f} MB, {:.0f} MB are available", plan_.resident() / 1e6,
                                 available / 1e6));
  for (const std::string& note : notes_) spdlog::warn("{}", note);

  stop_ids_ = config_.generation.stop_ids;
  if (!package_.info().tokenizer.empty()) {
    NESTLING_TRY(tokenizer_, Tokenizer::load(package_.info().tokenizer));
    if (const auto end_of_turn = tokenizer_->find("<end_of_turn>")) stop_ids_.push_back(*end_of_turn);
  }
  pool_ = std::make_unique<ThreadPool>(options_.threads, options_.threads <= available_core_count());
  workspace_ = std::make_unique<Workspace>(config_.text, options_.chunk, options_.threads);
  NESTLING_TRY(ple_, PleStore::create(package_.file(), text_.weights().ple, options_.ple, options_.chunk));
  logits_ = AlignedArray<float>(static_cast<uint64_t>(kLogitRows * config_.text.vocab_size));
  return {};
}

}  // namespace nestling
