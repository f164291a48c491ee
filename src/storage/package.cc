#include "storage/package.h"

#include <fcntl.h>

#include <array>
#include <limits>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/checked.h"
#include "storage/utf8.h"

namespace nestling {
namespace {

constexpr std::string_view kVersionKey = "nestling.format_version";
constexpr std::string_view kConfigKey = "nestling.config";
constexpr std::string_view kSourceKey = "nestling.source";
constexpr std::string_view kCacheKeyKey = "nestling.cache_key";
constexpr std::string_view kTokenizerName = "nestling.tokenizer";
constexpr uint32_t kGgmlI8 = 24;
constexpr int64_t kMaxSide = int64_t{1} << 31;
constexpr uint64_t kMaxElements = uint64_t{1} << 40;
constexpr uint64_t kMaxTokenizerBytes = uint64_t{64} << 20;

// The metadata arrays that describe the tensors, one element per tensor.
struct Descriptions {
  std::vector<uint64_t> type, layout, region, rows, cols;
  static constexpr std::array<std::pair<std::string_view, std::vector<uint64_t> Descriptions::*>, 5> fields() {
    return {{{"nestling.tensor.type", &Descriptions::type},
             {"nestling.tensor.layout", &Descriptions::layout},
             {"nestling.tensor.region", &Descriptions::region},
             {"nestling.tensor.rows", &Descriptions::rows},
             {"nestling.tensor.cols", &Descriptions::cols}}};
  }
};

Status check_tensor(const PackageTensor& t) {
  if (t.rows < 1 || t.cols < 1 || t.rows > kMaxSide || t.cols > kMaxSide ||
      static_cast<uint64_t>(t.rows) * static_cast<uint64_t>(t.cols) > kMaxElements)
    return fail(ErrorCode::kModel, "tensor {}: {} x {}; sides of 1 to {} and at most {} elements are allowed", t.name,
                t.rows, t.cols, kMaxSide, kMaxElements);
  if (is_row_coded(t.type) && t.layout != Layout::kIl16)
    return fail(ErrorCode::kModel, "tensor {}: {} in {}; this type is stored in {} only", t.name,
                weight_type_name(t.type), layout_name(t.layout), layout_name(Layout::kIl16));
  if (t.type == WeightType::kI16 && t.cols > kMaxI16Inputs)
    return fail(ErrorCode::kModel, "tensor {}: {} inputs of {}; at most {} are allowed", t.name, t.cols,
                weight_type_name(t.type), kMaxI16Inputs);
  const uint64_t bytes = packed_bytes(t.type, t.layout, t.rows, t.cols);
  if (t.bytes != bytes)
    return fail(ErrorCode::kModel, "tensor {}: {} bytes; {} x {} of {} in {} take {}", t.name, t.bytes, t.rows, t.cols,
                weight_type_name(t.type), layout_name(t.layout), bytes);
  return {};
}

Status check_order(const std::vector<PackageTensor>& tensors) {
  for (size_t i = 1; i < tensors.size(); ++i) {
    const PackageTensor &before = tensors[i - 1], &t = tensors[i];
    if (t.region < before.region)
      return fail(ErrorCode::kModel, "tensor {} of the {} region follows {} of {}", t.name, region_name(t.region),
                  before.name, region_name(before.region));
  }
  return {};
}

Result<Descriptions> read_descriptions(const gguf::Header& header, size_t tensors) {
  Descriptions descriptions;
  for (const auto& [key, field] : Descriptions::fields()) {
    const gguf::Value* value = header.find(key);
    const auto* numbers = value == nullptr ? nullptr : std::get_if<std::vector<uint64_t>>(value);
    if (numbers == nullptr) return fail(ErrorCode::kModel, "{} is missing or no array of integers", key);
    if (numbers->size() != tensors)
      return fail(ErrorCode::kModel, "{} has {} elements for {} tensors", key, numbers->size(), tensors);
    descriptions.*field = *numbers;
  }
  return descriptions;
}

Result<PackageTensor> read_tensor(const gguf::Tensor& stored, const Descriptions& descriptions, size_t i) {
  if (stored.ggml_type != kGgmlI8 || stored.dims.size() != 1)
    return fail(ErrorCode::kModel, "tensor {}: ggml type {} in {} dimensions; I8 in one is needed", stored.name,
                stored.ggml_type, stored.dims.size());
  const auto in_range = [&](const char* what, uint64_t value, uint64_t max) -> Status {
    if (value <= max) return {};
    return fail(ErrorCode::kModel, "tensor {}: {} {}; 0 to {} are known", stored.name, what, value, max);
  };
  NESTLING_TRY_VOID(in_range("weight type", descriptions.type[i], kWeightTypeCount - 1));
  NESTLING_TRY_VOID(in_range("layout", descriptions.layout[i], static_cast<uint64_t>(Layout::kInputMajor)));
  NESTLING_TRY_VOID(in_range("region", descriptions.region[i], kRegionCount - 1));
  NESTLING_TRY_VOID(in_range("rows", descriptions.rows[i], kMaxSide));
  NESTLING_TRY_VOID(in_range("cols", descriptions.cols[i], kMaxSide));
  PackageTensor tensor{.name = stored.name,
                       .type = static_cast<WeightType>(descriptions.type[i]),
                       .layout = static_cast<Layout>(descriptions.layout[i]),
                       .region = static_cast<Region>(descriptions.region[i]),
                       .rows = static_cast<int64_t>(descriptions.rows[i]),
                       .cols = static_cast<int64_t>(descriptions.cols[i]),
                       .bytes = stored.bytes,
                       .offset = stored.offset};
  NESTLING_TRY_VOID(check_tensor(tensor));
  return tensor;
}

// Each tensor begins at the first aligned byte after the one before: regions are contiguous and hold nothing unknown.
Status check_placement(const std::vector<gguf::Tensor>& tensors) {
  for (size_t i = 1; i < tensors.size(); ++i) {
    const auto expected = checked_round_up(tensors[i - 1].offset + tensors[i - 1].bytes, kPackageAlignment);
    if (!expected || tensors[i].offset != *expected)
      return fail(ErrorCode::kModel, "tensor {}: lies at byte {}, not directly behind {}", tensors[i].name,
                  tensors[i].offset, tensors[i - 1].name);
  }
  return {};
}

Status check_version(const gguf::Header& header) {
  if (header.find(kVersionKey) == nullptr)
    return fail(ErrorCode::kModel, "is a GGUF file but not a Nestling package (no {}): import it", kVersionKey);
  NESTLING_TRY(const uint64_t version, header.unsigned_integer(kVersionKey));
  if (version != kPackageFormatVersion)
    return fail(ErrorCode::kModel, "was written by another version (format {}; this program reads {}): import it again",
                version, kPackageFormatVersion);
  if (header.alignment != kPackageAlignment)
    return fail(ErrorCode::kModel, "alignment {}; a package has {}", header.alignment, kPackageAlignment);
  return {};
}

Result<PackageInfo> read_info(const gguf::Header& header) {
  PackageInfo info;
  NESTLING_TRY(info.config_json, header.string(kConfigKey));
  NESTLING_TRY(info.source, header.string(kSourceKey));
  if (const gguf::Value* value = header.find(kCacheKeyKey)) {
    const auto* bytes = std::get_if<std::vector<uint8_t>>(value);
    if (bytes == nullptr) return fail(ErrorCode::kModel, "{} is no array of bytes", kCacheKeyKey);
    info.cache_key.assign(bytes->begin(), bytes->end());
  }
  return info;
}

Result<std::string> read_tokenizer(const File& file, const gguf::Tensor& tensor) {
  if (tensor.ggml_type != kGgmlI8 || tensor.dims.size() != 1 || tensor.bytes > kMaxTokenizerBytes)
    return fail(ErrorCode::kModel, "tensor {}: {} bytes of ggml type {}; one dimension of at most {} I8 is allowed",
                tensor.name, tensor.bytes, tensor.ggml_type, kMaxTokenizerBytes);
  std::string text(tensor.bytes, '\0');
  NESTLING_TRY_VOID(file.read_at(tensor.offset, std::as_writable_bytes(std::span(text))));
  return text;
}

struct Contents {
  PackageInfo info;
  std::vector<PackageTensor> tensors;
};

Result<Contents> read_contents(const File& file) {
  NESTLING_TRY(gguf::Header header, gguf::read_header(file));
  NESTLING_TRY_VOID(check_version(header));
  NESTLING_TRY_VOID(check_placement(header.tensors));
  Contents contents;
  NESTLING_TRY(contents.info, read_info(header));
  if (!header.tensors.empty() && header.tensors.back().name == kTokenizerName) {
    NESTLING_TRY(contents.info.tokenizer, read_tokenizer(file, header.tensors.back()));
    header.tensors.pop_back();
  }
  if (header.tensors.empty()) return fail(ErrorCode::kModel, "holds no tensors");
  NESTLING_TRY(const Descriptions descriptions, read_descriptions(header, header.tensors.size()));
  for (size_t i = 0; i < header.tensors.size(); ++i) {
    NESTLING_TRY(PackageTensor tensor, read_tensor(header.tensors[i], descriptions, i));
    contents.tensors.push_back(std::move(tensor));
  }
  NESTLING_TRY_VOID(check_order(contents.tensors));
  return contents;
}

// Bytes of the tensors, padding included (the header adds less than a megabyte); nullopt when that does not fit.
std::optional<uint64_t> data_bytes(const std::vector<gguf::TensorPlan>& plans) {
  std::optional<uint64_t> total = 0;
  for (const gguf::TensorPlan& plan : plans) {
    const auto padded = checked_round_up(plan.bytes, kPackageAlignment);
    total = total && padded ? checked_add(*total, *padded) : std::nullopt;
  }
  return total;
}

Status check_free_disk(const std::filesystem::path& target, const std::vector<gguf::TensorPlan>& plans) {
  const std::filesystem::path directory = target.has_parent_path() ? target.parent_path() : ".";
  NESTLING_TRY(const uint64_t free, free_disk_bytes(directory));
  const auto needed = data_bytes(plans);
  if (needed && *needed <= free) return {};
  return fail(ErrorCode::kFailed, "{}: {} bytes are needed on the disk, {} are free", target.string(),
              needed.value_or(std::numeric_limits<uint64_t>::max()), free);
}

std::vector<gguf::MetadataEntry> metadata_of(const PackageInfo& info, const std::vector<PackageTensor>& tensors) {
  Descriptions descriptions;
  for (const PackageTensor& t : tensors) {
    descriptions.type.push_back(static_cast<uint64_t>(t.type));
    descriptions.layout.push_back(static_cast<uint64_t>(t.layout));
    descriptions.region.push_back(static_cast<uint64_t>(t.region));
    descriptions.rows.push_back(static_cast<uint64_t>(t.rows));
    descriptions.cols.push_back(static_cast<uint64_t>(t.cols));
  }
  std::vector<gguf::MetadataEntry> metadata{
      {"general.architecture", std::string("nestling")},
      {std::string(kVersionKey), kPackageFormatVersion},
      {std::string(kConfigKey), info.config_json},
      {std::string(kSourceKey), replace_invalid_utf8(info.source)},
      // Paths are part of a key and may be any bytes: no string.
      {std::string(kCacheKeyKey), std::vector<uint8_t>(info.cache_key.begin(), info.cache_key.end())},
  };
  for (const auto& [key, field] : Descriptions::fields())
    metadata.push_back({std::string(key), std::move(descriptions.*field)});
  return metadata;
}

}  // namespace

std::string_view region_name(Region region) {
  static constexpr std::array<std::string_view, kRegionCount> names{"text", "vision", "audio", "ple"};
  return names[static_cast<size_t>(region)];
}

Result<PackageWriter> PackageWriter::create(const std::filesystem::path& target, const PackageInfo& info,
                                            const std::vector<PackageTensor>& tensors) {
  NESTLING_TRY_VOID(check_order(tensors));
  std::vector<gguf::TensorPlan> plans;
  for (const PackageTensor& t : tensors) {
    NESTLING_TRY_VOID(check_tensor(t));
    plans.push_back({.name = t.name, .dims = {t.bytes}, .ggml_type = kGgmlI8, .bytes = t.bytes});
  }
  const uint64_t tokenizer_bytes = info.tokenizer.size();
  if (tokenizer_bytes > kMaxTokenizerBytes)
    return fail(ErrorCode::kModel, "a tokenizer of {} bytes; at most {} are allowed", tokenizer_bytes,
                kMaxTokenizerBytes);
  if (tokenizer_bytes > 0) plans.push_back({std::string(kTokenizerName), {tokenizer_bytes}, kGgmlI8, tokenizer_bytes});
  NESTLING_TRY_VOID(check_free_disk(target, plans));
  NESTLING_TRY(auto writer, gguf::Writer::create(target, metadata_of(info, tensors), plans, kPackageAlignment));
  if (tokenizer_bytes > 0) NESTLING_TRY_VOID(writer.write(tensors.size(), 0, std::as_bytes(std::span(info.tokenizer))));
  // PLE rows are read by position: a table left in the page cache by its import would look like memory in use.
  for (size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i].region == Region::kPle) writer.drop_from_page_cache(i);
  return PackageWriter(std::move(writer));
}

