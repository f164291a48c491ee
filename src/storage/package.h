// model.nest, the package Nestling runs: a GGUF v3 container (alignment 16,384, so that a region can be mapped on
// machines with 16 KiB pages) whose tensors are one-dimensional I8 of their exact byte count. Logical shape, weight
// type, layout and region of each tensor are metadata arrays in tensor order:
//   nestling.format_version u64 · nestling.config (JSON text, model/config.h) · nestling.source (text) ·
//   nestling.cache_key u8[] · nestling.tensor.{type,layout,region,rows,cols} u64[] (ids of tensor/weight.h).
// Regions lie in the order text core, vision, audio, PLE; only the text core is mapped at open. The SentencePiece
// model, where there is one, is a last tensor of its own, nestling.tokenizer, which the arrays leave out: as a metadata
// array of bytes it would cost gguf-py 45 seconds and 3 GB to list a package.
#pragma once

#include <array>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "storage/gguf.h"
#include "tensor/weight.h"

namespace nestling {

// A package of another version is refused (or imported again, where it is a cached import).
inline constexpr uint64_t kPackageFormatVersion = 4;
inline constexpr uint64_t kPackageAlignment = 16'384;

enum class Region : uint8_t { kText = 0, kVision = 1, kAudio = 2, kPle = 3 };
inline constexpr int kRegionCount = 4;
std::string_view region_name(Region region);  // "text", "vision", "audio", "ple"

struct PackageTensor {
  std::string name;
  WeightType type = WeightType::kF32;
  Layout layout = Layout::kRows;
  Region region = Region::kText;
  int64_t rows = 0, cols = 0;  // vectors: rows 1
  uint64_t bytes = 0;          // packed_bytes(type, layout, rows, cols)
  uint64_t offset = 0;         // in the file; set when read
};

struct PackageInfo {
  std::string config_json;
  std::string source;     // what it was imported from, for `inspect`
  std::string cache_key;  // identity of source and options, "" for a package the user asked for
  std::string tokenizer;  // SentencePiece model bytes, "" when the checkpoint has none
};

class PackageWriter {
 public:
  // `tensors` sorted by region; offsets are assigned here. Checks that the disk has room before writing.
  static Result<PackageWriter> create(const std::filesystem::path& target, const PackageInfo& info,
                                      const std::vector<PackageTensor>& tensors);
  Status write(size_t tensor, uint64_t offset, std::span<const std::byte> bytes);
  Status commit();

 private:
  explicit PackageWriter(gguf::Writer writer) : writer_(std::move(writer)) {}
  gguf::Writer writer_;
};

// An open package. Thread-compatible: load and release of a region are called by one thread.
class Package {
 public:
  // Parses and checks everything (sizes, shapes, types, region order), maps the text core. A package of another version
  // or a damaged one: kModel.
  static Result<Package> open(const std::filesystem::path& path);

  const PackageInfo& info() const { return info_; }
  const File& file() const { return file_; }
  const std::vector<PackageTensor>& tensors() const { return tensors_; }
  const PackageTensor* find(std::string_view name) const;
  bool has_region(Region region) const;
  uint64_t region_bytes(Region region) const;  // file bytes from its first to its last tensor

  // Conditional loading: maps the vision or audio region (text is always mapped; PLE never is). Idempotent.
  Status load_region(Region region);
  // Unmaps it and drops its pages from this process and the page cache. WeightMatrix views into it die.
  void release_region(Region region);
  bool is_loaded(Region region) const;

  // A view of a tensor of a loaded region; missing, or another shape than rows x cols: kModel naming both.
  Result<WeightMatrix> matrix(std::string_view name, int64_t rows, int64_t cols) const;
  // The float32 values of a vector tensor [cols] (type f32, layout kRows).
  Result<const float*> vector(std::string_view name, int64_t cols) const;
  // Bytes of a view that are resident in memory now (mincore).
  uint64_t resident_bytes(const WeightMatrix& w) const;
  uint64_t resident_bytes(Region region) const;  // 0 for a region that is not loaded

 private:
  File file_;
  PackageInfo info_;
  std::vector<PackageTensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  std::array<MappedFile, kRegionCount> regions_;
  std::array<uint64_t, kRegionCount> region_begin_{}, region_end_{};
};

}  // namespace nestling
