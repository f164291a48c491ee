#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <unordered_set>

#include "base/checked.h"
#include "storage/gguf.h"
#include "storage/utf8.h"

namespace nestling::gguf {
namespace {

constexpr uint64_t kFixedHeaderBytes = 24;        // magic, version, two counts
constexpr uint64_t kMinKeyBytes = 8 + 1 + 4 + 1;  // length, one letter, type, smallest value
constexpr uint64_t kMinTensorInfoBytes = 8 + 1 + 4 + 8 + 4 + 8;

// Reads a file from front to back through a buffer; large pieces go straight to where they belong.
class Cursor {
 public:
  explicit Cursor(const File& file) : file_(file) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return file_.size() - position_; }

  Status read(std::span<std::byte> out) {
    if (out.size() > remaining()) return fail(ErrorCode::kModel, "ends at byte {} inside its header", file_.size());
    while (!out.empty()) {
      if (taken_ == filled_) {
        if (out.size() >= buffer_.size()) {
          NESTLING_TRY_VOID(file_.read_at(position_, out));
          position_ += out.size();
          return {};
        }
        taken_ = 0;
        filled_ = static_cast<size_t>(std::min<uint64_t>(buffer_.size(), remaining()));
        NESTLING_TRY_VOID(file_.read_at(position_, std::span(buffer_).first(filled_)));
      }
      const size_t n = std::min(out.size(), filled_ - taken_);
      std::memcpy(out.data(), buffer_.data() + taken_, n);
      taken_ += n;
      position_ += n;
      out = out.subspan(n);
    }
    return {};
  }

  template <typename T>
  Result<T> number() {
    T value;
    NESTLING_TRY_VOID(read(std::as_writable_bytes(std::span(&value, 1))));
    return value;
  }

