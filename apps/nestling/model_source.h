// What MODEL on the command line means, and an engine for it.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "base/error.h"
#include "options.h"
#include "runtime/engine.h"

namespace nestling {

// The file or directory MODEL stands for: an existing path, or else NAME or NAME.nest under $NESTLING_MODELS, or under
// models or share/nestling/models beside the program or above it. kModel listing what was tried.
Result<std::filesystem::path> find_model(const std::string& model);

// The checkpoint directory MODEL stands for; a file is refused (`command` says who needs one).
Result<std::filesystem::path> find_checkpoint(const std::string& model, const std::string& command);

// The package of MODEL: itself, or the cached import of a checkpoint with the chosen weight types (`default_weights`
// where none is). kUsage: weight types chosen for a package, which has its own.
Result<std::filesystem::path> find_package(const ModelChoice& choice, WeightType default_weights = WeightType::kQ4);

Result<std::unique_ptr<Engine>> open_engine(const ModelChoice& choice, const EngineOptions& options);

}  // namespace nestling
