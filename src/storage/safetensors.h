// safetensors files: header checked as the format demands (no holes, no overlaps, no duplicates), tensors read by
// position.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace nestling {

enum class SafetensorsType { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU8, kBool, kOther };

struct SafetensorsEntry {
  std::string name;
  SafetensorsType type = SafetensorsType::kOther;
  std::string type_name;  // as written in the file
  std::vector<int64_t> shape;
  uint64_t offset = 0;  // from the start of the file
  uint64_t bytes = 0;
  int64_t elements() const;
};

class SafetensorsFile {
 public:
  static Result<SafetensorsFile> open(const std::filesystem::path& path);
  const File& file() const { return file_; }
  const std::map<std::string, SafetensorsEntry, std::less<>>& entries() const { return entries_; }
  const std::map<std::string, std::string, std::less<>>& metadata() const { return metadata_; }
  const SafetensorsEntry* find(std::string_view name) const;

  // Elements [first, first + out.size()) as float32, from F32, F16, BF16 or F64. Out of range is a bug (check).
  Status read_floats(const SafetensorsEntry& entry, int64_t first, std::span<float> out) const;
  // All elements, from I64, I32, U8 or Bool.
  Result<std::vector<int64_t>> read_integers(const SafetensorsEntry& entry) const;

 private:
  File file_;
  std::map<std::string, SafetensorsEntry, std::less<>> entries_;
  std::map<std::string, std::string, std::less<>> metadata_;
};

// Writes a safetensors file of which all names, types and shapes are known first (trace, export): streamed, renamed
// into place by commit().
struct SafetensorsPlan {
  std::string name;
  SafetensorsType type = SafetensorsType::kF32;
  std::vector<int64_t> shape;
};
class SafetensorsWriter {
 public:
  static Result<SafetensorsWriter> create(const std::filesystem::path& target,
                                          const std::map<std::string, std::string>& metadata,
                                          const std::vector<SafetensorsPlan>& tensors);
  // Appends the bytes of the next piece of tensor `index`; tensors may be written in any order, pieces by offset.
  Status write(size_t index, uint64_t offset, std::span<const std::byte> bytes);
  Status commit();

 private:
  SafetensorsWriter(AtomicFileWriter file, std::vector<uint64_t> offsets, std::vector<uint64_t> sizes);
  AtomicFileWriter file_;
  std::vector<uint64_t> offsets_, sizes_;
};

}  // namespace nestling
