// nestling trace: a forward pass with every named intermediate written to a safetensors file.
#include <algorithm>
#include <memory>

#include <CLI/CLI.hpp>

#include "command.h"
#include "model_source.h"
#include "options.h"
#include "output.h"
#include "storage/safetensors.h"
#include "text/chat_template.h"
#include "trace_inputs.h"

namespace nestling {
namespace {

struct TraceOptions {
  ModelChoice model;
  EngineOptions engine;
  std::string output, inputs, ids, logits = "all", only;
  std::vector<std::string> pixels, mels;
  std::vector<ContentArgument> content;  // -p, --image and --audio, in order
  int64_t image_size = 0, generate = 0;
  bool has_prompt() const {
    return std::ranges::count(content, ContentKind::kText, &ContentArgument::kind) > 0;
  }
};

Status write_trace(const std::string& path, const std::vector<TraceTensor>& tensors) {
  std::vector<SafetensorsPlan> plan;
  for (const TraceTensor& t : tensors)
    plan.push_back({t.name, t.integers.empty() ? SafetensorsType::kF32 : SafetensorsType::kI64, t.shape});
  NESTLING_TRY(SafetensorsWriter writer, SafetensorsWriter::create(path, {{"format", "pt"}}, plan));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto bytes = tensors[i].integers.empty() ? std::as_bytes(std::span(tensors[i].floats))
                                                   : std::as_bytes(std::span(tensors[i].integers));
    NESTLING_TRY_VOID(writer.write(i, 0, bytes));
  }
  return writer.commit();
}

Status check_options(const TraceOptions& options) {
  if (options.logits != "all" && options.logits != "last")
    return fail(ErrorCode::kUsage, "--logits {}: all or last is allowed", options.logits);
  if (!options.ids.empty() && options.has_prompt())
    return fail(ErrorCode::kUsage, "--ids and -p: one of them is allowed");
  return {};
}

Result<TraceInputs> gather(const TraceOptions& options, const ModelConfig& config) {
  TraceInputs inputs;
  if (!options.inputs.empty()) NESTLING_TRY_VOID(read_inputs(options.inputs, inputs));
  if (!inputs.ids.empty() && (!options.ids.empty() || options.has_prompt()))
    return fail(ErrorCode::kUsage, "--inputs {}: holds ids; --ids and -p are not allowed besides", options.inputs);
  if (!options.ids.empty()) {
    NESTLING_TRY(inputs.ids, parse_ids(options.ids));
  }
  for (const std::string& path : options.pixels) NESTLING_TRY_VOID(read_pixels(path, inputs));
  for (const std::string& path : options.mels) NESTLING_TRY_VOID(read_mel(path, inputs));
  const int64_t size = config.vision ? config.vision->image_size : 768;
  for (const ContentArgument& argument : options.content) {
    if (argument.kind == ContentKind::kImage)
      NESTLING_TRY_VOID(read_image(argument.value, options.image_size, size, inputs));
    if (argument.kind == ContentKind::kAudio) NESTLING_TRY_VOID(read_audio(argument.value, inputs));
  }
  if (inputs.ids.empty() && !options.has_prompt() && !inputs.has_media())
    return fail(ErrorCode::kUsage, "trace takes ids (--ids, --inputs, -p), pictures (--image, --pixels) or sounds (--audio, "
                "--mel, --inputs); none was given");
  return inputs;
}

// Towers without the text core.
Status trace_towers(Package& package, const ModelConfig& config, const TraceOptions& options, const TraceInputs& inputs,
                    TraceRecorder& recorder) {
  NESTLING_TRY(const Kernels kernels, Kernels::choose());
  const int threads = options.engine.threads > 0 ? options.engine.threads : default_thread_count();
  ThreadPool pool(threads, threads <= available_core_count());
  Towers towers(TowerContext{&package, &kernels, &pool, &config});
  NESTLING_TRY(const TraceFeatures features, trace_media(towers, inputs.media, recorder));
  return trace_soft_tokens(towers, features, recorder);
}

// The texts as one prompt with <bos> before it and no template; places for the media in between, each of which `features`
// has rows for.
Result<std::vector<int32_t>> encode(const Engine& engine, const TraceOptions& options, const TraceFeatures& features) {
  NESTLING_TRY(const Tokenizer* tokenizer, engine.require_tokenizer());
  std::vector<ContentPart> parts;
  std::vector<int64_t> counts;
  size_t images = 0, sounds = 0;
  const auto rows_of = [](const MediaFeatures& f, int64_t width) { return static_cast<int64_t>(f.rows.size()) / width; };
  for (const ContentArgument& argument : options.content) {
    parts.push_back({argument.kind, argument.kind == ContentKind::kText ? argument.value : ""});
    if (argument.kind == ContentKind::kImage)
      counts.push_back(rows_of(features.images[images++], engine.towers().vision.modality().encoder_width()));
    if (argument.kind == ContentKind::kAudio)
      counts.push_back(rows_of(features.sounds[sounds++], engine.towers().sound.modality().encoder_width()));
  }
  if (images != features.images.size() || sounds != features.sounds.size())
    return fail(ErrorCode::kUsage, "-p: has places for --image and --audio; other inputs of the towers need ids");
  NESTLING_TRY(const Prompt prompt, render_raw(parts, ControlText::kInert));
  NESTLING_TRY(EncodedPrompt encoded, encode_prompt(*tokenizer, prompt, counts));
  return std::move(encoded.ids);
}

// One pass holds the whole prompt, so the engine is opened for as many tokens as the inputs can have.
int64_t most_tokens(const TraceOptions& options, const TraceInputs& inputs) {
  if (!inputs.ids.empty()) return static_cast<int64_t>(inputs.ids.size());
  constexpr int64_t kAround = 8;  // what stands around a medium
  int64_t tokens = 1;             // <bos>
  for (const ContentArgument& argument : options.content)
    if (argument.kind == ContentKind::kText) tokens += static_cast<int64_t>(argument.value.size());  // one per byte at most
  tokens += static_cast<int64_t>(inputs.media.pictures.size()) * (kVisionTokens + kAround);
  for (const auto& waveform : inputs.media.waveforms)
    tokens += audio_rows(mel_frame_count(static_cast<int64_t>(waveform.size())), 1) + kAround;
  return tokens;
}

Status trace_prompt(const std::filesystem::path& package, TraceOptions& options, TraceInputs inputs,
                    TraceRecorder& recorder) {
  const int64_t tokens = most_tokens(options, inputs);
  if (tokens > EngineOptions::kMaxChunk)
    return fail(ErrorCode::kUsage, "trace: up to {} tokens; at most {} are traced in one pass", tokens,
                EngineOptions::kMaxChunk);
  options.engine.chunk = tokens;
  options.engine.context = std::max(EngineOptions::kMinContext, tokens + options.generate);
  NESTLING_TRY(const auto engine, Engine::open(package, options.engine));
  TraceRequest request{.ids = std::move(inputs.ids), .media = std::move(inputs.features), .size = engine->default_size(),
                       .all_logits = options.logits == "all", .generate = options.generate};
  NESTLING_TRY(TraceFeatures encoded, trace_media(engine->towers(), inputs.media, recorder));
  std::ranges::move(encoded.images, std::back_inserter(request.media.images));
  std::ranges::move(encoded.sounds, std::back_inserter(request.media.sounds));
  if (request.ids.empty()) {
    NESTLING_TRY(request.ids, encode(*engine, options, request.media));
  }
  recorder.record_integers("input.ids", {request.ids.begin(), request.ids.end()});
  return trace_text(*engine, request, recorder);
}

Result<int> trace(TraceOptions options) {
  NESTLING_TRY_VOID(check_options(options));
  NESTLING_TRY(const auto path, find_package(options.model, WeightType::kF32));
  TraceRecorder recorder(options.only);
  {
    NESTLING_TRY(Package package, Package::open(path));
    NESTLING_TRY(const ModelConfig config, config_from_json(package.info().config_json, path.string()));
    NESTLING_TRY(TraceInputs inputs, gather(options, config));
    if (inputs.ids.empty() && !options.has_prompt())
      NESTLING_TRY_VOID(trace_towers(package, config, options, inputs, recorder));
    else
      NESTLING_TRY_VOID(trace_prompt(path, options, std::move(inputs), recorder));
  }
  if (recorder.tensors().empty())
    return fail(ErrorCode::kUsage, "--only {}: no intermediate has such a name", options.only);
  NESTLING_TRY_VOID(write_trace(options.output, recorder.tensors()));
  return 0;
}

}  // namespace

