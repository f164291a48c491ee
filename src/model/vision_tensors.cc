#include "model/vision_tensors.h"

#include <algorithm>
#include <cmath>

namespace nestling {
namespace {

constexpr int64_t kMaxChannels = 8192;
constexpr int64_t kMaxKernel = 7;
constexpr int64_t kConvolutionKernel = 3;  // of stem and edge residuals

// What a tensor is, by the end of its name.
enum class Form { kVector, kPointwise, kDepthwise, kConvolution };

Form form_of(std::string_view name) {
  constexpr std::string_view kVectors[] = {".bn.weight", ".bn1.weight", ".bn2.weight",
                                           "norm.weight", ".gamma", ".bias"};
  constexpr std::string_view kDepthwise[] = {"dw_start.conv.weight", "dw_mid.conv.weight", "down_conv.weight"};
  constexpr std::string_view kConvolution[] = {"conv_stem.conv.weight", "conv_exp.weight"};
  const auto is_one_of = [name](const auto& ends) {
    return std::ranges::any_of(ends, [name](std::string_view end) { return name.ends_with(end); });
  };
  if (is_one_of(kVectors)) return Form::kVector;
  if (is_one_of(kDepthwise)) return Form::kDepthwise;
  return is_one_of(kConvolution) ? Form::kConvolution : Form::kPointwise;
}

TowerTensor tower_tensor(const std::string& name, std::vector<int64_t> shape) {
  TowerTensor t{.checkpoint = std::string(kVisionCheckpointPrefix) + name,
                .package = vision_package_name(name),
                .shape = std::move(shape)};
  const auto& s = t.shape;
  switch (form_of(name)) {
    case Form::kVector:
      t.cols = s[0];
      break;
    case Form::kPointwise:
      t.role = TowerRole::kMatrix;
      t.rows = s[0], t.cols = s[1];
      break;
    case Form::kDepthwise:
      t.role = TowerRole::kTable;
      t.reorder = Reorder::kDepthwise;
      t.rows = s[2] * s[3], t.cols = s[0];
      break;
    case Form::kConvolution:
      t.role = name.starts_with("conv_stem.") ? TowerRole::kTable : TowerRole::kMatrix;
      t.reorder = Reorder::kConvolution;
      t.rows = s[0], t.cols = s[1] * s[2] * s[3];
      break;
  }
  return t;
}

// Collects tensors under a common prefix of their names.
class List {
 public:
  void under(std::string prefix) { prefix_ = std::move(prefix); }
  void vector(const std::string& name, int64_t channels) { add(name, {channels}); }
  void pointwise(const std::string& name, int64_t out, int64_t in) { add(name, {out, in, 1, 1}); }
  void depthwise(const std::string& name, int64_t channels, int64_t kernel) {
    add(name, {channels, 1, kernel, kernel});
  }
  void convolution(const std::string& name, int64_t out, int64_t in) {
    add(name, {out, in, kConvolutionKernel, kConvolutionKernel});
  }
  std::vector<TowerTensor> take() { return std::move(tensors_); }

 private:
  void add(const std::string& name, std::vector<int64_t> shape) {
    tensors_.push_back(tower_tensor(prefix_ + name, std::move(shape)));
  }
  std::string prefix_;
  std::vector<TowerTensor> tensors_;
};

void list_edge_residual(List& list, const VisionBlock& b) {
  list.convolution("conv_exp.weight", b.mid, b.in);
  list.vector("bn1.weight", b.mid);
  list.pointwise("conv_pwl.weight", b.out, b.mid);
  list.vector("bn2.weight", b.out);
}

void list_inverted_residual(List& list, const VisionBlock& b) {
  if (b.start_kernel > 0) {
    list.depthwise("dw_start.conv.weight", b.in, b.start_kernel);
    list.vector("dw_start.bn.weight", b.in);
  }
  list.pointwise("pw_exp.conv.weight", b.mid, b.in);
  list.vector("pw_exp.bn.weight", b.mid);
  if (b.mid_kernel > 0) {
    list.depthwise("dw_mid.conv.weight", b.mid, b.mid_kernel);
    list.vector("dw_mid.bn.weight", b.mid);
  }
  list.pointwise("pw_proj.conv.weight", b.out, b.mid);
  list.vector("pw_proj.bn.weight", b.out);
  list.vector("layer_scale.gamma", b.out);
}

void list_attention(List& list, const VisionBlock& b) {
  list.vector("norm.weight", b.in);
  list.pointwise("attn.query.proj.weight", b.mid, b.in);
  for (const std::string part : {"attn.key.", "attn.value."}) {
    if (b.kv_kernel > 0) {
      list.depthwise(part + "down_conv.weight", b.in, b.kv_kernel);
      list.vector(part + "norm.weight", b.in);
    }
    list.pointwise(part + "proj.weight", b.head_dim, b.in);
  }
  list.pointwise("attn.output.proj.weight", b.out, b.mid);
  list.vector("layer_scale.gamma", b.out);
}

// Reads the sizes that are free off the shapes; whether all the others agree with them is checked afterwards.
class Reading {
 public:
  Reading(std::string_view source, const TensorShapes& shapes) : source_(source), shapes_(shapes) {}

