#include <array>
#include <limits>
#include <type_traits>
#include <unordered_set>
#include <utility>

#include "base/check.h"
#include "base/checked.h"
#include "storage/gguf.h"
#include "storage/utf8.h"

namespace nestling::gguf {
namespace {

// The bytes in front of the data, in memory: a few megabytes at most.
class HeaderBytes {
 public:
  template <typename T>
  void number(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void string(std::string_view text) {
    number<uint64_t>(text.size());
    bytes_.append(text);
  }
  void raw(std::span<const uint8_t> bytes) { bytes_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size()); }
  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(bytes_)); }
  uint64_t size() const { return bytes_.size(); }

 private:
  std::string bytes_;
};

ValueType natural_type(const Value& value) {
  return std::visit(
      []<typename T>(const T&) {
        if constexpr (std::is_same_v<T, bool> || std::is_same_v<T, std::vector<bool>>) return ValueType::kBool;
        if constexpr (std::is_same_v<T, uint64_t> || std::is_same_v<T, std::vector<uint64_t>>)
          return ValueType::kUint64;
        if constexpr (std::is_same_v<T, int64_t> || std::is_same_v<T, std::vector<int64_t>>) return ValueType::kInt64;
        if constexpr (std::is_same_v<T, double> || std::is_same_v<T, std::vector<double>>) return ValueType::kFloat64;
        if constexpr (std::is_same_v<T, std::vector<uint8_t>>) return ValueType::kUint8;
        return ValueType::kString;
      },
      value);
}

template <typename Stored, typename Given>
Status put_number(HeaderBytes& out, Given value) {
  if constexpr (std::is_integral_v<Given> && std::is_integral_v<Stored>) {
    if (!std::in_range<Stored>(value))
      return fail(ErrorCode::kFailed, "{} does not fit in {} bytes", value, sizeof(Stored));
  }
  out.number(static_cast<Stored>(value));
  return {};
}

// One number as `type`. Integers stay integers and floats stay floats: a reader would see another value otherwise.
template <typename Given>
Status put(HeaderBytes& out, ValueType type, Given value) {
  if constexpr (std::is_floating_point_v<Given>) {
    if (type == ValueType::kFloat32) return put_number<float>(out, value);
    if (type == ValueType::kFloat64) return put_number<double>(out, value);
  } else if constexpr (std::is_same_v<Given, bool>) {
    if (type == ValueType::kBool) return put_number<uint8_t>(out, static_cast<uint8_t>(value));
  } else {
    switch (type) {
      case ValueType::kUint8: return put_number<uint8_t>(out, value);
      case ValueType::kInt8: return put_number<int8_t>(out, value);
      case ValueType::kUint16: return put_number<uint16_t>(out, value);
      case ValueType::kInt16: return put_number<int16_t>(out, value);
      case ValueType::kUint32: return put_number<uint32_t>(out, value);
      case ValueType::kInt32: return put_number<int32_t>(out, value);
      case ValueType::kUint64: return put_number<uint64_t>(out, value);
      case ValueType::kInt64: return put_number<int64_t>(out, value);
      default: break;
    }
  }
  return fail(ErrorCode::kFailed, "a value that cannot be stored as type {}", static_cast<uint32_t>(type));
}

Status put(HeaderBytes& out, ValueType type, const std::string& text) {
  if (type != ValueType::kString)
    return fail(ErrorCode::kFailed, "a string that cannot be stored as type {}", static_cast<uint32_t>(type));
  if (text.size() > kMaxStringBytes || !is_valid_utf8(text))
    return fail(ErrorCode::kFailed, "a string of {} bytes; valid UTF-8 of at most {} is allowed", text.size(),
                kMaxStringBytes);
  out.string(text);
  return {};
}

template <typename Element>
Status put(HeaderBytes& out, ValueType type, const std::vector<Element>& values) {
  if (values.size() > kMaxArrayElements)
    return fail(ErrorCode::kFailed, "an array of {} elements; at most {} are allowed", values.size(),
                kMaxArrayElements);
  out.number(static_cast<uint32_t>(type));
  out.number<uint64_t>(values.size());
  if constexpr (std::is_same_v<Element, uint8_t>) {
    if (type == ValueType::kUint8) {
      out.raw(values);
      return {};
    }
  }
  for (size_t i = 0; i < values.size(); ++i) {
    if constexpr (std::is_same_v<Element, bool>) {
      NESTLING_TRY_VOID(put(out, type, static_cast<bool>(values[i])));
    } else {
      NESTLING_TRY_VOID(put(out, type, values[i]));
    }
  }
  return {};
}

bool is_array(const Value& value) {
  return std::visit(
      []<typename T>(const T&) {
        return !std::is_same_v<T, std::string> && requires(T t) { t.size(); };
      },
      value);
}

Status put_entry(HeaderBytes& out, const MetadataEntry& entry) {
  if (entry.key.empty() || entry.key.size() > kMaxKeyBytes || !is_valid_utf8(entry.key))
    return fail(ErrorCode::kFailed, "a metadata key of {} bytes; UTF-8 of 1 to {} is allowed", entry.key.size(),
                kMaxKeyBytes);
  const ValueType type = entry.stored_as.value_or(natural_type(entry.value));
  out.string(entry.key);
  out.number(static_cast<uint32_t>(is_array(entry.value) ? ValueType::kArray : type));
  auto written = std::visit([&](const auto& value) { return put(out, type, value); }, entry.value);
  if (!written) return fail(ErrorCode::kFailed, "metadata key {}: {}", entry.key, written.error().message);
  return {};
}

