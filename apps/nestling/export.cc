// nestling export: a size of a model as a checkpoint of its own, or as a GGUF for llama.cpp.
#include "importing/export.h"

#include <memory>

#include <CLI/CLI.hpp>

#include "base/log.h"
#include "bench_synthetic.h"
#include "command.h"
#include "importing/export_gguf.h"
#include "interrupt.h"
#include "model_source.h"
#include "options.h"
#include "output.h"
#include "text/sentencepiece_model.h"

namespace nestling {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxTemplateBytes = 1u << 20;

struct ExportCommand {
  std::string source, synthetic, format = "checkpoint", size, output;
  WeightChoice weights;
  bool json = false;
  bool is_gguf() const { return format == "gguf"; }
};

Status check_options(const ExportCommand& command) {
  if (!command.is_gguf() && command.format != "checkpoint")
    return fail(ErrorCode::kUsage, "--format {}: checkpoint or gguf is allowed", command.format);
  if (command.source.empty() == command.synthetic.empty())
    return fail(ErrorCode::kUsage, "MODEL or --synthetic is needed, and only one of them");
  if (command.is_gguf()) return {};
  if (!command.synthetic.empty() || command.weights.given())
    return fail(ErrorCode::kUsage, "--synthetic, --weights, --head-weights and --ple-weights need --format gguf; a "
                "checkpoint keeps the number types of its source");
  if (command.size.empty())
    return fail(ErrorCode::kUsage, "--size is needed: e2b ... e4b, or per layer a width or skip");
  return {};
}

Status report(const ExportCommand& command, const TextConfig& text, const ModelSize& size, const std::string& types,
              nlohmann::ordered_json document) {
  const int64_t effective = count_parameters(text, size).effective;
  document["size"] = size.name;
  document["layers"] = size.layers_run();
  document["effective_parameters"] = effective;
  if (command.json) return print_json(document);
  NESTLING_TRY_VOID(write_stdout(fmt::format("{}: size {}, {} layers, {:.3f} billion effective parameters{}\n",
                                             command.output, size.name, size.layers_run(),
                                             static_cast<double>(effective) / 1e9, types)));
  return flush_stdout();
}

Status export_checkpoint(const ExportCommand& command) {
  NESTLING_TRY(const fs::path directory, find_checkpoint(command.source, "export"));
  NESTLING_TRY(const Checkpoint checkpoint, Checkpoint::open(directory));
  NESTLING_TRY(const ModelConfig config, parse_config(checkpoint.config_json(), checkpoint.generation_json(),
                                                      (directory / "config.json").string()));
  NESTLING_TRY(const ModelSize size, parse_size(command.size, config.text, 1));
  NESTLING_TRY_VOID(export_slice(checkpoint, config, size, command.output, interrupt_flag()));
  return report(command, config.text, size, "", {{"output", command.output}});
}

// The package's vocabulary; the chat template of the checkpoint, where MODEL is one.
Result<GgufTokenizer> gguf_tokenizer(const Package& package, const std::string& source) {
  GgufTokenizer tokenizer;
  if (package.info().tokenizer.empty()) return tokenizer;
  NESTLING_TRY(const SentencePieceModel model, parse_sentencepiece_model(package.info().tokenizer));
  for (const SentencePiece& piece : model.pieces) {
    tokenizer.tokens.push_back(piece.text);
    tokenizer.scores.push_back(piece.score);
    tokenizer.types.push_back(static_cast<int64_t>(piece.type));  // GGUF has taken over SentencePiece's numbers
  }
  if (source.empty()) return tokenizer;
  NESTLING_TRY(const fs::path model_path, find_model(source));
  std::error_code error;
  const fs::path chat_template = model_path / "chat_template.jinja";
  if (!fs::exists(chat_template, error)) return tokenizer;
  NESTLING_TRY(tokenizer.chat_template, read_text_file(chat_template, kMaxTemplateBytes));
  return tokenizer;
}

Status export_gguf_file(const ExportCommand& command) {
  std::error_code error;
  if (fs::is_directory(command.output, error))
    return fail(ErrorCode::kUsage, "-o {}: is a directory; the name of a file is needed", command.output);
  NESTLING_TRY(const fs::path path, command.synthetic.empty()
                                        ? find_package({command.source, command.weights})
                                        : synthetic_package(command.synthetic, command.weights, {}));
  NESTLING_TRY(const Package package, Package::open(path));
  NESTLING_TRY(const ModelConfig config, config_from_json(package.info().config_json, path.string()));
  NESTLING_TRY(const ModelSize size,
               parse_size(command.size.empty() ? "full" : command.size, config.text, kQuantBlock));
  NESTLING_TRY(const GgufTokenizer tokenizer, gguf_tokenizer(package, command.source));
  const std::vector<std::string> differences = llama_cpp_differences(sliced_config(config.text, size));
  for (const std::string& difference : differences)
    spdlog::warn("{}: not for llama.cpp: {}", command.output, difference);
  NESTLING_TRY(const GgufExport exported,
               export_gguf(package, config, size, tokenizer, command.output, interrupt_flag()));
  const std::string types = fmt::format(", {}, weights {}, head {}, PLE {}", megabytes(exported.bytes),
                                        exported.weights, exported.head, exported.ple);
  return report(command, config.text, size, types,
                {{"output", command.output},
                 {"bytes", exported.bytes},
                 {"tensors", exported.tensors},
                 {"weights", exported.weights},
                 {"head_weights", exported.head},
                 {"ple_weights", exported.ple},
                 {"tokenizer", !tokenizer.tokens.empty()},
                 {"llama_cpp_differences", differences}});
}

Result<int> export_command(const ExportCommand& command) {
  NESTLING_TRY_VOID(check_options(command));
  NESTLING_TRY_VOID(command.is_gguf() ? export_gguf_file(command) : export_checkpoint(command));
  return 0;
}

}  // namespace

void add_export(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand(
      "export",
      "Write a size of a model as a checkpoint of its own, or as a GGUF for llama.cpp\n\n"
      "A GGUF (text only) holds exactly the package's weights: q4 as Q4_0, q8 as Q8_0, bf16 and f32 as such; only q6\n"
      "is rounded, to Q6_K. llama.cpp computes gemma3n files with 20 layers that own keys and values, the first 10\n"
      "layers 95 % sparse, one feed-forward width, LAuReL rank 64, per-layer width 256 and logits capped at 30,\n"
      "whatever the file says: export writes any model, and warns where it differs. Sizes of one width that keep\n"
      "layers 0 to 19, such as e2b and e4b, run there.");
  const auto options = std::make_shared<ExportCommand>();
  add_text(*command, "model", options->source,
           "checkpoint directory, or a name such as nano; for gguf a package as well")
      ->type_name("MODEL");
  add_text(*command, "--format", options->format, "checkpoint or gguf [checkpoint]")->type_name("FORMAT");
  add_text(*command, "--size", options->size,
           "e2b ... e4b, or per layer a width or skip: 8192,8192,skip,... [needed; for gguf full]");
  add_text(*command, "-o,--output", options->output, "new or empty directory; for gguf a file, whole or not at all")
      ->type_name("PATH")
      ->required();
  add_text(*command, "--synthetic", options->synthetic,
           "gguf of random weights of the real shapes, those that bench --synthetic runs: e2b, e4b or any other size")
      ->type_name("SIZE");
  add_weight_options(*command, options->weights);
  add_flag(*command, "--json", options->json, "one JSON document about what was written");
  command->parse_complete_callback([options, &action] { action = [options] { return export_command(*options); }; });
}

}  // namespace nestling