  Result<VisionArchitecture> architecture() const {
    NESTLING_TRY_VOID(check_upload());
    VisionArchitecture a;
    NESTLING_TRY(a.stem, channels("conv_stem.conv.weight", 0));
    int64_t in = a.stem;
    for (int64_t stage = 0; stage < kVisionStages; ++stage) {
      int64_t index = 0;
      for (; has_prefix(fmt::format("blocks.{}.{}.", stage, index)); ++index) {
        NESTLING_TRY(const VisionBlock block, read_block(stage, index, in));
        a.blocks.push_back(block);
        in = block.out;
      }
      if (index == 0)
        return refuse("the vision tower has no block blocks.{}.0; {} stages are needed", stage, kVisionStages);
    }
    NESTLING_TRY(a.fusion, channels("msfa.ffn.pw_exp.conv.weight", 0));
    NESTLING_TRY(a.width, channels("msfa.ffn.pw_proj.conv.weight", 0));
    return a;
  }

  // Every tensor there and of the shape that its neighbours need, and none besides.
  Status check_all(const VisionArchitecture& a) const {
    const std::vector<TowerTensor> needed = vision_tensors(a);
    for (const TowerTensor& t : needed) {
      NESTLING_TRY(const std::vector<int64_t>* found, find(timm_name(t)));
      if (*found != t.shape)
        return refuse("vision tensor {} has shape [{}]; the tensors before it need [{}]", t.checkpoint,
                      fmt::join(*found, ", "), fmt::join(t.shape, ", "));
    }
    if (needed.size() == shapes_.size()) return {};
    for (const auto& [name, shape] : shapes_)
      if (std::ranges::none_of(needed, [&](const TowerTensor& t) { return timm_name(t) == name; }))
        return refuse("vision tensor {} is not one that the network has", name);
    return {};
  }

  // A tower of the published widths that lacks blocks is a damaged one, whose remaining shapes may well agree.
  Status check_published(const VisionArchitecture& a) const {
    const VisionArchitecture published = published_vision_architecture();
    if (a.stem != published.stem || a.width != published.width || a == published) return {};
    for (size_t i = 0; i < std::min(a.blocks.size(), published.blocks.size()); ++i)
      if (a.blocks[i] != published.blocks[i])
        return refuse("the vision tower has the published widths, but block {} differs from the published one or "
                      "stands in place of {}", a.blocks[i].name(), published.blocks[i].name());
    return refuse("the vision tower has the published widths, but {} blocks and a fusion of {} channels; {} and {} are "
                  "needed", a.blocks.size(), a.fusion, published.blocks.size(), published.fusion);
  }

 private:
  static std::string_view timm_name(const TowerTensor& t) {
    return std::string_view(t.checkpoint).substr(kVisionCheckpointPrefix.size());
  }

  template <typename... Args>
  std::unexpected<Error> refuse(fmt::format_string<Args...> format, Args&&... args) const {
    return fail(ErrorCode::kModel, "{}: {}", source_, fmt::format(format, std::forward<Args>(args)...));
  }

  // The first upload of June 2025 has no bias in the stem; its kernels belong to a network that timm has since changed.
  Status check_upload() const {
    if (has("conv_stem.conv.bias") || !has("conv_stem.conv.weight")) return {};
    return refuse("vision tensor conv_stem.conv.bias is missing: this is the first upload of the weights (June 2025), "
                  "whose vision tower is broken; use the updated weights (July 2025 or later)");
  }

