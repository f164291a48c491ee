// One tensor of an encoder tower: its name and shape in a checkpoint, and what it becomes in a package.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nestling {

// What a tower tensor is used as; importing/weight_plan.cc decides type and layout of each.
enum class TowerRole {
  kVector,  // norms and scales: float32
  kTable,   // small kernels (stem, depthwise, sub-sampling) whose precision matters: float32, row after row
  kMatrix,  // products: the tower's weight type, il16
  kFineMatrix,   // products that int8 would cost too much: il16, i16 beside quantised weights (at most 2,048 inputs)
  kFloatMatrix,  // products whose precision matters more than their bytes: il16, f32 or bf16 whatever the weight type
};

constexpr bool is_product(TowerRole role) { return role != TowerRole::kVector && role != TowerRole::kTable; }

// How the axes of the checkpoint's tensor are reordered, so that the innermost one of a kernel's window is the channel.
enum class Reorder {
  kNone,         // as it is; trailing axes of length 1 are dropped
  kConvolution,  // [out][in][kh][kw] -> [out][kh * kw * in]
  kDepthwise,    // [channels][1][k...] -> [k...][channels]
};

struct TowerTensor {
  std::string checkpoint;      // canonical name
  std::string package;         // GGUF mmproj name
  std::vector<int64_t> shape;  // in the checkpoint
  TowerRole role = TowerRole::kVector;
  Reorder reorder = Reorder::kNone;
  int64_t rows = 1, cols = 0;  // in the package
};

// `values`, a whole tensor of `shape` (row-major), reordered into `out` of the same length.
void reorder(Reorder order, const std::vector<int64_t>& shape, const float* values, float* out);

}  // namespace nestling
