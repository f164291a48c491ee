// Checkpoints opened for running are imported once, into the user's cache directory.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <string>

#include "base/error.h"
#include "importing/weight_plan.h"

namespace nestling {

// $XDG_CACHE_HOME/nestling, or ~/.cache/nestling. kFailed when neither variable is an absolute path.
Result<std::filesystem::path> cache_directory();

// Gives the SentencePiece model of a checkpoint directory, "" when it has none. Called only when an import is needed.
using TokenizerSource = std::function<Result<std::string>(const std::filesystem::path& directory)>;

// The package of the checkpoint in `directory` with these options: the one in the cache, or a new import where there is
// none, the source's files changed (path, size, time), the format version differs or the cached file is damaged.
// Imports of an older state of the same directory are deleted. Safe when several processes ask at once.
Result<std::filesystem::path> cached_package(const std::filesystem::path& directory, const ImportOptions& options,
                                             const TokenizerSource& tokenizer,
                                             const std::atomic<bool>* cancel = nullptr);

}  // namespace nestling