Status PackageWriter::write(size_t tensor, uint64_t offset, std::span<const std::byte> bytes) {
  return writer_.write(tensor, offset, bytes);
}

Status PackageWriter::commit() { return writer_.commit(); }

Result<Package> Package::open(const std::filesystem::path& path) {
  Package package;
  NESTLING_TRY(package.file_, File::open(path));
  auto contents = read_contents(package.file_);
  if (!contents) {
    Error error = std::move(contents).error();
    if (!error.message.starts_with(path.string())) error.message = path.string() + ": " + error.message;
    return std::unexpected(std::move(error));
  }
  package.info_ = std::move(contents->info);
  package.tensors_ = std::move(contents->tensors);
  for (size_t i = 0; i < package.tensors_.size(); ++i) {
    const PackageTensor& t = package.tensors_[i];
    package.index_.emplace(t.name, i);
    const auto region = static_cast<size_t>(t.region);
    if (package.region_end_[region] == 0) package.region_begin_[region] = t.offset;
    package.region_end_[region] = t.offset + t.bytes;
  }
  if (package.has_region(Region::kText)) NESTLING_TRY_VOID(package.load_region(Region::kText));
  return package;
}

const PackageTensor* Package::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

bool Package::has_region(Region region) const { return region_end_[static_cast<size_t>(region)] != 0; }

