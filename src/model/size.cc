#include "model/size.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

#include "base/check.h"

namespace nestling {
namespace {

constexpr int64_t kPublishedLayers = 35;   // of E4B
constexpr int64_t kPublishedOwnKv = 20;    // its first layer that shares K/V
constexpr int64_t kDroppedBegin = 20, kDroppedEnd = 25;  // the layers that E2B lacks

// Google's table of MatFormer slices of E4B (data set google/gemma3n-slicing-configs), smallest first.
constexpr std::array<PublishedSize, 16> kPublished = {{
    {"e2b", "Official E2B", "hhhhhhhhhhhhhhhhhhhh-----hhhhhhhhhh", 50.9},
    {"e1.96b-layer", "E1.96B layer", "hhhhFhhhhhhhhhhhhhhh-----hhhhhhhhhh", 53.4},
    {"e2.49b-block", "E2.49B block", "hhhhhhhhhhhhhhhhhhhhFFFFFhhhhhhhhhh", 54.5},
    {"e2.54b-layer", "E2.54B layer", "hhhhFhhhhhhhhhhhhhhhFFFFFhhhhhhhhhh", 55.4},
    {"e2.69b-layer", "E2.69B layer", "hhhhFhhhhFhhhhFhhhhFFFFFFhhhhhhhhhh", 57.7},
    {"e2.73b-block", "E2.73B block", "hhhhhhhhhhhhhhhFFFFFFFFFFhhhhhhhhhh", 57.1},
    {"e2.98b-layer", "E2.98B layer", "hhhhhhhhhhhhhhhFFFFFFFFFFhhhhhFFFFF", 59.5},
    {"e2.98b-block", "E2.98B block", "hhhhhhhhhhFFFFFFFFFFFFFFFhhhhhhhhhh", 59.5},
    {"e3.18b-layer", "E3.18B layer", "hhhhFhhhhFFFFFFFFFFFFFFFFhhhhFhhhhF", 61.8},
    {"e3.24b-block", "E3.24B block", "hhhhhhhhhhFFFFFFFFFFFFFFFFFFFFhhhhh", 60.7},
    {"e3.39b-layer", "E3.39B layer", "hhhhFhhhhFFFFFFFFFFFFFFFFFFFFFhhhhF", 63.0},
    {"e3.49b-block", "E3.49B block", "hhhhhFFFFFFFFFFFFFFFFFFFFFFFFFhhhhh", 61.4},
    {"e3.59b-layer", "E3.59B layer", "hhhhFFFFFFFFFFFFFFFFFFFFFFFFFFhhhhF", 63.4},
    {"e3.79b-block", "E3.79B block", "hhhhhFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", 62.0},
    {"e3.79b-layer", "E3.79B layer", "hhhhFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", 63.4},
    {"e4b", "Main (E4B)", "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", 62.3},
}};

// How a file's layers stand to the 35 of the published table.
struct PublishedView {
  std::vector<int64_t> file_layer;  // per published layer: the file's layer, -1 where the file has none
  int64_t full_width = 0;           // what F means in this file; h is half of it
};

// A file of E4B's topology at any widths (35 layers), or of E2B's (30: without 20 to 24). A 30-layer file of one width
// holds the narrow form, a file of several widths holds the full one where it is widest.
std::optional<PublishedView> published_view(const TextConfig& config) {
  const int64_t layers = config.num_hidden_layers;
  const int64_t dropped = kPublishedLayers - layers;
  if (dropped != 0 && dropped != kDroppedEnd - kDroppedBegin) return std::nullopt;
  if (config.first_kv_shared_layer() != kPublishedOwnKv) return std::nullopt;
  for (int64_t i = 0; i < layers; ++i)
    if (config.full_attention[i] != ((i + 1) % 5 == 0)) return std::nullopt;

  PublishedView view;
  for (int64_t i = 0; i < kPublishedLayers; ++i) {
    const bool absent = dropped != 0 && i >= kDroppedBegin && i < kDroppedEnd;
    view.file_layer.push_back(absent ? -1 : i >= kDroppedEnd ? i - dropped : i);
  }
  const auto [narrow, wide] = std::ranges::minmax(config.intermediate_size);
  view.full_width = dropped != 0 && narrow == wide ? 2 * wide : wide;
  if (view.full_width % 2 != 0) return std::nullopt;
  return view;
}

Result<ModelSize> apply_row(const PublishedSize& row, const PublishedView& view, const TextConfig& config) {
  ModelSize size{.name = std::string(row.slug), .layers = std::vector<LayerSize>(config.num_hidden_layers)};
  if (view.file_layer[kDroppedBegin] < 0 && row.layers[kDroppedBegin] != '-')
    return fail(ErrorCode::kUsage, "size {} runs layers {} to {} of E4B, which this file of {} layers does not hold",
                row.slug, kDroppedBegin, kDroppedEnd - 1, config.num_hidden_layers);
  for (int64_t i = 0; i < kPublishedLayers; ++i) {
    const char letter = row.layers[i];
    const int64_t layer = view.file_layer[i];
    if (layer < 0) continue;
    const int64_t width = letter == 'F' ? view.full_width : view.full_width / 2;
    if (letter == '-') {
      size.layers[layer].skipped = true;
    } else if (width > config.intermediate_size[layer]) {
      return fail(ErrorCode::kUsage, "size {} needs width {} in layer {}, where this file holds {}", row.slug, width,
                  layer, config.intermediate_size[layer]);
    } else {
      size.layers[layer].width = width;
    }
  }
  return size;
}

// Gives a size its published name, if it has one.
void name_size(ModelSize& size, const TextConfig& config) {
  const auto view = published_view(config);
  for (const PublishedSize& row : kPublished) {
    if (!view) break;
    const auto published = apply_row(row, *view, config);
    if (!published || published->layers != size.layers) continue;
    size.name = row.slug;
    return;
  }
  const bool full = size.layers == full_size(config).layers;
  size.name = full ? "full" : "custom";
  size.experimental = !full;
}

std::string allowed_names(const TextConfig& config) {
  std::string names = "full";
  const auto view = published_view(config);
  if (view)
    for (const PublishedSize& row : kPublished)
      if (apply_row(row, *view, config)) names += fmt::format(", {}", row.slug);
  return names;
}

Result<ModelSize> parse_name(const std::string& name, const TextConfig& config) {
  if (name == "full") return full_size(config);
  const auto row = std::ranges::find(kPublished, name, &PublishedSize::slug);
  if (row == kPublished.end())
    return fail(ErrorCode::kUsage, "size \"{}\" is unknown; this file has {}, or a list with one width or \"skip\" for "
                "each of its {} layers", name, allowed_names(config), config.num_hidden_layers);
  const auto view = published_view(config);
  if (!view)
    return fail(ErrorCode::kUsage, "size {} is a slice of E4B, and this file of {} layers ({} sharing K/V) is built "
                "otherwise; this file has \"full\", or a list of widths", name, config.num_hidden_layers,
                config.num_kv_shared_layers);
  return apply_row(*row, *view, config);
}

Result<ModelSize> parse_list(std::string_view text, const TextConfig& config) {
  ModelSize size;
  while (true) {
    const size_t comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    LayerSize layer{.skipped = item == "skip"};
    const auto [end, error] = std::from_chars(item.data(), item.data() + item.size(), layer.width);
    if (!layer.skipped && (error != std::errc() || end != item.data() + item.size()))
      return fail(ErrorCode::kUsage, "size: \"{}\" for layer {} is neither a width nor \"skip\"", item,
                  size.layers.size());
    size.layers.push_back(layer);
    if (comma == std::string_view::npos) break;
    text.remove_prefix(comma + 1);
  }
  if (static_cast<int64_t>(size.layers.size()) != config.num_hidden_layers)
    return fail(ErrorCode::kUsage, "size: {} layers given; the file has {}", size.layers.size(),
                config.num_hidden_layers);
  return size;
}

// The rules every size obeys, published or not. The producers that sharing layers read may never be skipped.
Status check_size(const ModelSize& size, const TextConfig& config, int64_t group) {
  if (size.layers_run() == 0) return fail(ErrorCode::kUsage, "size: every layer is skipped; at least one must run");
  for (int64_t layer = config.first_kv_shared_layer(); layer < config.num_hidden_layers; ++layer) {
    const int64_t producer = config.kv_producer(layer);
    if (size.layers[producer].skipped)
      return fail(ErrorCode::kUsage, "size: layer {} may not be skipped: its K/V serve the later {} attention layers",
                  producer, config.full_attention[producer] ? "full" : "sliding");
  }
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const auto [skipped, width] = size.layers[layer];
    const int64_t widest = config.intermediate_size[layer];
    if (skipped) continue;
    if (width < 1 || width > widest)
      return fail(ErrorCode::kUsage, "size: width {} for layer {}; 1 to {} are allowed", width, layer, widest);
    if (width != widest && width % group != 0)
      return fail(ErrorCode::kUsage, "size: width {} for layer {} is not a multiple of {}, the group of these weights",
                  width, layer, group);
  }
  return {};
}

// The last layer run that owns K/V. Its feed-forward part and all that follows serve only the logits of a token.
int64_t last_kv_owner(const TextConfig& config, const ModelSize& size) {
  for (int64_t layer = config.first_kv_shared_layer() - 1; layer >= 0; --layer)
    if (!size.layers[layer].skipped) return layer;
  return 0;
}

}  // namespace

