#include "storage/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/checked.h"
#include "storage/safetensors_header.h"
#include "tensor/float_types.h"

namespace nestling {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxRank = 8;

struct TypeTraits {
  std::string_view name;
  SafetensorsType type;
  uint64_t bits;
};
constexpr std::array kTypes{
    TypeTraits{"F64", SafetensorsType::kF64, 64},      TypeTraits{"F32", SafetensorsType::kF32, 32},
    TypeTraits{"F16", SafetensorsType::kF16, 16},      TypeTraits{"BF16", SafetensorsType::kBF16, 16},
    TypeTraits{"I64", SafetensorsType::kI64, 64},      TypeTraits{"I32", SafetensorsType::kI32, 32},
    TypeTraits{"I16", SafetensorsType::kI16, 16},      TypeTraits{"I8", SafetensorsType::kI8, 8},
    TypeTraits{"U8", SafetensorsType::kU8, 8},         TypeTraits{"BOOL", SafetensorsType::kBool, 8},
    TypeTraits{"U64", SafetensorsType::kOther, 64},    TypeTraits{"U32", SafetensorsType::kOther, 32},
    TypeTraits{"U16", SafetensorsType::kOther, 16},    TypeTraits{"C64", SafetensorsType::kOther, 64},
    TypeTraits{"F8_E4M3", SafetensorsType::kOther, 8}, TypeTraits{"F8_E5M2", SafetensorsType::kOther, 8},
    TypeTraits{"F8_E8M0", SafetensorsType::kOther, 8}, TypeTraits{"F6_E2M3", SafetensorsType::kOther, 6},
    TypeTraits{"F6_E3M2", SafetensorsType::kOther, 6}, TypeTraits{"F4", SafetensorsType::kOther, 4},
};

const TypeTraits* find_type(std::string_view name) {
  const auto* it = std::ranges::find(kTypes, name, &TypeTraits::name);
  return it == kTypes.end() ? nullptr : it;
}
const TypeTraits* find_type(SafetensorsType type) {
  const auto* it = std::ranges::find(kTypes, type, &TypeTraits::type);
  return it == kTypes.end() || type == SafetensorsType::kOther ? nullptr : it;
}

// Bytes of a whole tensor; nullopt when they overflow or do not fill whole bytes.
std::optional<uint64_t> byte_count(std::span<const int64_t> shape, uint64_t bits) {
  std::optional<uint64_t> total = bits;
  for (const int64_t dim : shape) {
    if (total) total = checked_mul(*total, static_cast<uint64_t>(dim));
  }
  if (!total || *total % 8 != 0) return std::nullopt;
  return *total / 8;
}

Result<SafetensorsEntry> checked_entry(const HeaderTensor& tensor, uint64_t buffer_bytes) {
  SafetensorsEntry entry{.name = tensor.name, .type_name = tensor.dtype, .shape = {}};
  if (tensor.shape.size() > kMaxRank)
    return fail(ErrorCode::kModel, "tensor {}: {} dimensions; at most {} are allowed", tensor.name, tensor.shape.size(),
                kMaxRank);
  for (const uint64_t dim : tensor.shape) {
    if (dim > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      return fail(ErrorCode::kModel, "tensor {}: a dimension of {} does not fit in 63 bits", tensor.name, dim);
    entry.shape.push_back(static_cast<int64_t>(dim));
  }
  if (tensor.data_offsets.size() != 2)
    return fail(ErrorCode::kModel, "tensor {}: data_offsets has {} numbers; 2 are needed", tensor.name,
                tensor.data_offsets.size());
  const uint64_t begin = tensor.data_offsets[0], end = tensor.data_offsets[1];
  if (begin > end || end > buffer_bytes)
    return fail(ErrorCode::kModel, "tensor {}: bytes {} to {} of a buffer of {}", tensor.name, begin, end,
                buffer_bytes);
  // A type nobody knows is an error only where the tensor is needed: its size cannot be checked.
  if (const TypeTraits* traits = find_type(tensor.dtype)) {
    entry.type = traits->type;
    const auto bytes = byte_count(entry.shape, traits->bits);
    if (!bytes || *bytes != end - begin)
      return fail(ErrorCode::kModel, "tensor {}: {} bytes for {} [{}]", tensor.name, end - begin, tensor.dtype,
                  fmt::join(entry.shape, ", "));
  } else if (!byte_count(entry.shape, 8)) {
    return fail(ErrorCode::kModel, "tensor {}: its number of elements does not fit in 64 bits", tensor.name);
  }
  entry.offset = begin;
  entry.bytes = end - begin;
  return entry;
}

// The ranges cover the buffer without holes, overlaps or a rest.
Status check_coverage(std::span<const SafetensorsEntry> entries, uint64_t buffer_bytes) {
  std::vector<const SafetensorsEntry*> order;
  for (const SafetensorsEntry& entry : entries) order.push_back(&entry);
  std::ranges::sort(order, {}, [](const auto* e) { return std::pair(e->offset, e->bytes); });
  uint64_t expected = 0;
  for (const SafetensorsEntry* entry : order) {
    if (entry->offset != expected)
      return fail(ErrorCode::kModel, "tensor {}: begins at byte {} of the buffer, the one before ends at {}",
                  entry->name, entry->offset, expected);
    expected += entry->bytes;
  }
  if (expected != buffer_bytes)
    return fail(ErrorCode::kModel, "{} bytes of tensors in a buffer of {} bytes", expected, buffer_bytes);
  return {};
}

Result<uint64_t> header_length(const File& file) {
  if (file.size() < 8) return fail(ErrorCode::kModel, "has {} bytes; a safetensors file has at least 8", file.size());
  uint64_t length = 0;
  NESTLING_TRY_VOID(file.read_at(0, std::as_writable_bytes(std::span(&length, 1))));
  if (length > kMaxHeaderBytes)
    return fail(ErrorCode::kModel, "a header of {} bytes; at most {} are allowed: not a safetensors file?", length,
                kMaxHeaderBytes);
  if (length > file.size() - 8)
    return fail(ErrorCode::kModel, "a header of {} bytes in a file of {}: truncated?", length, file.size());
  return length;
}

struct ParsedFile {
  std::vector<SafetensorsEntry> entries;
  std::map<std::string, std::string, std::less<>> metadata;
};

Result<ParsedFile> parse(const File& file) {
  NESTLING_TRY(const uint64_t length, header_length(file));
  std::string json(length, '\0');
  NESTLING_TRY_VOID(file.read_at(8, std::as_writable_bytes(std::span(json))));
  NESTLING_TRY(SafetensorsHeader header, parse_safetensors_header(json));
  const uint64_t buffer_begin = 8 + length;
  const uint64_t buffer_bytes = file.size() - buffer_begin;
  ParsedFile parsed{.entries = {}, .metadata = std::move(header.metadata)};
  for (const HeaderTensor& tensor : header.tensors) {
    NESTLING_TRY(SafetensorsEntry entry, checked_entry(tensor, buffer_bytes));
    parsed.entries.push_back(std::move(entry));
  }
  NESTLING_TRY_VOID(check_coverage(parsed.entries, buffer_bytes));
  for (SafetensorsEntry& entry : parsed.entries) entry.offset += buffer_begin;
  return parsed;
}

void widen_f16(std::span<const uint16_t> bits, float* out) { std::ranges::transform(bits, out, f16_to_f32); }
void widen_bf16(std::span<const uint16_t> bits, float* out) { std::ranges::transform(bits, out, bf16_to_f32); }
void narrow_f64(std::span<const double> values, float* out) {
  std::ranges::transform(values, out, [](double x) { return static_cast<float>(x); });
}

// Reads `count` elements of type T from element `first`, a piece at a time.
template <typename T, typename Use>
Status read_pieces(const File& file, const SafetensorsEntry& entry, int64_t first, int64_t count, Use use) {
  constexpr int64_t kPiece = 32'768;
  std::vector<T> piece(static_cast<size_t>(std::min(kPiece, count)));
  for (int64_t done = 0; done < count; done += kPiece) {
    const auto part = std::span(piece).first(static_cast<size_t>(std::min(kPiece, count - done)));
    const uint64_t offset = entry.offset + static_cast<uint64_t>(first + done) * sizeof(T);
    NESTLING_TRY_VOID(file.read_at(offset, std::as_writable_bytes(part)));
    use(std::span<const T>(part), done);
  }
  return {};
}

}  // namespace

int64_t SafetensorsEntry::elements() const {
  int64_t n = 1;
  for (const int64_t dim : shape) n *= dim;
  return n;
}

Result<SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile opened;
  NESTLING_TRY(opened.file_, File::open(path));
  auto parsed = parse(opened.file_);
  if (!parsed) {
    Error error = std::move(parsed).error();
    if (!error.message.starts_with(path.string())) error.message = path.string() + ": " + error.message;
    return std::unexpected(std::move(error));
  }
  opened.metadata_ = std::move(parsed->metadata);
  for (SafetensorsEntry& entry : parsed->entries) opened.entries_.emplace(entry.name, std::move(entry));
  return opened;
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  const auto it = entries_.find(name);
  return it == entries_.end() ? nullptr : &it->second;
}

