#include "model/vision_tensors.h"

namespace nestling {

VisionArchitecture published_vision_architecture() {
  VisionArchitecture a{.stem = 64, .fusion = 3840, .width = 2048};
  int64_t in = a.stem;
  const auto add = [&](VisionBlock b) {
    const bool same_stage = !a.blocks.empty() && a.blocks.back().stage == b.stage;
    b.index = same_stage ? a.blocks.back().index + 1 : 0;
    b.stride = same_stage ? 1 : 2;
    b.in = in;
    a.blocks.push_back(b);
    in = b.out;
  };
  const auto inverted = [&](int64_t stage, int64_t start, int64_t mid_kernel, int64_t expansion, int64_t out) {
    add({.kind = VisionBlockKind::kInvertedResidual, .stage = stage, .out = out, .mid = expansion * in,
         .start_kernel = start, .mid_kernel = mid_kernel});
  };
  const auto attention_and_mlp = [&](int64_t stage, int64_t heads, int64_t head_dim, int64_t kv_kernel) {
    add({.kind = VisionBlockKind::kAttention, .stage = stage, .out = in, .mid = heads * head_dim, .head_dim = head_dim,
         .kv_kernel = kv_kernel});
    inverted(stage, 0, 0, 2, in);
  };
  for (int i = 0; i < 3; ++i)
    add({.kind = VisionBlockKind::kEdgeResidual, .stage = 0, .out = 128, .mid = 4 * in});
  inverted(1, 3, 5, 6, 256);
  for (const int64_t kernel : {5, 3, 5, 3}) inverted(1, kernel, 0, 4, 256);
  inverted(2, 5, 5, 6, 640);
  for (int i = 0; i < 7; ++i) inverted(2, 5, 0, 4, 640);
  inverted(2, 0, 0, 1, 640);
  for (int i = 0; i < 14; ++i) attention_and_mlp(2, 12, 64, 3);
  inverted(3, 5, 5, 6, 1280);
  for (int i = 0; i < 19; ++i) attention_and_mlp(3, 16, 96, 0);
  return a;
}

}  // namespace nestling
