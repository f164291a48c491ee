// The weights of the vision network as views into a package whose vision region is loaded.
#pragma once

#include <variant>
#include <vector>

#include "base/aligned.h"
#include "model/vision/edge_residual.h"
#include "model/vision/gather.h"
#include "model/vision/inverted_residual.h"
#include "model/vision/msfa.h"
#include "model/vision/multi_query_attention.h"
#include "model/vision/stem.h"
#include "model/vision_tensors.h"
#include "storage/package.h"

namespace nestling {

struct VisionNetwork {
  using Block = std::variant<EdgeResidual, InvertedResidual, MultiQueryAttention>;

  // Errors as of VisionEncoder::bind().
  static Result<VisionNetwork> bind(const Package& package);

  VisionArchitecture architecture;
  Stem stem;
  std::vector<Block> blocks;  // in the order of architecture.blocks
  Msfa msfa;

 private:
  AlignedBuffer stem_weights_;                    // packed for dense()
  std::vector<AlignedBuffer> fusion_weights_;     // the parts of the first product of the fusion
  std::vector<std::vector<float>> scaled_norms_;  // norms with layer scales multiplied in
  friend class NetworkBinding;
};

}  // namespace nestling
