#include "model/vision/network.h"

namespace nestling {

// Takes the tensors of one network out of a package.
class NetworkBinding {
 public:
  explicit NetworkBinding(const Package& package) : package_(package) {}

  Result<VisionNetwork> bind() {
    NESTLING_TRY(network_.architecture, read_architecture());
    NESTLING_TRY(network_.stem, stem());
    for (const VisionBlock& block : network_.architecture.blocks) {
      NESTLING_TRY(VisionNetwork::Block bound, bind_block(block));
      network_.blocks.push_back(bound);
    }
    NESTLING_TRY(network_.msfa, msfa());
    return std::move(network_);
  }

 private:
  Result<VisionArchitecture> read_architecture() const {
    const std::string source = package_.file().path().string();
    TensorShapes shapes;
    for (const PackageTensor& t : package_.tensors()) {
      const std::string name = vision_timm_name(t.name);
      if (name.empty()) continue;
      if (t.region != Region::kVision)
        return fail(ErrorCode::kModel, "{}: tensor {} lies in region {}; {} is needed", source, t.name,
                    region_name(t.region), region_name(Region::kVision));
      shapes[name] = vision_checkpoint_shape(name, t.rows, t.cols);
    }
    if (shapes.empty()) return fail(ErrorCode::kModel, "{}: holds no vision tower", source);
    return vision_architecture(source, shapes);
  }

  Result<const float*> vector(const std::string& name, int64_t channels) const {
    return package_.vector(vision_package_name(name), channels);
  }
  Result<WeightMatrix> matrix(const std::string& name, int64_t rows, int64_t cols) const {
    const std::string stored = vision_package_name(name);
    NESTLING_TRY(const WeightMatrix w, package_.matrix(stored, rows, cols));
    if (w.layout == Layout::kIl16 && !is_quantized(w.type) && w.type != WeightType::kI16) return w;
    return fail(ErrorCode::kModel, "{}: tensor {} is {} in layout {}; f32, bf16 or i8 in il16 is needed",
                package_.file().path().string(), stored, weight_type_name(w.type), layout_name(w.layout));
  }
  // Small kernels, float32 row after row; the rows of a package are padded.
  static int64_t table_stride(int64_t cols) {
    return static_cast<int64_t>(rows_stride_bytes(WeightType::kF32, cols) / sizeof(float));
  }
  Result<const float*> table(const std::string& name, int64_t rows, int64_t cols) const {
    const std::string stored = vision_package_name(name);
    NESTLING_TRY(const WeightMatrix w, package_.matrix(stored, rows, cols));
    if (w.layout == Layout::kRows && w.type == WeightType::kF32) return reinterpret_cast<const float*>(w.data);
    return fail(ErrorCode::kModel, "{}: tensor {} is {} in layout {}; f32 in rows is needed",
                package_.file().path().string(), stored, weight_type_name(w.type), layout_name(w.layout));
  }

  // `kernel` 0: an empty one.
  Result<Depthwise> depthwise(const std::string& conv, const std::string& norm, int64_t kernel, int64_t stride,
                              int64_t channels) const {
    Depthwise d{.kernel = kernel, .stride = stride, .channels = channels, .weight_stride = table_stride(channels)};
    if (kernel == 0) return d;
    NESTLING_TRY(d.weight, table(conv, kernel * kernel, channels));
    NESTLING_TRY(d.norm, vector(norm, channels));
    return d;
  }

  Result<Stem> stem() {
    const int64_t channels = network_.architecture.stem, inputs = kWindow * kWindow * 3;
    Stem s;
    NESTLING_TRY(const float* weights, table("conv_stem.conv.weight", channels, inputs));
    network_.stem_weights_ = AlignedBuffer(packed_bytes(WeightType::kF32, Layout::kIl16, channels, inputs));
    s.conv = pack_dense(WeightType::kF32, channels, inputs, weights, table_stride(inputs), 1,
                        network_.stem_weights_.data());
    NESTLING_TRY(s.bias, vector("conv_stem.conv.bias", channels));
    NESTLING_TRY(s.norm, vector("conv_stem.bn.weight", channels));
    return s;
  }

  Result<VisionNetwork::Block> bind_block(const VisionBlock& block) {
    switch (block.kind) {
      case VisionBlockKind::kEdgeResidual: return edge_residual(block);
      case VisionBlockKind::kInvertedResidual: return inverted_residual(block);
      case VisionBlockKind::kAttention: return attention(block);
    }
    return fail(ErrorCode::kModel, "no such block");
  }

