// nestling: Gemma 3n on the command line.
#include <CLI/CLI.hpp>

#include "base/file.h"
#include "base/log.h"
#include "command.h"
#include "interrupt.h"

namespace nestling {
namespace {

constexpr const char* kFooter =
    "Every flag has an environment twin: --top-k is NESTLING_TOP_K. NESTLING_MODELS names a directory of models,\n"
    "NESTLING_LOG=debug|info|warn|error|off the messages on stderr, NESTLING_CPU=scalar|avx2|... the kernels.\n"
    "Exit status: 0 ok; 1 runtime failure (media, input/output, disk); 2 usage; 3 model missing, damaged or without\n"
    "the part asked for; 4 over the memory budget; 5 unsupported hardware; 130 interrupted.";

void describe(CLI::App& app, Action& action) {
  app.set_version_flag("--version", "nestling " NESTLING_VERSION);
  app.require_subcommand(1);
  app.footer(kFooter);
  for (const auto add : {add_run, add_chat, add_transcribe, add_import, add_inspect, add_export, add_tokenize, add_score,
                         add_trace, add_bench})
    add(app, action);
}

int report(ErrorCode code, const std::string& message) {
  fmt::print(stderr, "nestling: {}\n", message);
  return exit_status(code);
}

std::string usage_message(const CLI::App& app, const CLI::ParseError& error) {
  const auto chosen = app.get_subcommands();
  const auto unknown = app.remaining();
  if (chosen.empty() && !unknown.empty())
    return fmt::format("{} is neither a command nor a flag; nestling --help lists them", unknown.front());
  return fmt::format("{} (nestling{} --help lists what is allowed)", error.what(),
                     chosen.empty() ? "" : " " + chosen.front()->get_name());
}

int run_main(int argc, char** argv) {
  init_logging(false);
  install_interrupt_handler();
  install_mapped_file_guard();
  CLI::App app("Runs Gemma 3n: text, images and sound in, text out.", "nestling");
  Action action;
  describe(app, action);
  if (argc == 1) {
    fmt::print(stderr, "{}", app.help());
    return exit_status(ErrorCode::kUsage);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help_or_version) {
    return app.exit(help_or_version);
  } catch (const CLI::ParseError& error) {
    return report(ErrorCode::kUsage, usage_message(app, error));
  }
  const Result<int> status = action();
  return status ? *status : report(status.error().code, status.error().message);
}

}  // namespace
}  // namespace nestling

int main(int argc, char** argv) {
  try {
    return nestling::run_main(argc, argv);
  } catch (const std::bad_alloc&) {
    return nestling::report(nestling::ErrorCode::kFailed,
                            "out of memory; nestling inspect MODEL prints what is needed");
  }
}