void add_trace(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("trace", "Write every named intermediate of a pass to a safetensors file");
  const auto options = std::make_shared<TraceOptions>();
  const auto content = std::make_shared<ContentChoice>();
  add_model_options(*command, options->model, ModelArgument::kPositional);
  add_text(*command, "-o,--output", options->output, "the safetensors file to write")->required();
  add_text(*command, "--inputs", options->inputs,
           "safetensors file whose tensors input.* are the inputs: ids, waveform, mel, mel_mask, pixel_values, ...");
  add_text(*command, "--ids", options->ids, "token ids, e.g. 2,5,17 (no tokenizer needed)");
  add_texts(*command, "-p,--prompt", content->prompts,
            "a text, with <bos> before it and no template; --image and --audio have their places in order");
  add_texts(*command, "--image", content->images,
            "a picture: the vision taps, and text taps where there are ids; may be repeated")
      ->type_name("FILE");
  add_image_size(*command, options->image_size);
  add_texts(*command, "--pixels", options->pixels, "safetensors file with pixel_values, [3, S, S] or [S, S, 3] in 0 to 1")
      ->type_name("FILE");
  add_texts(*command, "--audio", content->audios, "a sound: the mel and audio taps; may be repeated")->type_name("FILE");
  add_texts(*command, "--mel", options->mels, "safetensors file with mel [frames, bins], and mel_mask [frames]")
      ->type_name("FILE");
  add_whole(*command, "--generate", options->generate, 0, 1 << 15,
            "greedy tokens after the prompt: generated_ids, step_logits [0]");
  add_text(*command, "--logits", options->logits,
           "all: every token runs every layer; last: leaves the prompt skip on [all]");
  add_text(*command, "--only", options->only, "only tensors whose name matches, e.g. 'layers.3.*'");
  add_engine_options(*command, options->engine);
  command->parse_complete_callback([command, options, content, &action] {
    options->content = content->in_order(*command);
    action = [options] { return trace(*options); };
  });
}

}  // namespace nestling