 private:
  const File& file_;
  uint64_t position_ = 0;
  std::array<std::byte, 65'536> buffer_;
  size_t taken_ = 0, filled_ = 0;
};

// A declared length is believed only when that many bytes are left, in the file and of what metadata may take.
Status check_declared(const Cursor& cursor, uint64_t count, uint64_t element_bytes) {
  if (count > cursor.remaining() / element_bytes)
    return fail(ErrorCode::kModel, "{} elements of {} bytes are declared, {} bytes are left in the file", count,
                element_bytes, cursor.remaining());
  if (cursor.position() + count * element_bytes > kFixedHeaderBytes + kMaxMetadataBytes)
    return fail(ErrorCode::kModel, "metadata takes more than {} bytes", kMaxMetadataBytes);
  return {};
}

Result<std::string> read_string(Cursor& cursor, uint64_t max_bytes) {
  NESTLING_TRY(const uint64_t length, cursor.number<uint64_t>());
  if (length > max_bytes)
    return fail(ErrorCode::kModel, "a string of {} bytes; at most {} are allowed", length, max_bytes);
  NESTLING_TRY_VOID(check_declared(cursor, length, 1));
  std::string text(length, '\0');
  NESTLING_TRY_VOID(cursor.read(std::as_writable_bytes(std::span(text))));
  if (!is_valid_utf8(text)) return fail(ErrorCode::kModel, "a string that is not valid UTF-8");
  return text;
}

template <typename Stored>
Status check_element(Stored) {
  return {};
}
template <>
Status check_element<float>(float value) {
  if (std::isnan(value)) return fail(ErrorCode::kModel, "a value that is not a number (NaN)");
  return {};
}
template <>
Status check_element<double>(double value) {
  if (std::isnan(value)) return fail(ErrorCode::kModel, "a value that is not a number (NaN)");
  return {};
}

struct StoredBool {
  uint8_t byte;
  operator bool() const { return byte != 0; }
};
template <>
Status check_element<StoredBool>(StoredBool value) {
  if (value.byte > 1) return fail(ErrorCode::kModel, "a BOOL of {}; 0 and 1 are allowed", value.byte);
  return {};
}

template <typename Stored, typename Kept>
Result<Value> read_scalar(Cursor& cursor) {
  NESTLING_TRY(const Stored value, cursor.number<Stored>());
  NESTLING_TRY_VOID(check_element(value));
  return Value(static_cast<Kept>(value));
}

template <typename Stored, typename Kept>
Result<Value> read_numbers(Cursor& cursor, uint64_t count) {
  NESTLING_TRY_VOID(check_declared(cursor, count, sizeof(Stored)));
  std::vector<Kept> values(count);
  if constexpr (std::is_integral_v<Stored> && std::is_same_v<Stored, Kept>) {
    NESTLING_TRY_VOID(cursor.read(std::as_writable_bytes(std::span(values))));
  } else {
    std::array<Stored, 1024> piece;
    for (uint64_t first = 0; first < count; first += piece.size()) {
      const auto part = std::span(piece).first(static_cast<size_t>(std::min<uint64_t>(piece.size(), count - first)));
      NESTLING_TRY_VOID(cursor.read(std::as_writable_bytes(part)));
      for (size_t i = 0; i < part.size(); ++i) {
        NESTLING_TRY_VOID(check_element(part[i]));
        values[first + i] = static_cast<Kept>(part[i]);
      }
    }
  }
  return Value(std::move(values));
}

Result<Value> read_strings(Cursor& cursor, uint64_t count) {
  NESTLING_TRY_VOID(check_declared(cursor, count, sizeof(uint64_t)));
  std::vector<std::string> values;
  for (uint64_t i = 0; i < count; ++i) {
    NESTLING_TRY(std::string text, read_string(cursor, kMaxStringBytes));
    values.push_back(std::move(text));
  }
  return Value(std::move(values));
}

Result<Value> read_array(Cursor& cursor, ValueType element, uint64_t count) {
  if (count > kMaxArrayElements)
    return fail(ErrorCode::kModel, "an array of {} elements; at most {} are allowed", count, kMaxArrayElements);
  switch (element) {
    case ValueType::kUint8: return read_numbers<uint8_t, uint8_t>(cursor, count);
    case ValueType::kInt8: return read_numbers<int8_t, int64_t>(cursor, count);
    case ValueType::kUint16: return read_numbers<uint16_t, uint64_t>(cursor, count);
    case ValueType::kInt16: return read_numbers<int16_t, int64_t>(cursor, count);
    case ValueType::kUint32: return read_numbers<uint32_t, uint64_t>(cursor, count);
    case ValueType::kInt32: return read_numbers<int32_t, int64_t>(cursor, count);
    case ValueType::kFloat32: return read_numbers<float, double>(cursor, count);
    case ValueType::kBool: return read_numbers<StoredBool, bool>(cursor, count);
    case ValueType::kString: return read_strings(cursor, count);
    case ValueType::kUint64: return read_numbers<uint64_t, uint64_t>(cursor, count);
    case ValueType::kInt64: return read_numbers<int64_t, int64_t>(cursor, count);
    case ValueType::kFloat64: return read_numbers<double, double>(cursor, count);
    case ValueType::kArray: return fail(ErrorCode::kModel, "an array of arrays, which no reader supports");
  }
  return fail(ErrorCode::kModel, "array elements of type {}; 0 to 12 are known", static_cast<uint32_t>(element));
}

// `type` becomes the type of the elements when the value is an array.
Result<Value> read_value(Cursor& cursor, ValueType& type) {
  switch (type) {
    case ValueType::kUint8: return read_scalar<uint8_t, uint64_t>(cursor);
    case ValueType::kInt8: return read_scalar<int8_t, int64_t>(cursor);
    case ValueType::kUint16: return read_scalar<uint16_t, uint64_t>(cursor);
    case ValueType::kInt16: return read_scalar<int16_t, int64_t>(cursor);
    case ValueType::kUint32: return read_scalar<uint32_t, uint64_t>(cursor);
    case ValueType::kInt32: return read_scalar<int32_t, int64_t>(cursor);
    case ValueType::kFloat32: return read_scalar<float, double>(cursor);
    case ValueType::kBool: return read_scalar<StoredBool, bool>(cursor);
    case ValueType::kUint64: return read_scalar<uint64_t, uint64_t>(cursor);
    case ValueType::kInt64: return read_scalar<int64_t, int64_t>(cursor);
    case ValueType::kFloat64: return read_scalar<double, double>(cursor);
    case ValueType::kString: {
      NESTLING_TRY(std::string text, read_string(cursor, kMaxStringBytes));
      return Value(std::move(text));
    }
    case ValueType::kArray: {
      NESTLING_TRY(const uint32_t element, cursor.number<uint32_t>());
      NESTLING_TRY(const uint64_t count, cursor.number<uint64_t>());
      type = static_cast<ValueType>(element);
      return read_array(cursor, type, count);
    }
  }
  return fail(ErrorCode::kModel, "a value of type {}; 0 to 12 are known", static_cast<uint32_t>(type));
}

// Infinity has a meaning in one key only: a layer without activation sparsity holds -inf there.
Status check_finite(std::string_view key, const Value& value) {
  std::span<const double> numbers;
  if (const auto* one = std::get_if<double>(&value)) numbers = {one, 1};
  if (const auto* many = std::get_if<std::vector<double>>(&value)) numbers = *many;
  const bool may_be_infinite = key.ends_with(".activation_sparsity_scale");
  for (const double x : numbers) {
    if (std::isinf(x) && !(may_be_infinite && x < 0))
      return fail(ErrorCode::kModel, "a value of {}; it must be finite", x);
  }
  return {};
}

Error in_place(std::string place, Error error) {
  error.message = std::move(place) + ": " + error.message;
  return error;
}

Status read_metadata(Cursor& cursor, uint64_t count, Header& header) {
  for (uint64_t i = 0; i < count; ++i) {
    auto key = read_string(cursor, kMaxKeyBytes);
    if (key && key->empty()) key = fail(ErrorCode::kModel, "an empty name");
    if (!key) return std::unexpected(in_place(fmt::format("metadata key {} of {}", i + 1, count), key.error()));
    const auto place = [&] { return "metadata key " + *key; };
    NESTLING_TRY(const uint32_t type_id, cursor.number<uint32_t>());
    auto type = static_cast<ValueType>(type_id);
    const bool is_array = type == ValueType::kArray;
    auto value = read_value(cursor, type);
    if (!value) return std::unexpected(in_place(place(), std::move(value).error()));
    if (auto finite = check_finite(*key, *value); !finite)
      return std::unexpected(in_place(place(), std::move(finite).error()));
    if (*key == "general.alignment" && (is_array || type != ValueType::kUint32))
      return fail(ErrorCode::kModel, "metadata key general.alignment has value type {}; it must be UINT32", type_id);
    if (!header.metadata.emplace(*key, *std::move(value)).second)
      return fail(ErrorCode::kModel, "{} appears twice", place());
    header.stored_keys.emplace_back(*std::move(key), type);
  }
  return {};
}

Status check_metadata(Header& header) {
  if (header.find("general.alignment") != nullptr) {
    NESTLING_TRY(header.alignment, header.unsigned_integer("general.alignment"));
    if (!is_allowed_alignment(header.alignment))
      return fail(ErrorCode::kModel, "general.alignment is {}; a power of two from 8 to 65536 is allowed",
                  header.alignment);
  }
  if (header.find("split.count") != nullptr) {
    NESTLING_TRY(const uint64_t parts, header.unsigned_integer("split.count"));
    if (parts > 1)
      return fail(ErrorCode::kModel, "is one of {} parts of a split model; join them with llama-gguf-split --merge",
                  parts);
  }
  return {};
}

// The vocabulary of a text file: one score and one type per token, special ids inside it.
Status check_tokenizer(const Header& header) {
  const Value* value = header.find("tokenizer.ggml.tokens");
  if (value == nullptr) return {};
  const auto* tokens = std::get_if<std::vector<std::string>>(value);
  if (tokens == nullptr) return fail(ErrorCode::kModel, "tokenizer.ggml.tokens is not an array of strings");
  for (const std::string_view key : {"tokenizer.ggml.scores", "tokenizer.ggml.token_type"}) {
    const Value* other = header.find(key);
    if (other == nullptr) continue;
    const size_t length = std::visit(
        [](const auto& v) -> size_t {
          if constexpr (requires { v.size(); }) return v.size();
          return 1;
        },
        *other);
    if (length != tokens->size())
      return fail(ErrorCode::kModel, "{} has {} elements, tokenizer.ggml.tokens has {}", key, length, tokens->size());
  }
  for (const auto& [key, id] : header.metadata) {
    if (!key.starts_with("tokenizer.ggml.") || !key.ends_with("_token_id")) continue;
    NESTLING_TRY(const uint64_t token, header.unsigned_integer(key));
    if (token >= tokens->size())
      return fail(ErrorCode::kModel, "{} is {}, the vocabulary has {} tokens", key, token, tokens->size());
  }
  return {};
}

Result<Tensor> read_tensor_info(Cursor& cursor, uint64_t index, uint64_t alignment) {
  auto name = read_string(cursor, kMaxTensorNameBytes);
  if (name && name->empty()) name = fail(ErrorCode::kModel, "an empty name");
  if (!name) return std::unexpected(in_place(fmt::format("tensor {}", index), std::move(name).error()));
  Tensor tensor;
  tensor.name = *std::move(name);
  NESTLING_TRY(const uint32_t n_dims, cursor.number<uint32_t>());
  if (n_dims < 1 || n_dims > kMaxDims)
    return fail(ErrorCode::kModel, "tensor {}: {} dimensions; 1 to {} are allowed", tensor.name, n_dims, kMaxDims);
  tensor.dims.resize(n_dims);
  NESTLING_TRY_VOID(cursor.read(std::as_writable_bytes(std::span(tensor.dims))));
  NESTLING_TRY(tensor.ggml_type, cursor.number<uint32_t>());
  NESTLING_TRY(tensor.offset, cursor.number<uint64_t>());
  NESTLING_TRY(tensor.bytes, tensor_bytes(tensor.name, tensor.ggml_type, tensor.dims));
  if (tensor.offset % alignment != 0)
    return fail(ErrorCode::kModel, "tensor {}: offset {} is not a multiple of the alignment, {}", tensor.name,
                tensor.offset, alignment);
  return tensor;
}

// Makes offsets absolute; every tensor inside the file and none over another.
Status place_tensors(std::vector<Tensor>& tensors, uint64_t data_start, uint64_t file_size) {
  std::vector<const Tensor*> by_offset;
  for (Tensor& tensor : tensors) {
    const auto offset = checked_add(data_start, tensor.offset);
    const auto end = offset ? checked_add(*offset, tensor.bytes) : std::nullopt;
    if (!end || *end > file_size)
      return fail(ErrorCode::kModel,
                  "tensor {}: {} bytes at offset {} of the data, the file ends at byte {}: truncated?", tensor.name,
                  tensor.bytes, tensor.offset, file_size);
    tensor.offset = *offset;
    by_offset.push_back(&tensor);
  }
  std::ranges::sort(by_offset, {}, &Tensor::offset);
  for (size_t i = 1; i < by_offset.size(); ++i) {
    const Tensor& before = *by_offset[i - 1];
    if (before.offset + before.bytes > by_offset[i]->offset)
      return fail(ErrorCode::kModel, "tensors {} and {} overlap", before.name, by_offset[i]->name);
  }
  return {};
}

Status read_tensors(Cursor& cursor, uint64_t count, uint64_t file_size, Header& header) {
  std::unordered_set<std::string> names;
  for (uint64_t i = 0; i < count; ++i) {
    NESTLING_TRY(Tensor tensor, read_tensor_info(cursor, i, header.alignment));
    if (!names.insert(tensor.name).second) return fail(ErrorCode::kModel, "tensor {} appears twice", tensor.name);
    header.tensors.push_back(std::move(tensor));
  }
  const auto data_start = checked_round_up(cursor.position(), header.alignment);
  if (!data_start) return fail(ErrorCode::kModel, "the start of the data does not fit in 64 bits");
  return place_tensors(header.tensors, *data_start, file_size);
}

struct Counts {
  uint64_t tensors = 0;
  uint64_t keys = 0;
};

Result<Counts> read_counts(Cursor& cursor) {
  if (cursor.remaining() < kFixedHeaderBytes)
    return fail(ErrorCode::kModel, "has {} bytes; a GGUF file has at least {}", cursor.remaining(), kFixedHeaderBytes);
  NESTLING_TRY(const auto magic, (cursor.number<std::array<char, 4>>()));
  if (magic != std::array{'G', 'G', 'U', 'F'})
    return fail(ErrorCode::kModel, "is not a GGUF file (no GGUF at its start)");
  NESTLING_TRY(const uint32_t version, cursor.number<uint32_t>());
  if (version != 0 && (version & 0xffffu) == 0)
    return fail(ErrorCode::kModel, "is a big-endian GGUF file; only little-endian files are read");
  if (version != 2 && version != 3)
    return fail(ErrorCode::kModel, "GGUF version {}; versions 2 and 3 are read", version);
  Counts counts;
  NESTLING_TRY(counts.tensors, cursor.number<uint64_t>());
  NESTLING_TRY(counts.keys, cursor.number<uint64_t>());
  const auto check = [&](const char* what, uint64_t count, uint64_t max, uint64_t entry_bytes) -> Status {
    if (count <= max && count <= cursor.remaining() / entry_bytes) return {};
    return fail(ErrorCode::kModel, "declares {} {}; at most {}, in the {} bytes that follow, are allowed", count, what,
                max, cursor.remaining());
  };
  NESTLING_TRY_VOID(check("tensors", counts.tensors, kMaxTensors, kMinTensorInfoBytes));
  NESTLING_TRY_VOID(check("metadata keys", counts.keys, kMaxKeys, kMinKeyBytes));
  return counts;
}

Result<Header> parse(const File& file) {
  Cursor cursor(file);
  Header header;
  NESTLING_TRY(const Counts counts, read_counts(cursor));
  NESTLING_TRY_VOID(read_metadata(cursor, counts.keys, header));
  NESTLING_TRY_VOID(check_metadata(header));
  NESTLING_TRY_VOID(check_tokenizer(header));
  NESTLING_TRY_VOID(read_tensors(cursor, counts.tensors, file.size(), header));
  return header;
}

}  // namespace

Result<Header> read_header(const File& file) {
  auto header = parse(file);
  if (!header && !header.error().message.starts_with(file.path().string()))  // read errors name the file already
    return std::unexpected(in_place(file.path().string(), std::move(header).error()));
  return header;
}

}  // namespace nestling::gguf