Status SafetensorsFile::read_floats(const SafetensorsEntry& entry, int64_t first, std::span<float> out) const {
  const auto count = static_cast<int64_t>(out.size());
  NESTLING_CHECK_GE(first, 0);
  NESTLING_CHECK_LE(count, entry.elements());
  NESTLING_CHECK_LE(first, entry.elements() - count);
  switch (entry.type) {
    case SafetensorsType::kF32:
      return file_.read_at(entry.offset + static_cast<uint64_t>(first) * sizeof(float), std::as_writable_bytes(out));
    case SafetensorsType::kF16:
      return read_pieces<uint16_t>(file_, entry, first, count,
                                   [&](auto part, int64_t at) { widen_f16(part, out.data() + at); });
    case SafetensorsType::kBF16:
      return read_pieces<uint16_t>(file_, entry, first, count,
                                   [&](auto part, int64_t at) { widen_bf16(part, out.data() + at); });
    case SafetensorsType::kF64:
      return read_pieces<double>(file_, entry, first, count,
                                 [&](auto part, int64_t at) { narrow_f64(part, out.data() + at); });
    default:
      return fail(ErrorCode::kModel, "{}: tensor {} is {}; F32, F16, BF16 or F64 is needed", file_.path().string(),
                  entry.name, entry.type_name);
  }
}

