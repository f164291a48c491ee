// The metadata of a gemma3n GGUF: hyper-parameters and tokenizer under llama.cpp's keys.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "importing/export_gguf.h"
#include "model/config.h"
#include "storage/gguf.h"

namespace nestling {

struct GgufDescription {
  const ModelConfig& config;  // for ids; the text model is that of `slice`
  const TextConfig& slice;
  std::string name;
  int64_t vocabulary = 0;  // rows of the embedding; tokens beyond are dropped, missing ones named [PADn]
  std::string weights;     // ggml's name of the type of most weights
  const GgufTokenizer& tokenizer;
};

std::vector<gguf::MetadataEntry> gguf_metadata(const GgufDescription& description);

}  // namespace nestling
