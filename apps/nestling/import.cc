// nestling import: a checkpoint becomes a package.
#include "importing/import.h"

#include <memory>

#include <CLI/CLI.hpp>

#include "command.h"
#include "interrupt.h"
#include "model_source.h"
#include "options.h"
#include "output.h"
#include "text/checkpoint_tokenizer.h"

namespace nestling {
namespace {

namespace fs = std::filesystem;

struct ImportCommand {
  std::string source, output;
  WeightChoice weights;
  bool json = false;
};

Status check_output(const fs::path& output) {
  std::error_code error;
  if (fs::is_directory(output, error))
    return fail(ErrorCode::kUsage, "-o {}: is a directory; the name of a file is needed", output.string());
  const fs::path parent = fs::absolute(output, error).parent_path();
  if (!fs::is_directory(parent, error))
    return fail(ErrorCode::kUsage, "-o {}: there is no directory {}", output.string(), parent.string());
  return {};
}

Status report(const ImportCommand& command, const ImportOptions& options) {
  NESTLING_TRY(const Package package, Package::open(command.output));
  if (!command.json) {
    NESTLING_TRY_VOID(write_stdout(fmt::format("{}: {}, weights {}, head {}, PLE {}\n", command.output,
                                               megabytes(package.file().size()), weight_type_name(options.weights),
                                               weight_type_name(options.head_type()),
                                               weight_type_name(options.ple_type()))));
    return flush_stdout();
  }
  nlohmann::ordered_json regions;
  for (const Region region : {Region::kText, Region::kVision, Region::kAudio, Region::kPle})
    regions[std::string(region_name(region))] = package.region_bytes(region);
  return print_json({{"output", command.output},
                     {"bytes", package.file().size()},
                     {"weights", weight_type_name(options.weights)},
                     {"head_weights", weight_type_name(options.head_type())},
                     {"ple_weights", weight_type_name(options.ple_type())},
                     {"tensors", package.tensors().size()},
                     {"tokenizer", !package.info().tokenizer.empty()},
                     {"region_bytes", std::move(regions)}});
}

Result<int> import_command(const ImportCommand& command) {
  NESTLING_TRY_VOID(check_output(command.output));
  NESTLING_TRY(const fs::path directory, find_checkpoint(command.source, "import"));
  NESTLING_TRY(const Checkpoint checkpoint, Checkpoint::open(directory));
  NESTLING_TRY(const ModelConfig config, parse_config(checkpoint.config_json(), checkpoint.generation_json(),
                                                      (directory / "config.json").string()));
  ImportExtras extras{.cancel = interrupt_flag()};
  NESTLING_TRY(extras.tokenizer, sentencepiece_from_checkpoint(directory));
  const ImportOptions options = command.weights.options();
  NESTLING_TRY_VOID(import_checkpoint(checkpoint, config, options, command.output, extras));
  NESTLING_TRY_VOID(report(command, options));
  return 0;
}

}  // namespace

void add_import(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("import", "Make a package of a checkpoint");
  const auto options = std::make_shared<ImportCommand>();
  add_text(*command, "source", options->source, "checkpoint directory: config.json, safetensors, tokenizer files")
      ->type_name("SRC")
      ->required();
  add_text(*command, "-o,--output", options->output, "the package; it appears whole or not at all")
      ->type_name("FILE")
      ->required();
  add_weight_options(*command, options->weights);
  add_flag(*command, "--json", options->json, "one JSON document about the package");
  command->parse_complete_callback([options, &action] { action = [options] { return import_command(*options); }; });
}

}  // namespace nestling
