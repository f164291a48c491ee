// nestling export: a slice of a checkpoint as a checkpoint of its own.
#include "importing/export.h"

#include <memory>

#include <CLI/CLI.hpp>

#include "command.h"
#include "interrupt.h"
#include "model_source.h"
#include "options.h"
#include "output.h"

namespace nestling {
namespace {

struct ExportCommand {
  std::string source, size, output;
  bool json = false;
};

Result<int> export_command(const ExportCommand& command) {
  NESTLING_TRY(const std::filesystem::path directory, find_checkpoint(command.source, "export"));
  NESTLING_TRY(const Checkpoint checkpoint, Checkpoint::open(directory));
  NESTLING_TRY(const ModelConfig config, parse_config(checkpoint.config_json(), checkpoint.generation_json(),
                                                      (directory / "config.json").string()));
  NESTLING_TRY(const ModelSize size, parse_size(command.size, config.text, 1));
  NESTLING_TRY_VOID(export_slice(checkpoint, config, size, command.output, interrupt_flag()));
  const int64_t effective = count_parameters(config.text, size).effective;
  if (command.json) {
    NESTLING_TRY_VOID(print_json({{"output", command.output},
                                  {"size", size.name},
                                  {"layers", size.layers_run()},
                                  {"effective_parameters", effective}}));
  } else {
    NESTLING_TRY_VOID(write_stdout(fmt::format("{}: size {}, {} layers, {:.3f} billion effective parameters\n",
                                               command.output, size.name, size.layers_run(),
                                               static_cast<double>(effective) / 1e9)));
    NESTLING_TRY_VOID(flush_stdout());
  }
  return 0;
}

}  // namespace

void add_export(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("export", "Write a size of a checkpoint as a checkpoint of its own");
  const auto options = std::make_shared<ExportCommand>();
  add_text(*command, "checkpoint", options->source, "checkpoint directory, or a name such as nano")
      ->type_name("CHECKPOINT")
      ->required();
  add_text(*command, "--size", options->size, "e2b ... e4b, or per layer a width or skip: 8192,8192,skip,...")
      ->required();
  add_text(*command, "-o,--output", options->output, "new or empty directory")->type_name("DIR")->required();
  add_flag(*command, "--json", options->json, "one JSON document about the slice");
  command->parse_complete_callback([options, &action] { action = [options] { return export_command(*options); }; });
}

}  // namespace nestling
