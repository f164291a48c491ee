// Packages of the real shapes with random weights: what a model costs on a machine can be measured before the model is
// downloaded. The output of such a model means nothing.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "importing/import.h"
#include "importing/weight_plan.h"
#include "model/config.h"

namespace nestling {

// The parts of a model that are written; a tower comes with its embedder.
struct SyntheticParts {
  bool text = true, vision = false, audio = false;
};

struct SyntheticModel {
  std::string name;  // of the size: "e2b", "e4b", ..., "custom-<hash>", and of the towers: "e2b-audio"
  ModelConfig config;
  SyntheticParts parts;
};

// The published configuration of E4B, or of a slice of it as a model of its own (any size parse_size takes), with the
// sections of the towers asked for. kUsage for a size that it refuses.
Result<SyntheticModel> synthetic_model(std::string_view size, const ImportOptions& options,
                                       const SyntheticParts& parts = {});

// Writes the parts of `model`, stored as an import with `options` stores them. A few hundred rows per shape are drawn and
// packed (normal, standard deviation 1 / sqrt(inputs)) and repeated in random order, so that writing is bound by the
// disk; norms and output scales are 1. Free disk is checked. Draws a progress bar on a terminal.
Status write_synthetic(const SyntheticModel& model, const ImportOptions& options, const std::filesystem::path& target,
                       const ImportExtras& extras);

// The package of the model in the cache directory (importing/cache.h), written where it is missing or of another format
// version. `tokenizer` gives SentencePiece model bytes and is called only when a package is written.
Result<std::filesystem::path> cached_synthetic(const SyntheticModel& model, const ImportOptions& options,
                                               const std::function<std::string()>& tokenizer,
                                               const std::atomic<bool>* cancel = nullptr);

}  // namespace nestling
