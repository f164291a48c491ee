// nestling trace: a forward pass with every named intermediate written to a safetensors file.
#include <algorithm>
#include <memory>

#include <CLI/CLI.hpp>

#include "command.h"
#include "model_source.h"
#include "options.h"
#include "output.h"
#include "runtime/trace.h"
#include "storage/safetensors.h"
#include "text/chat_template.h"

namespace nestling {
namespace {

struct TraceOptions {
  ModelChoice model;
  EngineOptions engine;
  std::string output, inputs, ids, prompt, logits = "all", only;
  int64_t generate = 0;
};

Result<std::vector<float>> read_rows(const SafetensorsFile& file, const SafetensorsEntry& entry) {
  std::vector<float> rows(static_cast<size_t>(entry.elements()));
  NESTLING_TRY_VOID(file.read_floats(entry, 0, rows));
  return rows;
}

// The tensors named input.* of a golden: ids, and the encoder outputs that stand for towers.
Status read_inputs(const std::string& path, TraceRequest& request) {
  NESTLING_TRY(const SafetensorsFile file, SafetensorsFile::open(path));
  const SafetensorsEntry* ids = file.find("input.ids");
  if (ids == nullptr) return fail(ErrorCode::kUsage, "{}: holds no tensor input.ids", path);
  NESTLING_TRY(const std::vector<int64_t> values, file.read_integers(*ids));
  for (const int64_t id : values) {
    if (id < 0 || id > INT32_MAX) return fail(ErrorCode::kUsage, "{}: input.ids holds {}; ids are 0 or more", path, id);
    request.ids.push_back(static_cast<int32_t>(id));
  }
  if (const SafetensorsEntry* rows = file.find("input.image_encoder_out")) {
    request.images.emplace_back();
    NESTLING_TRY(request.images.back().rows, read_rows(file, *rows));
  }
  if (const SafetensorsEntry* rows = file.find("input.audio_encoder_out")) {
    request.sounds.emplace_back();
    NESTLING_TRY(request.sounds.back().rows, read_rows(file, *rows));
    if (const SafetensorsEntry* valid = file.find("input.audio_valid")) {
      NESTLING_TRY(const std::vector<int64_t> flags, file.read_integers(*valid));
      for (const int64_t flag : flags) request.sounds.back().valid.push_back(flag != 0);
    }
  }
  return {};
}

Status encode(const Engine& engine, const std::string& text, TraceRequest& request) {
  NESTLING_TRY(const Tokenizer* tokenizer, engine.require_tokenizer());
  const ContentPart part{ContentKind::kText, text};
  NESTLING_TRY(const Prompt prompt, render_raw({&part, 1}, ControlText::kInert));
  NESTLING_TRY(EncodedPrompt encoded, encode_prompt(*tokenizer, prompt));
  request.ids = std::move(encoded.ids);
  return {};
}

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

// One pass holds the whole prompt, so the engine is opened for as many tokens as the inputs can have.
int64_t most_tokens(const TraceOptions& options, const TraceRequest& request) {
  if (!request.ids.empty()) return static_cast<int64_t>(request.ids.size());
  return static_cast<int64_t>(options.prompt.size()) + 1;  // at most one token per byte, and <bos>
}

Result<int> trace(TraceOptions options) {
  TraceRequest request{.all_logits = options.logits == "all", .generate = options.generate};
  const int sources = !options.inputs.empty() + !options.ids.empty() + !options.prompt.empty();
  if (sources != 1)
    return fail(ErrorCode::kUsage, "trace takes one of --inputs, --ids and -p; {} were given", sources);
  if (options.logits != "all" && options.logits != "last")
    return fail(ErrorCode::kUsage, "--logits {}: all or last is allowed", options.logits);
  if (!options.inputs.empty()) NESTLING_TRY_VOID(read_inputs(options.inputs, request));
  if (!options.ids.empty()) {
    NESTLING_TRY(request.ids, parse_ids(options.ids));
  }
  const int64_t tokens = most_tokens(options, request);
  if (tokens > EngineOptions::kMaxChunk)
    return fail(ErrorCode::kUsage, "trace: up to {} tokens; at most {} are traced in one pass", tokens,
                EngineOptions::kMaxChunk);
  options.engine.chunk = tokens;
  options.engine.context = std::max(EngineOptions::kMinContext, tokens + options.generate);

  NESTLING_TRY(const auto package, find_package(options.model, WeightType::kF32));
  NESTLING_TRY(const auto engine, Engine::open(package, options.engine));
  if (request.ids.empty()) NESTLING_TRY_VOID(encode(*engine, options.prompt, request));
  request.size = engine->default_size();
  TraceRecorder recorder(options.only);
  recorder.record_integers("input.ids", {request.ids.begin(), request.ids.end()});
  NESTLING_TRY_VOID(trace_text(*engine, request, recorder));
  if (recorder.tensors().empty())
    return fail(ErrorCode::kUsage, "--only {}: no intermediate has such a name", options.only);
  NESTLING_TRY_VOID(write_trace(options.output, recorder.tensors()));
  return 0;
}

}  // namespace

void add_trace(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("trace", "Write every named intermediate of a pass to a safetensors file");
  const auto options = std::make_shared<TraceOptions>();
  add_model_options(*command, options->model, ModelArgument::kPositional);
  add_text(*command, "-o,--output", options->output, "the safetensors file to write")->required();
  add_text(*command, "--inputs", options->inputs, "safetensors file whose tensors input.* are the inputs");
  add_text(*command, "--ids", options->ids, "token ids, e.g. 2,5,17 (no tokenizer needed)");
  add_text(*command, "-p,--prompt", options->prompt, "a text, with <bos> before it and no template");
  add_whole(*command, "--generate", options->generate, 0, 1 << 15,
            "greedy tokens after the prompt: generated_ids, step_logits [0]");
  add_text(*command, "--logits", options->logits,
           "all: every token runs every layer; last: leaves the prompt skip on [all]");
  add_text(*command, "--only", options->only, "only tensors whose name matches, e.g. 'layers.3.*'");
  add_engine_options(*command, options->engine);
  command->parse_complete_callback([options, &action] { action = [options] { return trace(*options); }; });
}

}  // namespace nestling
