// A checkpoint becomes a package in one streamed pass.
#pragma once

#include <atomic>
#include <filesystem>
#include <string>

#include "base/error.h"
#include "importing/weight_plan.h"
#include "model/config.h"
#include "storage/checkpoint.h"

namespace nestling {

struct ImportExtras {
  std::string tokenizer;                      // SentencePiece model bytes, "" for none
  std::string cache_key;                      // kept in the package; "" for a package the user asked for
  const std::atomic<bool>* cancel = nullptr;  // looked at between pieces: kCancelled
};

// Writes the package of `checkpoint` to `target`, which appears whole or not at all. Memory stays below 1 GB whatever
// the size of the model: at most one feed-forward matrix, or a chunk of rows, per thread. A value that is not finite or
// too large for the scale of its weight type: kModel naming the tensor. Draws a progress bar when stderr is a terminal.
Status import_checkpoint(const Checkpoint& checkpoint, const ModelConfig& config, const ImportOptions& options,
                         const std::filesystem::path& target, const ImportExtras& extras);

}  // namespace nestling