// general.alignment leads where the caller did not name it and readers would assume another.
Status put_metadata(HeaderBytes& out, const std::vector<MetadataEntry>& metadata, uint64_t alignment) {
  std::unordered_set<std::string_view> keys;
  for (const MetadataEntry& entry : metadata) {
    if (!keys.insert(entry.key).second) return fail(ErrorCode::kFailed, "metadata key {} is given twice", entry.key);
    if (entry.key != "general.alignment") continue;
    const auto* given = std::get_if<uint64_t>(&entry.value);
    NESTLING_CHECK(given != nullptr && *given == alignment && entry.stored_as == ValueType::kUint32);
  }
  const bool add_alignment = alignment != kDefaultAlignment && !keys.contains("general.alignment");
  out.number<uint64_t>(metadata.size() + (add_alignment ? 1 : 0));
  if (add_alignment) NESTLING_TRY_VOID(put_entry(out, {"general.alignment", alignment, ValueType::kUint32}));
  for (const MetadataEntry& entry : metadata) NESTLING_TRY_VOID(put_entry(out, entry));
  if (out.size() > kMaxMetadataBytes)
    return fail(ErrorCode::kFailed, "{} bytes of metadata; at most {} are allowed", out.size(), kMaxMetadataBytes);
  return {};
}

Status check_plan(const TensorPlan& tensor, std::unordered_set<std::string_view>& names) {
  if (tensor.name.empty() || tensor.name.size() > kMaxTensorNameBytes || !is_valid_utf8(tensor.name))
    return fail(ErrorCode::kFailed, "tensor name '{}' has {} bytes; UTF-8 of 1 to {} is allowed", tensor.name,
                tensor.name.size(), kMaxTensorNameBytes);
  if (!names.insert(tensor.name).second) return fail(ErrorCode::kFailed, "tensor {} is given twice", tensor.name);
  NESTLING_TRY(const uint64_t bytes, tensor_bytes(tensor.name, tensor.ggml_type, tensor.dims));
  if (bytes != tensor.bytes)
    return fail(ErrorCode::kFailed, "tensor {}: {} bytes planned, its dimensions need {}", tensor.name, tensor.bytes,
                bytes);
  return {};
}

// Returns the offsets relative to the data and, last, the size of the data: no gaps but the padding.
Result<std::vector<uint64_t>> put_tensor_infos(HeaderBytes& out, const std::vector<TensorPlan>& tensors,
                                               uint64_t alignment) {
  std::unordered_set<std::string_view> names;
  std::vector<uint64_t> offsets{0};
  for (const TensorPlan& tensor : tensors) {
    NESTLING_TRY_VOID(check_plan(tensor, names));
    out.string(tensor.name);
    out.number(static_cast<uint32_t>(tensor.dims.size()));
    for (const uint64_t dim : tensor.dims) out.number(dim);
    out.number(tensor.ggml_type);
    out.number(offsets.back());
    const auto padded = checked_round_up(tensor.bytes, alignment);
    const auto next = padded ? checked_add(offsets.back(), *padded) : std::nullopt;
    if (!next || *next > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) / 2)
      return fail(ErrorCode::kFailed, "tensor {}: the file would be larger than any file system allows", tensor.name);
    offsets.push_back(*next);
  }
  return offsets;
}

}  // namespace

Writer::Writer(AtomicFileWriter file, std::vector<uint64_t> offsets, std::vector<uint64_t> sizes)
    : file_(std::move(file)), offsets_(std::move(offsets)), sizes_(std::move(sizes)) {}

Result<Writer> Writer::create(const std::filesystem::path& target, const std::vector<MetadataEntry>& metadata,
                              const std::vector<TensorPlan>& tensors, uint64_t alignment) {
  NESTLING_CHECK(is_allowed_alignment(alignment));
  if (metadata.size() >= kMaxKeys || tensors.size() > kMaxTensors)
    return fail(ErrorCode::kFailed, "{}: {} metadata keys and {} tensors; at most {} and {} are allowed",
                target.string(), metadata.size(), tensors.size(), kMaxKeys - 1, kMaxTensors);
  HeaderBytes header;
  header.number(std::array{'G', 'G', 'U', 'F'});
  header.number<uint32_t>(3);
  header.number<uint64_t>(tensors.size());
  NESTLING_TRY_VOID(put_metadata(header, metadata, alignment));
  NESTLING_TRY(std::vector<uint64_t> offsets, put_tensor_infos(header, tensors, alignment));

  NESTLING_TRY(auto file, AtomicFileWriter::create(target));
  NESTLING_TRY_VOID(file.write(header.bytes()));
  NESTLING_TRY_VOID(file.pad_to(alignment));
  const uint64_t data_start = file.position();
  for (uint64_t& offset : offsets) offset += data_start;
  // The file has its whole length from the start, padding of the last tensor included; what is not written stays zero.
  static constexpr std::byte kZero{};
  if (offsets.back() > data_start) NESTLING_TRY_VOID(file.write_at(offsets.back() - 1, {&kZero, 1}));
  offsets.pop_back();
  std::vector<uint64_t> sizes;
  for (const TensorPlan& tensor : tensors) sizes.push_back(tensor.bytes);
  return Writer(std::move(file), std::move(offsets), std::move(sizes));
}

Status Writer::write(size_t index, uint64_t offset, std::span<const std::byte> bytes) {
  NESTLING_CHECK_LT(index, sizes_.size());
  NESTLING_CHECK_LE(offset, sizes_[index]);
  NESTLING_CHECK_LE(bytes.size(), sizes_[index] - offset);
  return file_.write_at(offsets_[index] + offset, bytes);
}

void Writer::drop_from_page_cache(size_t index) {
  file_.drop_from_page_cache(offsets_[index], sizes_[index]);
}

Status Writer::commit() { return file_.commit(); }

}  // namespace nestling::gguf
