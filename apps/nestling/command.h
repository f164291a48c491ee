// What main.cc knows of the subcommands: each adds itself with its options, and sets `action` when it was chosen.
#pragma once

#include <functional>

#include "base/error.h"

namespace CLI {
class App;
}

namespace nestling {

// Runs the command; returns the exit status.
using Action = std::function<Result<int>()>;

void add_run(CLI::App& app, Action& action);
void add_chat(CLI::App& app, Action& action);
void add_transcribe(CLI::App& app, Action& action);
void add_import(CLI::App& app, Action& action);
void add_inspect(CLI::App& app, Action& action);
void add_export(CLI::App& app, Action& action);
void add_tokenize(CLI::App& app, Action& action);
void add_score(CLI::App& app, Action& action);
void add_trace(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);

}  // namespace nestling
