#include "runtime/trace.h"

#include <algorithm>

#include <fnmatch.h>

#include "model/text/kv_cache.h"

namespace nestling {
namespace {

// The state of a traced run: like a session without sampling, but with taps and the logits of every position.
class Tracer {
 public:
  Tracer(Engine& engine, const ModelSize& size)
      : engine_(engine), size_(size), kv_(engine.config().text, {.type = *engine.options().kv,
                                                                 .context = engine.options().context,
                                                                 .max_chunk = engine.options().chunk}) {}

  // Logits [wanted, V] of the last `wanted` ids.
  Result<std::vector<float>> run(std::span<const int32_t> ids, std::span<const float* const> embeddings, int64_t wanted,
                                 Taps* taps) {
    std::vector<int32_t> rows;
    for (const int32_t id : ids) rows.push_back(engine_.text().ple_row(id));
    engine_.ple().request(0, rows);
    NESTLING_TRY(const float* states,
                 engine_.text().forward(engine_.kernels(), engine_.pool(), engine_.workspace(),
                                        {.ids = ids, .embeddings = embeddings, .first_position = position_,
                                         .wanted = wanted, .size = &size_, .kv = &kv_, .ple = &engine_.ple(),
                                         .ple_ticket = 0, .taps = taps}));
    position_ += static_cast<int64_t>(ids.size());
    const auto D = engine_.config().text.hidden_size, V = engine_.config().text.vocab_size;
    const std::vector<float> hidden(states, states + wanted * D);  // computing logits uses the workspace
    std::vector<float> logits(static_cast<size_t>(wanted * V));
    for (int64_t row = 0; row < wanted; row += Engine::kLogitRows)
      engine_.text().logits(engine_.kernels(), engine_.pool(), engine_.workspace(), hidden.data() + row * D,
                            std::min(Engine::kLogitRows, wanted - row), logits.data() + row * V);
    return logits;
  }

