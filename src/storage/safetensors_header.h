// The JSON texts of a checkpoint, read event by event so that duplicate names are seen and nothing is built that the
// format does not have: the header of a safetensors file, and the index of a sharded checkpoint.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nestling {

struct HeaderTensor {
  std::string name;
  std::string dtype;
  std::vector<uint64_t> shape;
  std::vector<uint64_t> data_offsets;
};

struct SafetensorsHeader {
  std::vector<HeaderTensor> tensors;  // in file order
  std::map<std::string, std::string, std::less<>> metadata;
};

// Checks the form: UTF-8 JSON, an object of objects with exactly dtype, shape and data_offsets, `__metadata__` of
// strings, no name twice. What the numbers mean is the caller's to check. Errors: kModel, without the file's name.
Result<SafetensorsHeader> parse_safetensors_header(std::string_view json);
// The inverse. Names that are not UTF-8 or appear twice: kFailed.
Result<std::string> format_safetensors_header(const SafetensorsHeader& header);

// `weight_map` of model.safetensors.index.json: tensor name to file name.
Result<std::map<std::string, std::string, std::less<>>> parse_weight_map(std::string_view json);

}  // namespace nestling
