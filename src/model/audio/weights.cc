#include "model/audio/weights.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/checked.h"
#include "kernels/dense.h"
#include "kernels/pack.h"
#include "model/audio/relative_position.h"
#include "model/audio_tensors.h"

namespace nestling {
namespace {

// What a tensor of a role may be stored as. Workspaces have room for i16 where the fine products are.
std::string_view needed(TowerRole role) {
  if (!is_product(role)) return "f32 in rows";
  return role == TowerRole::kFineMatrix ? "f32, bf16, i8 or i16 in il16" : "f32, bf16 or i8 in il16";
}

bool is_allowed(const PackageTensor& t, TowerRole role) {
  if (!is_product(role)) return t.layout == Layout::kRows && t.type == WeightType::kF32;
  return t.layout == Layout::kIl16 && !is_quantized(t.type) &&
         (t.type != WeightType::kI16 || role == TowerRole::kFineMatrix);
}

// The tensor, with the shape the configuration needs and a type and layout that its role can have.
Result<const PackageTensor*> find(const Package& package, const std::string& name, int64_t rows, int64_t cols,
                                  TowerRole role) {
  const std::string file = package.file().path().string();
  const PackageTensor* t = package.find(name);
  if (t == nullptr)
    return fail(ErrorCode::kModel, "{}: tensor {} is missing; it should be {} x {}", file, name, rows, cols);
  if (t->rows != rows || t->cols != cols)
    return fail(ErrorCode::kModel, "{}: tensor {} is {} x {}; the configuration needs {} x {}", file, name, t->rows,
                t->cols, rows, cols);
  if (!is_allowed(*t, role))
    return fail(ErrorCode::kModel, "{}: tensor {} is {} in {}; {} is needed", file, name, weight_type_name(t->type),
                layout_name(t->layout), needed(role));
  return t;
}

WeightMatrix view(const PackageTensor& t, const std::byte* data) {
  return {.type = t.type, .layout = t.layout, .rows = t.rows, .cols = t.cols, .stored_rows = t.rows,
          .stored_cols = t.cols, .data = data, .bytes = t.bytes};
}

// Tensors of one layer by the part of their name behind "a.blk.N.", in memory that holds the file from `offset` on.
class LayerTensors {
 public:
  LayerTensors(const Package& package, int64_t layer, const std::byte* bytes, uint64_t offset)
      : package_(package), prefix_(fmt::format("a.blk.{}.", layer)), bytes_(bytes), offset_(offset) {}

  Result<WeightMatrix> matrix(const char* name, int64_t rows, int64_t cols) const {
    // The widest role: find_range() has held every tensor against its own.
    NESTLING_TRY(const PackageTensor* t, find(package_, prefix_ + name, rows, cols, TowerRole::kFineMatrix));
    return view(*t, bytes_ + (t->offset - offset_));
  }
  Result<const float*> floats(const char* name, int64_t rows, int64_t cols) const {
    NESTLING_TRY(const PackageTensor* t, find(package_, prefix_ + name, rows, cols, TowerRole::kVector));
    // A row is stored in whole units of 16 bytes: values of several rows are contiguous only when they fill these.
    if (rows > 1 && rows_stride_bytes(t->type, cols) != static_cast<uint64_t>(cols) * sizeof(float))
      return fail(ErrorCode::kModel, "{}: tensor {} has rows of {} values; a multiple of 4 is needed",
                  package_.file().path().string(), prefix_ + name, cols);
    return reinterpret_cast<const float*>(bytes_ + (t->offset - offset_));
  }

