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

void Engine::note(std::string text) {
  spdlog::warn("{}", text);
  notes_.push_back(std::move(text));
}

int64_t Engine::default_image_size() const { return config_.vision ? config_.vision->image_size : 768; }

bool Engine::fits_budget() const {
  return !options_.memory_budget ||
         plan_memory(package_, config_, request_).resident() <= *options_.memory_budget;
}

Status Engine::hold_budget() const {
  if (!options_.memory_budget) return {};
  return check_budget(package_, config_, request_, *options_.memory_budget);
}

// Binding reads next to nothing; only a bound encoder knows what it will need.
Status Engine::measure_vision(int64_t image_size) {
  NESTLING_TRY_VOID(towers_->vision.load());
  request_.vision = true;
  request_.vision_workspace = std::max(request_.vision_workspace, towers_->vision.workspace_bytes(image_size));
  return {};
}

Status Engine::measure_sound(AudioWeights weights) {
  if (towers_->sound.is_loaded() && towers_->sound.weights() != weights) towers_->sound.release();
  NESTLING_TRY_VOID(towers_->sound.load(weights));
  request_.audio = true;
  request_.audio_weights = weights;
  request_.audio_workspace = towers_->sound.workspace_bytes();
  return {};
}

Status Engine::load_vision(int64_t image_size) {
  const MemoryRequest before = request_;
  Status loaded = measure_vision(image_size);
  if (loaded) loaded = hold_budget();
  if (!loaded) {
    request_ = before;
    towers_->vision.release();
    return loaded;
  }
  plan_ = plan_memory(package_, config_, request_);
  return {};
}

Status Engine::load_sound() {
  if (towers_->sound.is_loaded()) return {};
  const MemoryRequest before = request_;
  Status loaded = measure_sound(request_.audio ? request_.audio_weights : AudioWeights::kResident);
  if (loaded) loaded = stream_sound_if_tight();
  if (loaded) loaded = hold_budget();
  if (!loaded) {
    request_ = before;
    towers_->sound.release();
    return loaded;
  }
  plan_ = plan_memory(package_, config_, request_);
  return {};
}

Status Engine::stream_sound_if_tight() {
  if (request_.audio_weights == AudioWeights::kStreamed || fits_budget()) return {};
  NESTLING_TRY_VOID(measure_sound(AudioWeights::kStreamed));
  if (fits_budget()) note_streamed_sound();
  return {};
}

void Engine::note_streamed_sound() {
  note(fmt::format("the memory has no room for the audio layers ({:.0f} MB): they are read from storage for every {} s of "
                   "sound", static_cast<double>(package_.region_bytes(Region::kAudio)) / 1e6,
                   Sound::kStreamedFrames * kMelHopLength / kAudioSampleRate));
}

// With the parts that are about to be used; one that the model does not hold is refused when it is used.
Status Engine::choose_default_size() {
  if (options_.pictures && towers_->vision.modality().exists())
    NESTLING_TRY_VOID(measure_vision(*options_.pictures > 0 ? *options_.pictures : default_image_size()));
  const bool sounds = options_.sounds && towers_->sound.modality().exists();
  if (sounds) NESTLING_TRY_VOID(measure_sound(AudioWeights::kResident));
  std::vector<std::string> notes;
  const auto choose = [&] {
    notes.clear();
    return choose_size(package_, config_, request_, options_.size, quantization_group(text_), options_.memory_budget,
                       notes);
  };
  Result<ModelSize> size = choose();
  // A larger size is worth more than audio layers in memory, which cost time once a clip.
  if (sounds && options_.size == "auto" && (!size || size->layers != full_size(config_.text).layers)) {
    NESTLING_TRY_VOID(measure_sound(AudioWeights::kStreamed));
    Result<ModelSize> larger = choose();
    if (size && larger && larger->layers == size->layers) NESTLING_TRY_VOID(measure_sound(AudioWeights::kResident));
    else note_streamed_sound();
    size = std::move(larger);
  }
  NESTLING_TRY(request_.size, std::move(size));
  default_size_ = request_.size;
  for (std::string& text : notes) note(std::move(text));
  return sounds ? stream_sound_if_tight() : Status();
}

Status Engine::plan_and_reserve() {
  options_.chunk = std::min(options_.chunk, options_.context);
  pool_ = std::make_unique<ThreadPool>(options_.threads, options_.threads <= available_core_count(),
                                       options_.worth_sharing);
  towers_ = std::make_unique<Towers>(TowerContext{&package_, &kernels_, pool_.get(), &config_});
  request_ = {.context = options_.context, .chunk = options_.chunk, .kv = *options_.kv, .ple = options_.ple,
              .threads = options_.threads};
  NESTLING_TRY_VOID(choose_default_size());
  NESTLING_TRY_VOID(hold_budget());
  plan_ = plan_memory(package_, config_, request_);
  if (const uint64_t available = available_memory_bytes(); available > 0 && plan_.resident() > available)
    note(fmt::format("the plan needs {:.0f} MB, {:.0f} MB are available", plan_.resident() / 1e6, available / 1e6));

  stop_ids_ = config_.generation.stop_ids;
  if (!package_.info().tokenizer.empty()) {
    NESTLING_TRY(tokenizer_, Tokenizer::load(package_.info().tokenizer));
    if (const auto end_of_turn = tokenizer_->find("<end_of_turn>")) stop_ids_.push_back(*end_of_turn);
  }
  workspace_ = std::make_unique<Workspace>(config_.text, options_.chunk, options_.threads);
  NESTLING_TRY(ple_, PleStore::create(package_.file(), text_.weights().ple, options_.ple, options_.chunk));
  logits_ = AlignedArray<float>(static_cast<uint64_t>(kLogitRows * config_.text.vocab_size));
  return {};
}

}  // namespace nestling
