// GGUF version 3 containers: parsed with every count, length and offset checked before memory is asked for, and written
// in the order ggml's own reader demands. Layout, types and limits: the GGUF specification (ggml docs/gguf.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace nestling::gguf {

enum class ValueType : uint32_t {
  kUint8 = 0,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64
};

// Integers of every width are widened; arrays are homogeneous.
using Value = std::variant<bool, uint64_t, int64_t, double, std::string, std::vector<uint8_t>, std::vector<uint64_t>,
                           std::vector<int64_t>, std::vector<double>, std::vector<bool>, std::vector<std::string>>;

struct Tensor {
  std::string name;
  std::vector<uint64_t> dims;  // ne order: dims[0] is contiguous
  uint32_t ggml_type = 0;      // 0 F32, 1 F16, 2 Q4_0, 8 Q8_0, 14 Q6_K, 24 I8, 30 BF16, ...
  uint64_t offset = 0;         // from the start of the file
  uint64_t bytes = 0;
};

struct Header {
  std::map<std::string, Value, std::less<>> metadata;
  // The keys in file order with the type each is stored as (the type of the elements, for an array).
  std::vector<std::pair<std::string, ValueType>> stored_keys;
  std::vector<Tensor> tensors;
  uint64_t alignment = 32;

  const Value* find(std::string_view key) const;
  Result<std::string> string(std::string_view key) const;         // missing or of another type: kModel
  Result<uint64_t> unsigned_integer(std::string_view key) const;  // any integer type, or a float with integral value
};

// Parses and checks everything in front of the data, and that all data lies inside the file: kModel naming what is
// wrong.
Result<Header> read_header(const File& file);

// `stored_as` (the type of the elements, for an array) where the natural BOOL, UINT64, INT64, FLOAT64, STRING or, for
// vector<uint8_t>, UINT8 is not what other readers of the key expect: ggml wants most counts as UINT32.
struct MetadataEntry {
  std::string key;
  Value value;
  std::optional<ValueType> stored_as = std::nullopt;
};

// Writes header first: all tensor sizes are known before any data is. Metadata keeps the order of addition.
struct TensorPlan {
  std::string name;
  std::vector<uint64_t> dims;
  uint32_t ggml_type = 0;
  uint64_t bytes = 0;
};
class Writer {
 public:
  // `alignment`: a power of two, 8 to 65,536; recorded as general.alignment where it is not the default of 32. Names,
  // values and sizes that no reader would accept are refused here.
  static Result<Writer> create(const std::filesystem::path& target, const std::vector<MetadataEntry>& metadata,
                               const std::vector<TensorPlan>& tensors, uint64_t alignment);
  // Writes `bytes` at `offset` inside tensor `index`; any order, any pieces; unwritten bytes are zero.
  Status write(size_t index, uint64_t offset, std::span<const std::byte> bytes);
  // commit() will drop the data of tensor `index` from the page cache.
  void drop_from_page_cache(size_t index);
  Status commit();

 private:
  Writer(AtomicFileWriter file, std::vector<uint64_t> offsets, std::vector<uint64_t> sizes);
  AtomicFileWriter file_;
  std::vector<uint64_t> offsets_, sizes_;
};

// Bytes of a tensor of `type` with `dims`, or an error naming the tensor for unknown and removed types and rows that
// are not a multiple of the type's block.
Result<uint64_t> tensor_bytes(std::string_view name, uint32_t type, std::span<const uint64_t> dims);

// What a reader accepts and the writer keeps to.
inline constexpr uint64_t kMaxTensors = 65'536;
inline constexpr uint64_t kMaxKeys = 65'536;
inline constexpr uint64_t kMaxKeyBytes = 65'535;
inline constexpr uint64_t kMaxTensorNameBytes = 63;
inline constexpr uint64_t kMaxStringBytes = uint64_t{64} << 20;
inline constexpr uint64_t kMaxMetadataBytes = uint64_t{256} << 20;
inline constexpr uint64_t kMaxArrayElements = uint64_t{1} << 24;
inline constexpr uint64_t kMaxDim = uint64_t{1} << 40;
inline constexpr uint64_t kMaxDims = 4;
inline constexpr uint64_t kDefaultAlignment = 32;

bool is_allowed_alignment(uint64_t alignment);  // a power of two, 8 to 65,536

}  // namespace nestling::gguf