std::span<const PublishedSize> published_sizes() { return kPublished; }

int64_t ModelSize::layers_run() const {
  return std::ranges::count(layers, false, &LayerSize::skipped);
}

std::string ModelSize::kv_signature(const TextConfig& config) const {
  std::string signature;
  const int64_t last = last_kv_owner(config, *this);
  for (int64_t layer = 0; layer < last; ++layer)
    signature += layers[layer].skipped ? "-," : fmt::format("{},", layers[layer].width);
  return signature + "kv";
}

ModelSize full_size(const TextConfig& config) {
  ModelSize size{.name = "full"};
  for (const int64_t width : config.intermediate_size) size.layers.push_back({.width = width});
  const auto view = published_view(config);
  for (const PublishedSize& row : kPublished) {
    if (!view) break;
    const auto published = apply_row(row, *view, config);
    if (published && published->layers == size.layers) size.name = row.slug;
  }
  return size;
}

Result<ModelSize> parse_size(std::string_view text, const TextConfig& config, int64_t group) {
  NESTLING_CHECK_GE(group, 1);
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const bool list = lower.find(',') != std::string::npos || (!lower.empty() && std::isdigit(lower[0]) != 0);
  NESTLING_TRY(ModelSize size, list ? parse_list(lower, config) : parse_name(lower, config));
  NESTLING_TRY_VOID(check_size(size, config, group));
  if (list) name_size(size, config);
  return size;
}