 private:
  const Package& package_;
  std::string prefix_;
  const std::byte* bytes_;
  uint64_t offset_;
};

Result<AudioFeedForwardWeights> bind_feed_forward(const LayerTensors& tensors, const AudioConfig& c,
                                                  const std::string& suffix) {
  const int64_t D = c.hidden_size, F = audio_ffn_width(c);
  const auto name = [&](const char* stem) { return fmt::format("{}{}.weight", stem, suffix); };
  AudioFeedForwardWeights w;
  NESTLING_TRY(w.pre_norm, tensors.floats(name("ffn_norm").c_str(), 1, D));
  NESTLING_TRY(w.up, tensors.matrix(name("ffn_up").c_str(), F, D));
  NESTLING_TRY(w.down, tensors.matrix(name("ffn_down").c_str(), D, F));
  NESTLING_TRY(w.post_norm, tensors.floats(name("ffn_post_norm").c_str(), 1, D));
  return w;
}

// The range of the file that a layer's tensors take. They were written together: more than their bytes and the
// alignment between them is another file than an import makes.
Result<LayerRange> find_range(const Package& package, const AudioConfig& c, int64_t layer) {
  uint64_t first = UINT64_MAX, last = 0, sum = 0;
  for (const TowerTensor& tensor : audio_layer_tensors(c, layer)) {
    NESTLING_TRY(const PackageTensor* t, find(package, tensor.package, tensor.rows, tensor.cols, tensor.role));
    if (t->region != Region::kAudio)
      return fail(ErrorCode::kModel, "{}: tensor {} lies in region {}; audio is needed",
                  package.file().path().string(), t->name, region_name(t->region));
    first = std::min(first, t->offset);
    last = std::max(last, t->offset + t->bytes);
    sum += t->bytes + kPackageAlignment;
  }
  if (last - first > sum)
    return fail(ErrorCode::kModel, "{}: the tensors of audio layer {} are spread over {} bytes; at most {} are allowed",
                package.file().path().string(), layer, last - first, sum);
  return LayerRange{first, last - first};
}

// A tensor outside the layers, read into memory of its own.
Result<WeightMatrix> read_tensor(const Package& package, const std::string& name, int64_t rows, int64_t cols,
                                 TowerRole role, AlignedBuffer& memory) {
  NESTLING_TRY(const PackageTensor* t, find(package, name, rows, cols, role));
  memory = AlignedBuffer(t->bytes);
  NESTLING_TRY_VOID(package.file().read_at(t->offset, {memory.data(), static_cast<size_t>(t->bytes)}));
  return view(*t, memory.data());
}

Result<SubsampleStageWeights> bind_stage(const Package& package, const AudioConfig& c, int stage) {
  const int64_t in = stage == 0 ? 1 : c.sscp_channels[0], out = c.sscp_channels[static_cast<size_t>(stage)];
  const std::string prefix = fmt::format("a.conv1d.{}.", stage);
  SubsampleStageWeights w;
  AlignedBuffer memory;
  NESTLING_TRY(const WeightMatrix rows, read_tensor(package, prefix + "weight", out, 9 * in, TowerRole::kTable, memory));
  std::vector<float> values(static_cast<size_t>(rows.rows * rows.cols));
  unpack_matrix(rows, values.data());
  w.memory = AlignedBuffer(packed_bytes(WeightType::kF32, Layout::kIl16, rows.rows, rows.cols));
  w.kernel = pack_dense(WeightType::kF32, rows.rows, rows.cols, values.data(), rows.cols, 1, w.memory.data());
  NESTLING_TRY(const WeightMatrix norm, read_tensor(package, prefix + "norm.weight", 1, out, TowerRole::kVector, memory));
  w.norm.resize(static_cast<size_t>(out));
  unpack_matrix(norm, w.norm.data());
  return w;
}

Result<std::vector<float>> bind_positions(const Package& package, const AudioConfig& c, int64_t layer) {
  const TowerTensor tensor = audio_position_tensor(c, layer);
  AlignedBuffer memory;
  NESTLING_TRY(const WeightMatrix w, read_tensor(package, tensor.package, tensor.rows, tensor.cols, tensor.role, memory));
  return relative_positions(w, c.context_left);
}

// The configuration may come from elsewhere than parse_config().
Status check_geometry(const AudioConfig& c) {
  const auto refuse = [](const char* field, int64_t found, const std::string& allowed) {
    return fail(ErrorCode::kModel, "audio_config.{} is {}; {} is allowed", field, found, allowed);
  };
  constexpr int64_t kMaxWidth = 65'536, kMaxLayers = 256, kMaxFrames = 4096;
  if (c.hidden_size < 4 || c.hidden_size > kMaxWidth || c.hidden_size % 4 != 0)
    return refuse("hidden_size", c.hidden_size, fmt::format("a multiple of 4 up to {}", kMaxWidth));
  if (c.num_attention_heads < 1 || c.hidden_size % c.num_attention_heads != 0)
    return refuse("conf_num_attention_heads", c.num_attention_heads,
                  fmt::format("a divisor of hidden_size ({})", c.hidden_size));
  if (c.num_hidden_layers < 1 || c.num_hidden_layers > kMaxLayers)
    return refuse("conf_num_hidden_layers", c.num_hidden_layers, fmt::format("1 to {}", kMaxLayers));
  if (c.reduction_factor < 1 || c.reduction_factor > kMaxFrames)
    return refuse("conf_reduction_factor", c.reduction_factor, fmt::format("1 to {}", kMaxFrames));
  if (c.conv_kernel_size < 1 || c.conv_kernel_size > kMaxFrames)
    return refuse("conf_conv_kernel_size", c.conv_kernel_size, fmt::format("1 to {}", kMaxFrames));
  if (c.context_left < 1 || c.context_left > 256)
    return refuse("conf_attention_context_left", c.context_left, "1 to 256");
  if (c.input_feat_size < 1 || c.input_feat_size > kMaxFrames)
    return refuse("input_feat_size", c.input_feat_size, fmt::format("1 to {}", kMaxFrames));
  if (c.sscp_channels.size() != 2 || std::ranges::any_of(c.sscp_channels, [](int64_t n) { return n < 1 || n > 4096; }))
    return fail(ErrorCode::kModel,
                "audio_config.sscp_conv_channel_size is [{}]; two numbers from 1 to 4096 are allowed",
                fmt::join(c.sscp_channels, ", "));
  return {};
}

}  // namespace

Result<ConformerWeights> bind_conformer_layer(const Package& package, const AudioConfig& c, int64_t layer,
                                              const std::byte* bytes, uint64_t file_offset) {
  const LayerTensors tensors(package, layer, bytes, file_offset);
  const int64_t D = c.hidden_size;
  ConformerWeights w;
  NESTLING_TRY(w.start, bind_feed_forward(tensors, c, ""));
  NESTLING_TRY(w.pre_attention_norm, tensors.floats("ln1.weight", 1, D));
  NESTLING_TRY(w.q_proj, tensors.matrix("attn_q.weight", D, D));
  NESTLING_TRY(w.k_proj, tensors.matrix("attn_k.weight", D, D));
  NESTLING_TRY(w.v_proj, tensors.matrix("attn_v.weight", D, D));
  NESTLING_TRY(w.per_dim_scale, tensors.floats("per_dim_scale", 1, D / c.num_attention_heads));
  NESTLING_TRY(w.post, tensors.matrix("attn_out.weight", D, D));
  NESTLING_TRY(w.post_attention_norm, tensors.floats("ln2.weight", 1, D));
  NESTLING_TRY(w.convolution_norm, tensors.floats("conv_norm.weight", 1, D));
  NESTLING_TRY(w.linear_start, tensors.matrix("conv_pw1.weight", 2 * D, D));
  NESTLING_TRY(w.depthwise, tensors.floats("conv_dw.weight", c.conv_kernel_size, D));
  NESTLING_TRY(w.depthwise_norm, tensors.floats("norm_conv.weight", 1, D));
  NESTLING_TRY(w.linear_end, tensors.matrix("conv_pw2.weight", D, D));
  NESTLING_TRY(w.end, bind_feed_forward(tensors, c, "_1"));
  NESTLING_TRY(w.norm, tensors.floats("layer_pre_norm.weight", 1, D));
  return w;
}

Result<AudioNetwork> AudioNetwork::bind(const Package& package, const AudioConfig& c, bool resident) {
  NESTLING_TRY_VOID(check_geometry(c));
  AudioNetwork network;
  network.config = c;
  network.package = &package;
  for (int stage = 0; stage < 2; ++stage) {
    NESTLING_TRY(auto weights, bind_stage(package, c, stage));
    network.stages.push_back(std::move(weights));
  }
  NESTLING_TRY(network.projection,
               read_tensor(package, "a.pre_encode.out.weight", c.hidden_size,
                           audio_bins_after(c.input_feat_size, 2) * c.sscp_channels[1], TowerRole::kFloatMatrix,
                           network.projection_memory));
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    NESTLING_TRY(const LayerRange range, find_range(package, c, layer));
    network.ranges.push_back(range);
    network.largest_range = std::max(network.largest_range, range.bytes);
    NESTLING_TRY(auto positions, bind_positions(package, c, layer));
    network.positions.push_back(std::move(positions));
  }
  if (!resident) return network;
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    const std::string first = audio_layer_tensors(c, layer).front().package;
    const PackageTensor* t = package.find(first);
    NESTLING_TRY(const WeightMatrix mapped, package.matrix(first, t->rows, t->cols));
    NESTLING_TRY(auto weights, bind_conformer_layer(package, c, layer, mapped.data, t->offset));
    network.layers.push_back(weights);
  }
  return network;
}

}  // namespace nestling
