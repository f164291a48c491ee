#include "model_source.h"

#include <cstdlib>
#include <vector>

#include "importing/cache.h"
#include "interrupt.h"
#include "text/checkpoint_tokenizer.h"

namespace nestling {
namespace {

namespace fs = std::filesystem;

bool is_name(const std::string& model) {
  return !model.empty() && model.find('/') == std::string::npos && model != "." && model != "..";
}

// Where models with a name may lie, nearest first.
std::vector<fs::path> model_directories() {
  std::vector<fs::path> directories;
  if (const char* models = std::getenv("NESTLING_MODELS"); models != nullptr && *models != '\0')
    directories.emplace_back(models);
  std::error_code error;
  fs::path above = fs::read_symlink("/proc/self/exe", error).parent_path();
  // build/release/nestling in the source tree, bin/nestling where it is installed.
  for (int level = 0; level < 3 && !above.empty(); ++level, above = above.parent_path()) {
    directories.push_back(above / "models");
    directories.push_back(above / "share" / "nestling" / "models");
    if (above == above.root_path()) break;
  }
  return directories;
}

}  // namespace

Result<fs::path> find_model(const std::string& model) {
  std::error_code error;
  if (model.empty())
    return fail(ErrorCode::kUsage, "--model is empty; a package, a checkpoint directory or a name is needed");
  // A directory that only happens to have the name of a model does not hide it.
  const bool exists = fs::exists(model, error), checkpoint = fs::exists(fs::path(model) / "config.json", error);
  if (exists && (checkpoint || !fs::is_directory(model, error) || !is_name(model))) return fs::path(model);
  std::string tried;
  if (is_name(model)) {
    for (const fs::path& directory : model_directories()) {
      for (const fs::path& candidate : {directory / model, directory / (model + ".nest")})
        if (fs::exists(candidate, error)) return candidate;
      tried += (tried.empty() ? "" : ", ") + directory.string();
    }
  }
  if (exists) return fs::path(model);  // opening it says what is missing
  if (tried.empty()) return fail(ErrorCode::kModel, "model {}: no such file or directory", model);
  return fail(ErrorCode::kModel, "model {}: no such file or directory, and no model of that name in {}", model, tried);
}

Result<fs::path> find_checkpoint(const std::string& model, const std::string& command) {
  NESTLING_TRY(const fs::path path, find_model(model));
  std::error_code error;
  if (fs::is_directory(path, error)) return path;
  return fail(ErrorCode::kModel, "{}: is a file; {} needs a checkpoint directory (config.json and safetensors)",
              path.string(), command);
}

Result<fs::path> find_package(const ModelChoice& choice, WeightType default_weights) {
  NESTLING_TRY(const fs::path path, find_model(choice.model));
  std::error_code error;
  if (fs::is_directory(path, error))
    return cached_package(path, choice.weights.options(default_weights), sentencepiece_from_checkpoint,
                          interrupt_flag());
  if (choice.weights.given())
    return fail(ErrorCode::kUsage, "{}: is a package, which has its own weight types; --weights, --head-weights and "
                "--ple-weights are allowed for a checkpoint directory", path.string());
  return path;
}

Result<std::unique_ptr<Engine>> open_engine(const ModelChoice& choice, const EngineOptions& options) {
  NESTLING_TRY(const fs::path package, find_package(choice));
  return Engine::open(package, options);
}

}  // namespace nestling