Result<std::vector<int64_t>> SafetensorsFile::read_integers(const SafetensorsEntry& entry) const {
  const int64_t count = entry.elements();
  std::vector<int64_t> values;
  const auto append = [&](auto part, int64_t) { values.insert(values.end(), part.begin(), part.end()); };
  switch (entry.type) {
    case SafetensorsType::kI64: {
      NESTLING_TRY_VOID(read_pieces<int64_t>(file_, entry, 0, count, append));
      return values;
    }
    case SafetensorsType::kI32: {
      NESTLING_TRY_VOID(read_pieces<int32_t>(file_, entry, 0, count, append));
      return values;
    }
    case SafetensorsType::kU8:
    case SafetensorsType::kBool: {
      NESTLING_TRY_VOID(read_pieces<uint8_t>(file_, entry, 0, count, append));
      return values;
    }
    default:
      return fail(ErrorCode::kModel, "{}: tensor {} is {}; I64, I32, U8 or BOOL is needed", file_.path().string(),
                  entry.name, entry.type_name);
  }
}

SafetensorsWriter::SafetensorsWriter(AtomicFileWriter file, std::vector<uint64_t> offsets, std::vector<uint64_t> sizes)
    : file_(std::move(file)), offsets_(std::move(offsets)), sizes_(std::move(sizes)) {}

Result<SafetensorsWriter> SafetensorsWriter::create(const std::filesystem::path& target,
                                                    const std::map<std::string, std::string>& metadata,
                                                    const std::vector<SafetensorsPlan>& tensors) {
  SafetensorsHeader header{.tensors = {}, .metadata = {metadata.begin(), metadata.end()}};
  std::vector<uint64_t> offsets{0}, sizes;
  for (const SafetensorsPlan& tensor : tensors) {
    const TypeTraits* traits = find_type(tensor.type);
    NESTLING_CHECK(traits != nullptr);
    NESTLING_CHECK_LE(tensor.shape.size(), kMaxRank);
    for (const int64_t dim : tensor.shape) NESTLING_CHECK_GE(dim, 0);
    const auto bytes = byte_count(tensor.shape, traits->bits);
    const auto end = bytes ? checked_add(offsets.back(), *bytes) : std::nullopt;
    if (!end || *end > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) / 2)
      return fail(ErrorCode::kFailed, "{}: tensor {}: larger than any file system allows", target.string(),
                  tensor.name);
    header.tensors.push_back({.name = tensor.name,
                              .dtype = std::string(traits->name),
                              .shape = {tensor.shape.begin(), tensor.shape.end()},
                              .data_offsets = {offsets.back(), *end}});
    offsets.push_back(*end);
    sizes.push_back(*bytes);
  }
  NESTLING_TRY(std::string json, format_safetensors_header(header));
  json.resize(static_cast<size_t>(round_up(static_cast<int64_t>(json.size()), 8)), ' ');  // aligned buffers
  if (json.size() > kMaxHeaderBytes)
    return fail(ErrorCode::kFailed, "{}: a header of {} bytes; at most {} are allowed", target.string(), json.size(),
                kMaxHeaderBytes);

  NESTLING_TRY(auto file, AtomicFileWriter::create(target));
  const uint64_t length = json.size();
  NESTLING_TRY_VOID(file.write(std::as_bytes(std::span(&length, 1))));
  NESTLING_TRY_VOID(file.write(std::as_bytes(std::span(json))));
  for (uint64_t& offset : offsets) offset += file.position();
  // The file has its whole length from the start; what is not written stays zero.
  static constexpr std::byte kZero{};
  if (offsets.back() > file.position()) NESTLING_TRY_VOID(file.write_at(offsets.back() - 1, {&kZero, 1}));
  offsets.pop_back();
  return SafetensorsWriter(std::move(file), std::move(offsets), std::move(sizes));
}

Status SafetensorsWriter::write(size_t index, uint64_t offset, std::span<const std::byte> bytes) {
  NESTLING_CHECK_LT(index, sizes_.size());
  NESTLING_CHECK_LE(offset, sizes_[index]);
  NESTLING_CHECK_LE(bytes.size(), sizes_[index] - offset);
  return file_.write_at(offsets_[index] + offset, bytes);
}

Status SafetensorsWriter::commit() { return file_.commit(); }

}  // namespace nestling