  Result<VisionNetwork::Block> edge_residual(const VisionBlock& b) const {
    const std::string name = b.name();
    EdgeResidual r{.stride = b.stride, .skip = b.skip()};
    NESTLING_TRY(r.conv_exp, matrix(name + "conv_exp.weight", b.mid, kWindow * kWindow * b.in));
    NESTLING_TRY(r.exp_norm, vector(name + "bn1.weight", b.mid));
    NESTLING_TRY(r.conv_pwl, matrix(name + "conv_pwl.weight", b.out, b.mid));
    NESTLING_TRY(r.pwl_norm, vector(name + "bn2.weight", b.out));
    return r;
  }

  Result<VisionNetwork::Block> inverted_residual(const VisionBlock& b) {
    const std::string name = b.name();
    InvertedResidual r{.skip = b.skip()};
    NESTLING_TRY(r.start,
                 depthwise(name + "dw_start.conv.weight", name + "dw_start.bn.weight", b.start_kernel, 1, b.in));
    NESTLING_TRY(r.pw_exp, matrix(name + "pw_exp.conv.weight", b.mid, b.in));
    NESTLING_TRY(r.exp_norm, vector(name + "pw_exp.bn.weight", b.mid));
    NESTLING_TRY(r.middle,
                 depthwise(name + "dw_mid.conv.weight", name + "dw_mid.bn.weight", b.mid_kernel, b.stride, b.mid));
    NESTLING_TRY(r.pw_proj, matrix(name + "pw_proj.conv.weight", b.out, b.mid));
    NESTLING_TRY(const float* norm, vector(name + "pw_proj.bn.weight", b.out));
    NESTLING_TRY(const float* scale, vector(name + "layer_scale.gamma", b.out));
    auto& scaled = network_.scaled_norms_.emplace_back(norm, norm + b.out);
    for (int64_t c = 0; c < b.out; ++c) scaled[static_cast<size_t>(c)] *= scale[c];
    r.proj_norm = scaled.data();
    return r;
  }

  Result<VisionNetwork::Block> attention(const VisionBlock& b) const {
    const std::string name = b.name() + "attn.";
    MultiQueryAttention a{.head_dim = b.head_dim};
    NESTLING_TRY(a.norm, vector(b.name() + "norm.weight", b.in));
    NESTLING_TRY(a.query, matrix(name + "query.proj.weight", b.mid, b.in));
    NESTLING_TRY(a.key_down, depthwise(name + "key.down_conv.weight", name + "key.norm.weight", b.kv_kernel, 2, b.in));
    NESTLING_TRY(a.key, matrix(name + "key.proj.weight", b.head_dim, b.in));
    NESTLING_TRY(a.value_down,
                 depthwise(name + "value.down_conv.weight", name + "value.norm.weight", b.kv_kernel, 2, b.in));
    NESTLING_TRY(a.value, matrix(name + "value.proj.weight", b.head_dim, b.in));
    NESTLING_TRY(a.output, matrix(name + "output.proj.weight", b.out, b.mid));
    NESTLING_TRY(a.scale, vector(b.name() + "layer_scale.gamma", b.out));
    return a;
  }

  WeightMatrix own_columns(const WeightMatrix& w, int64_t first, int64_t count) {
    const AlignedBuffer& buffer = network_.fusion_weights_.emplace_back(packed_bytes(w.type, w.layout, w.rows, count));
    return columns_of(w, first, count, buffer.data());
  }

  Result<Msfa> msfa() {
    const VisionArchitecture& a = network_.architecture;
    const int64_t fine = a.stage_channels(kVisionStages - 2), coarse = a.stage_channels(kVisionStages - 1);
    Msfa m;
    NESTLING_TRY(const WeightMatrix pw_exp, matrix("msfa.ffn.pw_exp.conv.weight", a.fusion, fine + coarse));
    m.fine_exp = own_columns(pw_exp, 0, fine);
    m.coarse_exp = own_columns(pw_exp, fine, coarse);
    NESTLING_TRY(m.exp_norm, vector("msfa.ffn.pw_exp.bn.weight", a.fusion));
    NESTLING_TRY(m.pw_proj, matrix("msfa.ffn.pw_proj.conv.weight", a.width, a.fusion));
    NESTLING_TRY(m.proj_norm, vector("msfa.ffn.pw_proj.bn.weight", a.width));
    NESTLING_TRY(m.norm, vector("msfa.norm.weight", a.width));
    return m;
  }

  const Package& package_;
  VisionNetwork network_;
};

Result<VisionNetwork> VisionNetwork::bind(const Package& package) { return NetworkBinding(package).bind(); }

}  // namespace nestling
