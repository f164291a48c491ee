// The network of the vision tower, MobileNet-V5 (timm: mobilenetv5_300m_enc), as names and shapes of tensors say it.
// Importing, the encoder and synthetic models all read it here. Names without a prefix are timm's:
// "blocks.1.0.pw_exp.conv.weight"; a checkpoint puts "vision_tower.timm_model." before them, a package "v." (and "blk"
// for "blocks").
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "model/tower_tensor.h"

namespace nestling {

inline constexpr std::string_view kVisionCheckpointPrefix = "vision_tower.timm_model.";
inline constexpr std::string_view kVisionPackagePrefix = "v.";
inline constexpr int64_t kVisionStages = 4;

enum class VisionBlockKind {
  kEdgeResidual,      // full 3x3 convolution, then a pointwise one (timm: EdgeResidual)
  kInvertedResidual,  // depthwise and pointwise convolutions (timm: UniversalInvertedResidual)
  kAttention,         // many query heads over one head of keys and values (timm: MobileAttention)
};

// One block. The first of a stage halves both sides of the map.
struct VisionBlock {
  VisionBlockKind kind = VisionBlockKind::kInvertedResidual;
  int64_t stage = 0, index = 0;
  int64_t stride = 1;
  int64_t in = 0, out = 0;   // channels
  int64_t mid = 0;           // expanded channels; attention: heads * head_dim
  int64_t start_kernel = 0;  // depthwise convolution before the expansion; 0: none
  int64_t mid_kernel = 0;    // depthwise convolution after it, which takes the stride; 0: none
  int64_t head_dim = 0;
  int64_t kv_kernel = 0;     // depthwise convolution of stride 2 before keys and values; 0: none

  int64_t heads() const { return mid / head_dim; }
  bool skip() const { return stride == 1 && in == out; }  // the input is added to the output
  std::string name() const;                               // "blocks.1.0."
  bool operator==(const VisionBlock&) const = default;
};

// Stem, blocks in order, and the fusion (MSFA) of the outputs of the last two stages.
struct VisionArchitecture {
  int64_t stem = 0;
  std::vector<VisionBlock> blocks;
  int64_t fusion = 0;  // expanded channels of the fusion
  int64_t width = 0;   // channels of the output

  int64_t stage_channels(int64_t stage) const;  // of its output
  bool operator==(const VisionArchitecture&) const = default;
};

// Shapes as in a checkpoint, by timm's name.
using TensorShapes = std::map<std::string, std::vector<int64_t>, std::less<>>;

// Reads the network off `shapes` and holds every shape against its neighbours. kModel naming the tensor, what was found
// and what is needed: a tensor missing or left over, a shape that does not fit, the first upload of the published
// weights (which no release of timm after 7 July 2025 reads), or published widths with another list of blocks.
// `source`: the file the message names.
Result<VisionArchitecture> vision_architecture(std::string_view source, const TensorShapes& shapes);

// Of the published E2B and E4B: 3/5/37/39 blocks, 548 tensors, 294,126,912 values.
VisionArchitecture published_vision_architecture();

// Every tensor of the tower, in order of computation.
std::vector<TowerTensor> vision_tensors(const VisionArchitecture& architecture);

// Of one picture of size x size pixels, attention included.
int64_t vision_multiply_adds(const VisionArchitecture& architecture, int64_t size);

// "v.blk.1.0.pw_exp.conv.weight" from timm's name, and back ("" for a name outside the tower).
std::string vision_package_name(std::string_view timm_name);
std::string vision_timm_name(std::string_view package_name);
// The shape in a checkpoint of a tensor that a package holds as [rows, cols]; square kernels are assumed, and shapes
// that cannot be of such a tensor come back as [rows, cols].
std::vector<int64_t> vision_checkpoint_shape(std::string_view timm_name, int64_t rows, int64_t cols);

}  // namespace nestling
