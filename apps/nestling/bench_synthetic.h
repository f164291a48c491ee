// bench --synthetic: a model of real shapes and random weights, with a tokenizer of the real size.
#pragma once

#include <filesystem>
#include <string>

#include "base/error.h"
#include "importing/synthetic.h"
#include "options.h"

namespace nestling {

// SentencePiece model of 262,144 pieces with Gemma's special ids and byte pieces; the words are made up, of the usual
// lengths, so that loading it costs what the real one costs.
std::string synthetic_tokenizer();

// The package of these parts of `size` ("e2b", "e4b", any other) in the cache directory; written where it is not there
// yet.
Result<std::filesystem::path> synthetic_package(const std::string& size, const WeightChoice& weights,
                                                const SyntheticParts& parts);

}  // namespace nestling
