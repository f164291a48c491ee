#include "bench_work.h"

#include <algorithm>
#include <cmath>

#include "model/tensor_names.h"
#include "tensor/layout.h"

namespace nestling {
namespace {

// down of a sparse layer: the codes of kept inputs, and the scales of blocks in which any is kept.
double sparse_down_bytes(const PackageTensor& stored, int64_t width, double kept) {
  const double codes = kept * static_cast<double>(width) *
                       static_cast<double>(input_major_row_bytes(stored.type, stored.rows));
  if (!is_quantized(stored.type)) return codes;
  const double blocks = static_cast<double>(block_count(width)) * (1 - std::pow(1 - kept, kQuantBlock));
  return codes + blocks * 2 * static_cast<double>(input_major_width(stored.rows));
}

double global_bytes(const PackageTensor& stored, GlobalTensor tensor, const TextConfig& config, const ModelSize& size) {
  if (tensor == GlobalTensor::kPerLayerModelProjection)
    return static_cast<double>(packed_bytes(stored.type, stored.layout,
                                            size.layers_run() * config.hidden_size_per_layer_input, stored.cols));
  return static_cast<double>(stored.bytes);
}

double layer_bytes(const PackageTensor& stored, LayerTensor tensor, const LayerSize& layer, double kept) {
  if (layer.skipped) return 0;
  const auto packed = [&](int64_t rows, int64_t cols) {
    return static_cast<double>(packed_bytes(stored.type, stored.layout, rows, cols));
  };
  switch (tensor) {
    case LayerTensor::kGateProj: return packed(layer.width, stored.cols);
    case LayerTensor::kUpProj:
      return packed(layer.width, stored.cols) * (stored.layout == Layout::kLaneRows ? kept : 1);
    case LayerTensor::kDownProj:
      return stored.layout == Layout::kInputMajor ? sparse_down_bytes(stored, layer.width, kept)
                                                  : packed(stored.rows, layer.width);
    default: return static_cast<double>(stored.bytes);
  }
}

}  // namespace

Work work_of(const Package& package, const TextConfig& config, const ModelSize& size, double kept) {
  Work work;
  for (const TextTensor& tensor : text_tensors(config)) {
    const PackageTensor* stored = package.find(tensor.package);
    if (stored == nullptr) continue;
    if (tensor.global == GlobalTensor::kPerLayerTokenEmbedding)
      work.ple_row_bytes = static_cast<double>(rows_stride_bytes(stored->type, stored->cols));
    else if (tensor.global)
      work.weight_bytes += global_bytes(*stored, *tensor.global, config, size);
    else
      work.weight_bytes +=
          layer_bytes(*stored, tensor.layer_tensor, size.layers[static_cast<size_t>(tensor.layer)], kept);
  }

  const ParameterCounts counts = count_parameters(config, size);
  const TextConfig slice = sliced_config(config, size);
  const int64_t head = std::min(slice.vocab_size, slice.vocab_size_per_layer_input) * slice.hidden_size;
  work.prefill_products = static_cast<double>(counts.prefill_read);
  work.last_products = static_cast<double>(counts.decode_read - head - counts.prefill_read);
  // The neurons that the gate drops: of layers before the last K/V owner for every token, of the others for the last.
  for (int64_t layer = 0; layer < slice.num_hidden_layers; ++layer) {
    if (slice.activation_sparsity[static_cast<size_t>(layer)] == 0) continue;
    const auto width = static_cast<double>(slice.intermediate_size[static_cast<size_t>(layer)]);
    double& products = layer < slice.first_kv_shared_layer() - 1 ? work.prefill_products : work.last_products;
    products -= (1 - kept) * 2 * static_cast<double>(slice.hidden_size) * width;
  }
  return work;
}

double kv_bytes_read(const TextConfig& config, const ModelSize& size, KvType type, double position) {
  const double heads = static_cast<double>(config.num_key_value_heads), K = static_cast<double>(config.head_dim);
  const double value_bytes = type == KvType::kF32 ? 4 * K : type == KvType::kBF16 ? 2 * K : K + sizeof(float);
  double positions = 0;
  for (size_t layer = 0; layer < size.layers.size(); ++layer) {
    if (size.layers[layer].skipped) continue;
    const auto window = static_cast<double>(config.sliding_window);
    positions += config.full_attention[layer] ? position : std::min(position, window);
  }
  return positions * 2 * heads * value_bytes;
}

}  // namespace nestling