  bool has(std::string_view name) const { return shapes_.contains(name); }
  bool has_prefix(std::string_view prefix) const {
    const auto it = shapes_.lower_bound(prefix);
    return it != shapes_.end() && it->first.starts_with(prefix);
  }
  Result<const std::vector<int64_t>*> find(std::string_view name) const {
    const auto it = shapes_.find(name);
    if (it == shapes_.end()) return refuse("vision tensor {} is missing", name);
    return &it->second;
  }
  Result<int64_t> size(std::string_view name, size_t axis, int64_t limit) const {
    NESTLING_TRY(const std::vector<int64_t>* shape, find(name));
    if (shape->size() != 4)
      return refuse("vision tensor {} has shape [{}]; four axes are needed", name, fmt::join(*shape, ", "));
    const int64_t n = (*shape)[axis];
    if (n < 1 || n > limit)
      return refuse("vision tensor {} has shape [{}]; axis {} may be 1 to {}", name, fmt::join(*shape, ", "), axis,
                    limit);
    return n;
  }
  Result<int64_t> channels(std::string_view name, size_t axis) const { return size(name, axis, kMaxChannels); }
  // 0 when the block has no such convolution.
  Result<int64_t> kernel(std::string_view name) const {
    if (!has(name)) return 0;
    NESTLING_TRY(const int64_t k, size(name, 2, kMaxKernel));
    if (k % 2 == 0) return refuse("vision tensor {} has a kernel of {}; odd ones are allowed", name, k);
    return k;
  }

  Result<VisionBlock> read_block(int64_t stage, int64_t index, int64_t in) const {
    VisionBlock b{.stage = stage, .index = index, .stride = index == 0 ? 2 : 1, .in = in};
    const std::string name = b.name();
    if (has(name + "conv_exp.weight")) return read_edge_residual(b);
    if (has(name + "attn.query.proj.weight")) return read_attention(b);
    if (has(name + "pw_exp.conv.weight")) return read_inverted_residual(b);
    return refuse("vision block {} has none of conv_exp.weight, attn.query.proj.weight and pw_exp.conv.weight", name);
  }

  Result<VisionBlock> read_edge_residual(VisionBlock b) const {
    b.kind = VisionBlockKind::kEdgeResidual;
    NESTLING_TRY(b.mid, channels(b.name() + "conv_exp.weight", 0));
    NESTLING_TRY(b.out, channels(b.name() + "conv_pwl.weight", 0));
    return b;
  }

  Result<VisionBlock> read_inverted_residual(VisionBlock b) const {
    b.kind = VisionBlockKind::kInvertedResidual;
    NESTLING_TRY(b.mid, channels(b.name() + "pw_exp.conv.weight", 0));
    NESTLING_TRY(b.out, channels(b.name() + "pw_proj.conv.weight", 0));
    NESTLING_TRY(b.start_kernel, kernel(b.name() + "dw_start.conv.weight"));
    NESTLING_TRY(b.mid_kernel, kernel(b.name() + "dw_mid.conv.weight"));
    if (b.stride == 2 && b.mid_kernel == 0)
      return refuse("vision tensor {}dw_mid.conv.weight is missing: the first block of a stage needs it", b.name());
    return b;
  }

  Result<VisionBlock> read_attention(VisionBlock b) const {
    b.kind = VisionBlockKind::kAttention;
    b.out = b.in;
    if (b.stride == 2) return refuse("vision block {} is attention; the first block of a stage cannot be", b.name());
    NESTLING_TRY(b.mid, channels(b.name() + "attn.query.proj.weight", 0));
    NESTLING_TRY(b.head_dim, channels(b.name() + "attn.key.proj.weight", 0));
    NESTLING_TRY(b.kv_kernel, kernel(b.name() + "attn.key.down_conv.weight"));
    if (b.mid % b.head_dim != 0)
      return refuse("vision tensor {}attn.query.proj.weight has {} rows; a multiple of the {} of attn.key.proj.weight "
                    "is needed", b.name(), b.mid, b.head_dim);
    return b;
  }

