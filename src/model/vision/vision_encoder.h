// The vision tower of Gemma 3n, MobileNet-V5 (timm: mobilenetv5_300m_enc), with its widths, kernels and heads read from
// the shapes of its tensors. The list of blocks: stem, 3/5/37/39 blocks in four stages, multi-scale fusion (MSFA).
#pragma once

#include <memory>

#include "base/error.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "model/taps.h"
#include "storage/package.h"

namespace nestling {

inline constexpr int64_t kVisionTokens = 256;  // a 16 x 16 grid, whatever the size of the picture

class VisionEncoder {
 public:
  // The tensors "v.*" of a package whose vision region is loaded and stays so. kModel: a tensor is missing or has a shape
  // that does not fit its neighbours.
  static Result<VisionEncoder> bind(const Package& package);
  VisionEncoder(VisionEncoder&&) noexcept;
  VisionEncoder& operator=(VisionEncoder&&) noexcept;
  ~VisionEncoder();

  int64_t width() const;  // channels of the output
  // pixels [size][size][3] in [0, 1], size 256, 512 or 768 -> out [kVisionTokens][width], row-major over the grid. Taps:
  // vision.stem, vision.blocks.S.B, vision.stages.S, vision.msfa, vision.encoder_out.
  // kUsage: another size.
  Status encode(const Kernels& kernels, ThreadPool& pool, const float* pixels, int64_t size, float* out,
                Taps* taps = nullptr) const;

  // Multiply-adds of one picture, and bytes of memory encode() needs beyond the weights.
  int64_t multiply_adds(int64_t size) const;
  uint64_t workspace_bytes(int64_t size, int threads) const;

 private:
  struct Network;
  explicit VisionEncoder(std::unique_ptr<Network> network);
  std::unique_ptr<Network> network_;
};

}  // namespace nestling
