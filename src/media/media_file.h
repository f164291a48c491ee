// The bytes of a picture or sound named on the command line: a file, or anything that can be read to its end (a pipe).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "base/error.h"

namespace nestling {

// Fails (kFailed) if the file cannot be read or holds more than max_bytes; a pipe is read no further than that.
Result<std::vector<std::byte>> read_media_file(const std::filesystem::path& path, uint64_t max_bytes);

}  // namespace nestling