  std::string_view source_;
  const TensorShapes& shapes_;
};

// Of one block on a map of `side`.
int64_t multiply_adds(const VisionBlock& b, int64_t side) {
  const int64_t pixels = side * side, out_pixels = pixels / (b.stride * b.stride);
  switch (b.kind) {
    case VisionBlockKind::kEdgeResidual:
      return out_pixels * b.mid * (kConvolutionKernel * kConvolutionKernel * b.in + b.out);
    case VisionBlockKind::kInvertedResidual:
      return pixels * b.in * (b.start_kernel * b.start_kernel + b.mid) +
             out_pixels * b.mid * (b.mid_kernel * b.mid_kernel + b.out);
    case VisionBlockKind::kAttention: break;
  }
  const int64_t positions = b.kv_kernel > 0 ? pixels / 4 : pixels;
  return pixels * b.mid * (2 * b.in + 2 * positions) + positions * 2 * b.in * (b.kv_kernel * b.kv_kernel + b.head_dim);
}

}  // namespace

std::string VisionBlock::name() const { return fmt::format("blocks.{}.{}.", stage, index); }

int64_t VisionArchitecture::stage_channels(int64_t stage) const {
  int64_t channels = stem;
  for (const VisionBlock& block : blocks)
    if (block.stage <= stage) channels = block.out;
  return channels;
}

Result<VisionArchitecture> vision_architecture(std::string_view source, const TensorShapes& shapes) {
  const Reading reading(source, shapes);
  NESTLING_TRY(VisionArchitecture a, reading.architecture());
  NESTLING_TRY_VOID(reading.check_all(a));
  NESTLING_TRY_VOID(reading.check_published(a));
  return a;
}

std::vector<TowerTensor> vision_tensors(const VisionArchitecture& a) {
  List list;
  list.convolution("conv_stem.conv.weight", a.stem, 3);
  list.vector("conv_stem.conv.bias", a.stem);
  list.vector("conv_stem.bn.weight", a.stem);
  for (const VisionBlock& block : a.blocks) {
    list.under(block.name());
    switch (block.kind) {
      case VisionBlockKind::kEdgeResidual: list_edge_residual(list, block); break;
      case VisionBlockKind::kInvertedResidual: list_inverted_residual(list, block); break;
      case VisionBlockKind::kAttention: list_attention(list, block); break;
    }
  }
  list.under("msfa.");
  list.pointwise("ffn.pw_exp.conv.weight", a.fusion,
                 a.stage_channels(kVisionStages - 2) + a.stage_channels(kVisionStages - 1));
  list.vector("ffn.pw_exp.bn.weight", a.fusion);
  list.pointwise("ffn.pw_proj.conv.weight", a.width, a.fusion);
  list.vector("ffn.pw_proj.bn.weight", a.width);
  list.vector("norm.weight", a.width);
  return list.take();
}

int64_t vision_multiply_adds(const VisionArchitecture& a, int64_t size) {
  int64_t side = size / 2, total = side * side * kConvolutionKernel * kConvolutionKernel * 3 * a.stem;
  int64_t fine_side = side;  // of the stage before the last one
  for (const VisionBlock& b : a.blocks) {
    total += multiply_adds(b, side);
    side /= b.stride;
    if (b.stage == kVisionStages - 2) fine_side = side;
  }
  const int64_t inputs = a.stage_channels(kVisionStages - 2) + a.stage_channels(kVisionStages - 1);
  return total + fine_side * fine_side * a.fusion * (inputs + a.width);
}

std::string vision_package_name(std::string_view timm_name) {
  constexpr std::string_view kBlocks = "blocks.";
  if (timm_name.starts_with(kBlocks))
    return fmt::format("{}blk.{}", kVisionPackagePrefix, timm_name.substr(kBlocks.size()));
  return fmt::format("{}{}", kVisionPackagePrefix, timm_name);
}

std::string vision_timm_name(std::string_view package_name) {
  constexpr std::string_view kBlocks = "blk.";
  if (!package_name.starts_with(kVisionPackagePrefix)) return "";
  package_name.remove_prefix(kVisionPackagePrefix.size());
  if (package_name.starts_with(kBlocks)) return fmt::format("blocks.{}", package_name.substr(kBlocks.size()));
  return std::string(package_name);
}

std::vector<int64_t> vision_checkpoint_shape(std::string_view timm_name, int64_t rows, int64_t cols) {
  constexpr int64_t kWindow = kConvolutionKernel * kConvolutionKernel;
  switch (form_of(timm_name)) {
    case Form::kVector:
      if (rows == 1) return {cols};
      break;
    case Form::kPointwise: return {rows, cols, 1, 1};
    case Form::kDepthwise: {
      const auto kernel = static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(rows))));
      if (kernel * kernel == rows) return {cols, 1, kernel, kernel};
      break;
    }
    case Form::kConvolution:
      if (cols % kWindow == 0) return {rows, cols / kWindow, kConvolutionKernel, kConvolutionKernel};
      break;
  }
  return {rows, cols};
}

}  // namespace nestling
