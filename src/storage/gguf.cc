#include "storage/gguf.h"

#include <bit>
#include <cmath>

#include "base/checked.h"

namespace nestling::gguf {
namespace {

// Elements per block and bytes per block of every ggml type that has not been removed.
struct TypeTraits {
  uint64_t block = 0;
  uint64_t bytes = 0;
};

std::optional<TypeTraits> type_traits(uint32_t type) {
  switch (type) {
    case 0: return TypeTraits{1, 4};       // F32
    case 1: return TypeTraits{1, 2};       // F16
    case 2: return TypeTraits{32, 18};     // Q4_0
    case 3: return TypeTraits{32, 20};     // Q4_1
    case 6: return TypeTraits{32, 22};     // Q5_0
    case 7: return TypeTraits{32, 24};     // Q5_1
    case 8: return TypeTraits{32, 34};     // Q8_0
    case 9: return TypeTraits{32, 36};     // Q8_1
    case 10: return TypeTraits{256, 84};   // Q2_K
    case 11: return TypeTraits{256, 110};  // Q3_K
    case 12: return TypeTraits{256, 144};  // Q4_K
    case 13: return TypeTraits{256, 176};  // Q5_K
    case 14: return TypeTraits{256, 210};  // Q6_K
    case 15: return TypeTraits{256, 292};  // Q8_K
    case 16: return TypeTraits{256, 66};   // IQ2_XXS
    case 17: return TypeTraits{256, 74};   // IQ2_XS
    case 18: return TypeTraits{256, 98};   // IQ3_XXS
    case 19: return TypeTraits{256, 50};   // IQ1_S
    case 20: return TypeTraits{32, 18};    // IQ4_NL
    case 21: return TypeTraits{256, 110};  // IQ3_S
    case 22: return TypeTraits{256, 82};   // IQ2_S
    case 23: return TypeTraits{256, 136};  // IQ4_XS
    case 24: return TypeTraits{1, 1};      // I8
    case 25: return TypeTraits{1, 2};      // I16
    case 26: return TypeTraits{1, 4};      // I32
    case 27: return TypeTraits{1, 8};      // I64
    case 28: return TypeTraits{1, 8};      // F64
    case 29: return TypeTraits{256, 56};   // IQ1_M
    case 30: return TypeTraits{1, 2};      // BF16
    case 34: return TypeTraits{256, 54};   // TQ1_0
    case 35: return TypeTraits{256, 66};   // TQ2_0
    case 39: return TypeTraits{32, 17};    // MXFP4
    case 40: return TypeTraits{64, 36};    // NVFP4
    case 41: return TypeTraits{128, 18};   // Q1_0
    default: return std::nullopt;
  }
}

}  // namespace

bool is_allowed_alignment(uint64_t alignment) {
  return std::has_single_bit(alignment) && alignment >= 8 && alignment <= 65'536;
}

Result<uint64_t> tensor_bytes(std::string_view name, uint32_t type, std::span<const uint64_t> dims) {
  const auto traits = type_traits(type);
  if (!traits)
    return fail(ErrorCode::kModel, "tensor {}: ggml type {} is unknown or was removed from the format", name, type);
  if (dims.empty() || dims.size() > kMaxDims)
    return fail(ErrorCode::kModel, "tensor {}: {} dimensions; 1 to {} are allowed", name, dims.size(), kMaxDims);
  for (const uint64_t dim : dims) {
    if (dim < 1 || dim > kMaxDim)
      return fail(ErrorCode::kModel, "tensor {}: a dimension of {}; 1 to {} are allowed", name, dim, kMaxDim);
  }
  if (dims[0] % traits->block != 0)
    return fail(ErrorCode::kModel, "tensor {}: rows of {} values; ggml type {} needs a multiple of {}", name, dims[0],
                type, traits->block);
  std::optional<uint64_t> bytes = checked_mul(dims[0] / traits->block, traits->bytes);
  for (const uint64_t dim : dims.subspan(1)) {
    if (bytes) bytes = checked_mul(*bytes, dim);
  }
  if (!bytes) return fail(ErrorCode::kModel, "tensor {}: its size does not fit in 64 bits", name);
  return *bytes;
}

const Value* Header::find(std::string_view key) const {
  const auto it = metadata.find(key);
  return it == metadata.end() ? nullptr : &it->second;
}

Result<std::string> Header::string(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return fail(ErrorCode::kModel, "metadata key {} is missing", key);
  if (const auto* text = std::get_if<std::string>(value)) return *text;
  return fail(ErrorCode::kModel, "metadata key {} is not a string", key);
}

Result<uint64_t> Header::unsigned_integer(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return fail(ErrorCode::kModel, "metadata key {} is missing", key);
  if (const auto* n = std::get_if<uint64_t>(value)) return *n;
  if (const auto* n = std::get_if<int64_t>(value)) {
    if (*n >= 0) return static_cast<uint64_t>(*n);
    return fail(ErrorCode::kModel, "metadata key {} is {}; it must not be negative", key, *n);
  }
  if (const auto* x = std::get_if<double>(value)) {
    // 2^53: every whole number below is exact.
    if (*x >= 0 && *x <= 9007199254740992.0 && *x == std::floor(*x)) return static_cast<uint64_t>(*x);
    return fail(ErrorCode::kModel, "metadata key {} is {}; a whole number is needed", key, *x);
  }
  return fail(ErrorCode::kModel, "metadata key {} is not a number", key);
}

}  // namespace nestling::gguf