uint64_t Package::region_bytes(Region region) const {
  const auto r = static_cast<size_t>(region);
  return region_end_[r] - region_begin_[r];
}

Status Package::load_region(Region region) {
  NESTLING_CHECK(region != Region::kPle);  // rows of it are read by position
  if (is_loaded(region)) return {};
  if (!has_region(region))
    return fail(ErrorCode::kModel, "{}: has no {} part", file_.path().string(), region_name(region));
  const auto r = static_cast<size_t>(region);
  NESTLING_TRY(regions_[r], MappedFile::map(file_, region_begin_[r], region_end_[r] - region_begin_[r]));
  regions_[r].prefer_huge_pages();
  return {};
}

void Package::release_region(Region region) {
  if (!is_loaded(region)) return;
  const auto r = static_cast<size_t>(region);
  { const MappedFile unmapped = std::exchange(regions_[r], MappedFile()); }
  // The page cache keeps pages that are mapped, hence after the mapping is gone; whole pages only, hence with the
  // padding behind the last tensor. A failure costs memory that the system can take back by itself.
  const uint64_t end = region_end_[r] + kPackageAlignment - 1;
  ::posix_fadvise(file_.fd(), static_cast<off_t>(region_begin_[r]),
                  static_cast<off_t>(end / kPackageAlignment * kPackageAlignment - region_begin_[r]),
                  POSIX_FADV_DONTNEED);
}

