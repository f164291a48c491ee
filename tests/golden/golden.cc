#include "golden/golden.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>

namespace nestling {
namespace {

// Order of computation, in parts. Rows of one layer come before the next layer's.
constexpr std::array kInputs = {"resize.u8", "mel.log_mel", "mel.mask", "vision.stem"};
constexpr std::array kVisionEnd = {"vision.msfa", "vision.encoder_out", "vision.soft_tokens"};
constexpr std::array kSscp = {"audio.sscp.conv_0", "audio.sscp.conv_1", "audio.sscp"};
constexpr std::array kConformer = {".ffw_layer_start", ".attention", ".lconv1d", ".ffw_layer_end", ""};
constexpr std::array kAudioEnd = {"audio.reduced", "audio.reduced_mask", "audio.soft_tokens", "audio.padding",
                                  "audio.filled"};
constexpr std::array kBefore = {"embed", "inputs_embeds", "per_layer_embed", "per_layer_inputs", "streams_init"};
constexpr std::array kLayer = {"altup.predict", "input_layernorm", "laurel", "attn.q", "attn.k", "attn.v", "attn.probs",
                               "attn.context", "attn.out", "attn_laurel", "mlp.gate_after_topk", "mlp.out",
                               "altup.correct", "per_layer_input", "streams"};
constexpr std::array kAfter = {"merged", "final_hidden", "logits", "logits_last", "generated_ids", "step_logits"};

std::string base_name(const std::string& name) { return name.substr(0, name.find('[')); }

template <size_t N>
int index_in(const std::array<const char*, N>& names, const std::string& name) {
  const auto it = std::ranges::find_if(names, [&](const char* n) { return name == n; });
  return it == names.end() ? -1 : static_cast<int>(it - names.begin());
}

int64_t rank(const std::string& full_name) {
  const std::string name = base_name(full_name);
  int a = 0, b = 0, used = 0;
  const auto rest = [&] { return name.substr(static_cast<size_t>(used)); };
  if (std::sscanf(name.c_str(), "vision.blocks.%d.%d%n", &a, &b, &used) == 2) return 1000 + a * 100 + b;
  if (std::sscanf(name.c_str(), "vision.stages.%d%n", &a, &used) == 1) return 1000 + a * 100 + 99;
  if (std::sscanf(name.c_str(), "audio.conformer.%d%n", &a, &used) == 1)
    return 5000 + a * 10 + index_in(kConformer, rest());
  if (std::sscanf(name.c_str(), "layers.%d.%n", &a, &used) == 1 && used > 0)
    return 100'000 + a * 100 + index_in(kLayer, rest());
  if (const int i = index_in(kInputs, name); i >= 0) return i;
  if (const int i = index_in(kVisionEnd, name); i >= 0) return 2000 + i;
  if (const int i = index_in(kSscp, name); i >= 0) return 4000 + i;
  if (const int i = index_in(kAudioEnd, name); i >= 0) return 8000 + i;
  if (const int i = index_in(kBefore, name); i >= 0) return 9000 + i;
  return 1'000'000 + index_in(kAfter, name);
}

// The steps of "[::8,:]", one per dimension.
std::vector<int64_t> steps_of(const std::string& name) {
  std::vector<int64_t> steps;
  const size_t open = name.find('[');
  if (open == std::string::npos) return steps;
  std::string inside = name.substr(open + 1, name.size() - open - 2) + ",";
  for (size_t begin = 0, end; (end = inside.find(',', begin)) != std::string::npos; begin = end + 1) {
    const std::string part = inside.substr(begin, end - begin);
    steps.push_back(part.starts_with("::") ? std::stoll(part.substr(2)) : 1);
  }
  return steps;
}

// The part of a trace tensor that a name with a bracket asks for; `shape` becomes that of the part.
std::vector<float> slice(const std::vector<float>& values, std::vector<int64_t>& shape, std::vector<int64_t> steps) {
  steps.resize(shape.size(), 1);
  std::vector<int64_t> strides(shape.size(), 1), out_shape(shape);
  for (size_t d = shape.size() - 1; d > 0; --d) strides[d - 1] = strides[d] * shape[d];
  int64_t total = 1;
  for (size_t d = 0; d < shape.size(); ++d) total *= out_shape[d] = (shape[d] + steps[d] - 1) / steps[d];
  std::vector<float> out(static_cast<size_t>(total));
  for (int64_t i = 0; i < total; ++i) {
    int64_t rest = i, at = 0;
    for (size_t d = shape.size(); d-- > 0; rest /= out_shape[d]) at += rest % out_shape[d] * steps[d] * strides[d];
    out[static_cast<size_t>(i)] = values[static_cast<size_t>(at)];
  }
  shape = out_shape;
  return out;
}

std::optional<std::string> compare_floats(const std::string& name, const std::vector<float>& want,
                                          const std::vector<float>& got, double relative) {
  double squares = 0, worst = 0;
  size_t worst_at = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    squares += static_cast<double>(want[i]) * want[i];
    const double difference = std::fabs(static_cast<double>(got[i]) - want[i]);
    if (!(difference <= worst)) worst = difference, worst_at = i;  // a NaN counts as worst
  }
  const double rms = std::sqrt(squares / static_cast<double>(want.size()));
  if (worst <= relative * rms) return std::nullopt;
  return fmt::format("{}: element {} is {}, transformers has {} (difference {:.3g}, allowed {:.3g})", name, worst_at,
                     got[worst_at], want[worst_at], worst, relative * rms);
}

std::optional<std::string> compare(const SafetensorsFile& golden, const SafetensorsEntry& entry,
                                   const TraceTensor& traced, double relative) {
  if (entry.type == SafetensorsType::kI64) {
    const auto want = golden.read_integers(entry);
    if (!want) return want.error().message;
    if (*want != traced.integers)
      return fmt::format("{}: is {}, transformers has {}", entry.name, fmt::join(traced.integers, " "),
                         fmt::join(*want, " "));
    return std::nullopt;
  }
  std::vector<int64_t> shape = traced.shape;
  const std::vector<float> got = slice(traced.floats, shape, steps_of(entry.name));
  if (shape != entry.shape)
    return fmt::format("{}: shape is [{}], transformers has [{}]", entry.name, fmt::join(shape, ","),
                       fmt::join(entry.shape, ","));
  std::vector<float> want(static_cast<size_t>(entry.elements()));
  if (const Status read = golden.read_floats(entry, 0, want); !read) return read.error().message;
  return compare_floats(entry.name, want, got, relative);
}

}  // namespace

std::vector<std::string> in_order_of_computation(std::vector<std::string> names) {
  std::ranges::sort(names, {}, [](const std::string& name) { return std::pair(rank(name), name); });
  return names;
}

std::optional<std::string> first_difference(const SafetensorsFile& golden, const std::vector<TraceTensor>& trace,
                                            double relative) {
  std::map<std::string, const TraceTensor*> traced;
  for (const TraceTensor& tensor : trace) traced[tensor.name] = &tensor;
  std::vector<std::string> names;
  for (const auto& [name, entry] : golden.entries())
    if (!name.starts_with("input.")) names.push_back(name);
  for (const std::string& name : in_order_of_computation(names)) {
    const auto found = traced.find(base_name(name));
    if (found == traced.end()) return fmt::format("{}: is missing from the trace", name);
    if (auto difference = compare(golden, *golden.find(name), *found->second, relative)) return difference;
  }
  return std::nullopt;
}

}  // namespace nestling
