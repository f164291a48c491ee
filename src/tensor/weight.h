// Weight matrices as they lie in the package: a type, a layout, a logical shape and bytes. All const, all views.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace nestling {

// How one weight is coded. The block types have blocks of 32 along the input axis with one f16 scale d each:
// value = d * q, q in -8..7 (q4), -32..31 (q6), -127..127 (q8). i8, the type of the encoder towers, has one f32 scale
// for a whole output row: value = d * q, q in -127..127; i16 is the same with q in -1023..1023, for the products of the
// towers that need it. Both exist in kIl16 only (kernels/dense.h).
enum class WeightType : uint8_t { kF32 = 0, kBF16 = 1, kQ8 = 2, kQ6 = 3, kQ4 = 4, kI8 = 5, kI16 = 6 };
inline constexpr size_t kWeightTypeCount = 7;

// Where the codes lie. The ids are part of the package format (storage/package.h): never renumber.
enum class Layout : uint8_t {
  // Row after row: f32/bf16 values, or for quantised types the row's f16 scales followed by its codes. Row stride:
  // rows_stride_bytes(). The PLE table and plain tables.
  kRows = 0,
  // 16 output rows interleaved, groups of 16 rows one after another, read by decode and prefill of every instruction set.
  kIl16 = 1,
  // kIl16 in tiles of 2,048 inputs, tile outermost: a prefix of the inputs is one contiguous range (ffn_down).
  kIl16Tiled = 2,
  // One output row after another in lane-block order, so that single rows can be read (up of sparse layers).
  kLaneRows = 3,
  // Transposed: the codes of one input (neuron) for all outputs lie together, with one vector of scales for every 32
  // inputs, so that the inputs that are zero are never read (down of sparse layers).
  kInputMajor = 4,
};

inline constexpr int64_t kQuantBlock = 32;    // inputs that share a scale
inline constexpr float kLargestI16 = 1023;    // magnitude of a code of i16, and of what it is multiplied by
inline constexpr int64_t kMaxI16Inputs = 2048;  // of a row of i16, whose sums are int32
inline constexpr int64_t kRowGroup = 16;      // output rows interleaved by kIl16
inline constexpr int64_t kTileInputs = 2048;  // inputs of a tile of kIl16Tiled

// y[rows] = W x[cols]. `rows` and `cols` are what is used; `stored_rows` and `stored_cols` are what the bytes hold: a
// MatFormer slice is the same bytes with smaller rows (gate, up) or cols (down).
struct WeightMatrix {
  WeightType type = WeightType::kF32;
  Layout layout = Layout::kRows;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stored_rows = 0;
  int64_t stored_cols = 0;
  const std::byte* data = nullptr;
  uint64_t bytes = 0;

  bool empty() const { return data == nullptr; }
  WeightMatrix first_rows(int64_t n) const {
    WeightMatrix w = *this;
    w.rows = n;
    return w;
  }
  WeightMatrix first_cols(int64_t n) const {
    WeightMatrix w = *this;
    w.cols = n;
    return w;
  }
};

// The types with a scale per block of 32.
constexpr bool is_quantized(WeightType type) { return type >= WeightType::kQ8 && type <= WeightType::kQ4; }
// The types with a scale per output row.
constexpr bool is_row_coded(WeightType type) { return type == WeightType::kI8 || type == WeightType::kI16; }

std::string_view weight_type_name(WeightType type);  // "f32", "bf16", "q8", "q6", "q4", "i8", "i16"
std::optional<WeightType> weight_type_from_name(std::string_view name);
std::string_view layout_name(Layout layout);

// Bytes of one row in Layout::kRows, a multiple of 16 (64-bit: the E4B PLE table is larger than 2^31 elements).
uint64_t rows_stride_bytes(WeightType type, int64_t cols);
// Bytes of a whole packed matrix, padding included (rows to 16, inputs to a block; see kernels/pack.h for the bytes).
uint64_t packed_bytes(WeightType type, Layout layout, int64_t rows, int64_t cols);

}  // namespace nestling