bool Package::is_loaded(Region region) const { return !regions_[static_cast<size_t>(region)].bytes().empty(); }

Result<WeightMatrix> Package::matrix(std::string_view name, int64_t rows, int64_t cols) const {
  const PackageTensor* t = find(name);
  if (t == nullptr)
    return fail(ErrorCode::kModel, "{}: tensor {} is missing; it should be {} x {}", file_.path().string(), name, rows,
                cols);
  if (t->rows != rows || t->cols != cols)
    return fail(ErrorCode::kModel, "{}: tensor {} is {} x {}; the configuration needs {} x {}", file_.path().string(),
                name, t->rows, t->cols, rows, cols);
  NESTLING_CHECK(is_loaded(t->region));
  const auto r = static_cast<size_t>(t->region);
  return WeightMatrix{.type = t->type,
                      .layout = t->layout,
                      .rows = rows,
                      .cols = cols,
                      .stored_rows = rows,
                      .stored_cols = cols,
                      .data = regions_[r].bytes().data() + (t->offset - region_begin_[r]),
                      .bytes = t->bytes};
}

Result<const float*> Package::vector(std::string_view name, int64_t cols) const {
  NESTLING_TRY(const WeightMatrix w, matrix(name, 1, cols));
  if (w.type != WeightType::kF32 || w.layout != Layout::kRows)
    return fail(ErrorCode::kModel, "{}: tensor {} is {} in {}; a vector is f32 in {}", file_.path().string(), name,
                weight_type_name(w.type), layout_name(w.layout), layout_name(Layout::kRows));
  return reinterpret_cast<const float*>(w.data);
}

uint64_t Package::resident_bytes(const WeightMatrix& w) const {
  for (const MappedFile& region : regions_) {
    const auto bytes = region.bytes();
    if (bytes.empty() || w.data < bytes.data() || w.data >= bytes.data() + bytes.size()) continue;
    return region.resident_bytes({w.data, static_cast<size_t>(w.bytes)});
  }
  return 0;
}

uint64_t Package::resident_bytes(Region region) const {
  const MappedFile& mapped = regions_[static_cast<size_t>(region)];
  return mapped.resident_bytes(mapped.bytes());
}

}  // namespace nestling