TextConfig sliced_config(const TextConfig& config, const ModelSize& size) {
  NESTLING_CHECK_EQ(static_cast<int64_t>(size.layers.size()), config.num_hidden_layers);
  TextConfig slice = config;
  slice.intermediate_size.clear();
  slice.full_attention.clear();
  slice.activation_sparsity.clear();
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    if (size.layers[layer].skipped) {
      if (layer >= config.first_kv_shared_layer()) --slice.num_kv_shared_layers;
      continue;
    }
    slice.intermediate_size.push_back(size.layers[layer].width);
    slice.full_attention.push_back(config.full_attention[layer]);
    slice.activation_sparsity.push_back(config.activation_sparsity[layer]);
  }
  slice.num_hidden_layers = size.layers_run();
  return slice;
}

ParameterCounts count_parameters(const TextConfig& config, const ModelSize& size) {
  const TextConfig slice = sliced_config(config, size);
  const int64_t d = slice.hidden_size, streams = slice.altup_num_inputs, p = slice.hidden_size_per_layer_input;
  const int64_t heads = slice.num_attention_heads * slice.head_dim, kv = 2 * slice.num_key_value_heads * slice.head_dim;
  const int64_t attention = 2 * heads * d + kv * d + 2 * slice.head_dim;
  const int64_t laurel = 2 * slice.laurel_rank * d + d;
  const int64_t altup = 2 * d + streams * d + streams * streams + streams * streams * streams;
  const int64_t rest = 5 * d + laurel + altup + 2 * d * p;
  const auto layer = [&](int64_t i) { return attention + 3 * d * slice.intermediate_size[i] + rest; };

  ParameterCounts counts;
  const int64_t altup_in = (streams - 1) * d * d;
  counts.effective = 2 * altup_in + slice.num_hidden_layers * p * d + p + d;
  for (int64_t i = 0; i < slice.num_hidden_layers; ++i) counts.effective += layer(i);
  counts.embedding = slice.vocab_size * d;
  counts.ple = slice.vocab_size_per_layer_input * slice.num_hidden_layers * p;

  const int64_t unused_kv = slice.num_kv_shared_layers * (kv * d + slice.head_dim);
  counts.decode_read = counts.effective - unused_kv + std::min(slice.vocab_size, slice.vocab_size_per_layer_input) * d;

  const int64_t last = slice.first_kv_shared_layer() - 1;
  counts.prefill_read = altup_in + last * p * d + kv * d;
  for (int64_t i = 0; i < last; ++i) counts.prefill_read += layer(i);
  return counts;
}

}  // namespace nestling
