// A package as a text GGUF of architecture gemma3n, as llama.cpp's converter and quantiser would name and shape it: the
// same weights in another engine.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/config.h"
#include "model/size.h"
#include "storage/package.h"

namespace nestling {

// The vocabulary as GGUF keeps it: pieces with scores and types (those of SentencePiece) in id order. Without tokens
// the file has none: engines then take ids only. Tokens beyond the PLE table, which no text has, are left out.
struct GgufTokenizer {
  std::vector<std::string> tokens;
  std::vector<double> scores;
  std::vector<int64_t> types;
  std::string chat_template;  // Jinja, "" for none
};

struct GgufExport {
  uint64_t bytes = 0;  // of tensor data
  size_t tensors = 0;
  std::string weights, head, ple;  // ggml's names: "Q4_0", "Q6_K", ...
};

// Writes `size` of the package's text model to `target`, which appears whole or not at all; at most one feed-forward
// matrix is in memory. Weights are exactly the package's (f32 as F32, bf16 as BF16, q4 as Q4_0, q8 as Q8_0, q6 as Q8_0
// where rows are no multiple of 256), but for q6 rows that are: Q6_K has other scales, and rounds. Quantised rows that
// are no multiple of 32 become F32. The K/V weights of sharing layers, which nothing reads and a package leaves out,
// are zeros. kModel: a package without a text model or PLE table, or a damaged one.
Result<GgufExport> export_gguf(const Package& package, const ModelConfig& config, const ModelSize& size,
                               const GgufTokenizer& tokenizer, const std::filesystem::path& target,
                               const std::atomic<bool>* cancel = nullptr);

// What llama.cpp (gemma3n at 0.25 of ggml) takes for granted and this model does not have, a sentence each: such a file
// fails to load there or, worse, loads and computes something else.
std::vector<std::string> llama_cpp_differences(const TextConfig& config);

}  // namespace nestling