 private:
  Engine& engine_;
  const ModelSize& size_;
  KvCache kv_;
  int64_t position_ = 0;
};

Status check(const Engine& engine, const TraceRequest& request) {
  const auto count = static_cast<int64_t>(request.ids.size());
  if (count == 0) return fail(ErrorCode::kUsage, "trace: no token ids; at least one is needed");
  if (count > engine.options().chunk)
    return fail(ErrorCode::kUsage, "trace: {} token ids; at most {} are traced in one pass", count,
                engine.options().chunk);
  if (count + request.generate > engine.options().context)
    return fail(ErrorCode::kUsage, "trace: {} token ids and {} to generate; the context holds {}", count,
                request.generate, engine.options().context);
  for (const int32_t id : request.ids)
    if (id < 0 || id >= engine.config().text.vocab_size)
      return fail(ErrorCode::kUsage, "token id {} is outside the vocabulary of {}", id, engine.config().text.vocab_size);
  return {};
}

}  // namespace

bool TraceRecorder::wants(const std::string& name) const {
  return pattern_.empty() || ::fnmatch(pattern_.c_str(), name.c_str(), 0) == 0;
}

void TraceRecorder::record(const std::string& name, const std::vector<int64_t>& shape, const float* data,
                           int64_t outer_stride) {
  if (!wants(name)) return;
  TraceTensor tensor{.name = name, .shape = shape};
  int64_t inner = 1;
  for (size_t i = 1; i < shape.size(); ++i) inner *= shape[i];
  for (int64_t i = 0; i < shape[0]; ++i)
    tensor.floats.insert(tensor.floats.end(), data + i * outer_stride, data + i * outer_stride + inner);
  keep(std::move(tensor));
}

void TraceRecorder::keep(TraceTensor tensor) {
  if (const int times = ++times_[tensor.name]; times > 1) tensor.name += fmt::format("@{}", times);
  tensors_.push_back(std::move(tensor));
}

void TraceRecorder::record_integers(const std::string& name, std::vector<int64_t> values) {
  if (!wants(name)) return;
  const auto n = static_cast<int64_t>(values.size());
  keep({.name = name, .shape = {n}, .floats = {}, .integers = std::move(values)});
}

Result<TraceFeatures> trace_media(Towers& towers, const TraceMedia& media, TraceRecorder& recorder) {
  TraceFeatures features;
  for (const TraceMedia::Picture& picture : media.pictures) {
    NESTLING_TRY_VOID(towers.vision.modality().require("picture"));
    NESTLING_TRY(std::vector<float> rows, towers.vision.encode(picture.pixels, picture.size, &recorder));
    features.images.push_back({.rows = std::move(rows), .valid = {}});
  }
  std::vector<LogMel> mels;
  for (const std::vector<float>& samples : media.waveforms) mels.push_back(towers.sound.front_end().extract(samples));
  mels.insert(mels.end(), media.mels.begin(), media.mels.end());
  for (const LogMel& mel : mels) {
    NESTLING_TRY_VOID(towers.sound.modality().require("sound"));
    NESTLING_TRY_VOID(towers.sound.load(AudioWeights::kResident));
    recorder.record("mel.log_mel", {mel.frames, towers.sound.front_end().bins()}, mel.values.data());
    recorder.record_integers("mel.mask", {mel.mask.begin(), mel.mask.end()});
    MediaFeatures sound;
    NESTLING_TRY(sound.rows, towers.sound.encode(mel, sound.valid, &recorder));
    recorder.record_integers("audio.reduced_mask", {sound.valid.begin(), sound.valid.end()});
    features.sounds.push_back(std::move(sound));
  }
  return features;
}

Status trace_soft_tokens(Towers& towers, const TraceFeatures& features, TraceRecorder& recorder) {
  for (const MediaFeatures& image : features.images)
    NESTLING_TRY_VOID(soft_tokens(towers.vision.modality(), image, 0, &recorder));
  for (const MediaFeatures& sound : features.sounds)
    NESTLING_TRY_VOID(soft_tokens(towers.sound.modality(), sound,
                                  towers.context.config->audio_soft_tokens_per_image, &recorder));
  return {};
}

// Picks over all ids may be of a multimodal vocabulary: such an id is a hard token, even a placeholder. Null for others.
static Result<const float*> generated_row(Towers& towers, int32_t id) {
  for (Modality* modality : {&towers.vision.modality(), &towers.sound.modality()}) {
    if (!modality->exists() || !modality->has(id)) continue;
    NESTLING_TRY(const std::vector<float>* row, modality->hard(id));
    return row->data();
  }
  return nullptr;
}

Status trace_text(Engine& engine, const TraceRequest& request, TraceRecorder& recorder) {
  NESTLING_TRY_VOID(check(engine, request));
  NESTLING_TRY(const MultimodalRows rows,
               embed_multimodal(engine.towers(), request.ids, request.media.images, request.media.sounds,
                                &recorder));
  const int64_t V = engine.config().text.vocab_size, T = static_cast<int64_t>(request.ids.size());
  const int64_t wanted = request.all_logits ? T : 1;
  Tracer tracer(engine, request.size);
  NESTLING_TRY(std::vector<float> logits, tracer.run(request.ids, rows.embeddings, wanted, &recorder));
  if (request.all_logits) recorder.record("logits", {T, V}, logits.data());
  const float* last = logits.data() + (wanted - 1) * V;
  recorder.record("logits_last", {V}, last, 1);

  if (request.generate > 0) {
    std::vector<float> step_logits(last, last + V);
    std::vector<int64_t> generated;
    for (int64_t i = 0; i < request.generate; ++i) {
      const auto row = std::span(step_logits).last(static_cast<size_t>(V));
      const auto id = static_cast<int32_t>(std::ranges::max_element(row) - row.begin());
      generated.push_back(id);
      NESTLING_TRY(const float* row_of_id, generated_row(engine.towers(), id));
      NESTLING_TRY(const std::vector<float> next, tracer.run({&id, 1}, {&row_of_id, 1}, 1, nullptr));
      step_logits.insert(step_logits.end(), next.begin(), next.end());
    }
    recorder.record_integers("generated_ids", std::move(generated));
    recorder.record("step_logits", {request.generate + 1, V}, step_logits.data());
  }
  engine.pool().park();
  return {};
}

}  // namespace nestling
