#include "tensor/weight.h"

#include <array>

#include "tensor/layout.h"

namespace nestling {
namespace {

constexpr std::array<std::string_view, kWeightTypeCount> kTypeNames = {"f32", "bf16", "q8", "q6", "q4", "i8", "i16"};
constexpr std::array<std::string_view, 5> kLayoutNames = {"rows", "il16", "il16_tiled", "lane_rows", "input_major"};

uint64_t il16_bytes(WeightType type, Layout layout, int64_t rows, int64_t cols) {
  uint64_t bytes = 0;
  for (int64_t tile = 0; tile < tile_count(layout, cols); ++tile)
    bytes += row_groups(rows) * il16_group_bytes(type, tile_cols(layout, cols, tile));
  return bytes;
}

}  // namespace

std::string_view weight_type_name(WeightType type) { return kTypeNames[static_cast<size_t>(type)]; }

std::optional<WeightType> weight_type_from_name(std::string_view name) {
  for (size_t i = 0; i < kTypeNames.size(); ++i)
    if (kTypeNames[i] == name) return static_cast<WeightType>(i);
  return std::nullopt;
}

std::string_view layout_name(Layout layout) { return kLayoutNames[static_cast<size_t>(layout)]; }

uint64_t rows_stride_bytes(WeightType type, int64_t cols) {
  const int64_t bytes = is_quantized(type) ? block_count(cols) * (2 + code_bytes(type)) : cols * float_bytes(type);
  return static_cast<uint64_t>(round_up(bytes, 16));
}

uint64_t packed_bytes(WeightType type, Layout layout, int64_t rows, int64_t cols) {
  switch (layout) {
    case Layout::kRows: return rows * rows_stride_bytes(type, cols);
    case Layout::kIl16:
    case Layout::kIl16Tiled: return il16_bytes(type, layout, rows, cols);
    case Layout::kLaneRows: return rows * lane_row_bytes(type, cols);
    case Layout::kInputMajor:
      if (is_quantized(type)) return block_count(cols) * input_major_block_bytes(type, rows);
      return cols * input_major_row_bytes(type, rows);
  }
  return 0;
}

}  // namespace nestling
