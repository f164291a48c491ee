#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/check.h"

namespace nestling {
namespace {

using nlohmann::json;

constexpr int64_t kMaxLayers = 256;
constexpr int64_t kMaxWidth = 65'536;
constexpr int64_t kMaxVocab = int64_t{1} << 21;
constexpr int64_t kMaxStreams = 8;
constexpr int64_t kMaxPositions = int64_t{1} << 24;
constexpr int kMaxDepth = 16;
constexpr int64_t kMaxId = std::numeric_limits<int32_t>::max();

// Reads checked fields of one JSON object. The first error is kept and all later reads return their default, so that a
// parser reads as a list of fields. A missing field or a null takes transformers' default.
class Fields {
 public:
  Fields(const json& object, std::string where, std::optional<Error>& error)
      : object_(object), where_(std::move(where)), error_(error) {}

  const json* find(const char* key) const {
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }

  bool is_null(const char* key) const { return object_.contains(key) && object_.at(key).is_null(); }

  int64_t integer(const char* key, int64_t fallback, int64_t low, int64_t high) {
    const json* value = find(key);
    return value == nullptr ? fallback : to_integer(*value, key, low, high);
  }

  double real(const char* key, double fallback, double low, double high) {
    const json* value = find(key);
    return value == nullptr ? fallback : to_real(*value, key, low, high);
  }

  // Greater than zero and finite as a float32.
  double positive(const char* key, double fallback) {
    return real(key, fallback, std::numeric_limits<float>::min(), std::numeric_limits<float>::max());
  }

  bool boolean(const char* key, bool fallback) {
    const json* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_boolean()) return wrong(key, *value, "true or false"), fallback;
    return value->get<bool>();
  }

  std::string text(const char* key, const std::string& fallback) {
    const json* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_string()) return wrong(key, *value, "a string"), fallback;
    return value->get<std::string>();
  }

  // The value must be absent, null or equal to `allowed`: what this program computes is fixed.
  void only(const char* key, const json& allowed) {
    const json* value = find(key);
    if (value != nullptr && *value != allowed) wrong(key, *value, allowed.dump());
  }

  // A list of `count` elements, or one number for all of them.
  std::vector<int64_t> integers(const char* key, int64_t fallback, size_t count, int64_t low, int64_t high) {
    const json* value = find(key);
    if (value == nullptr || !value->is_array()) return std::vector(count, integer(key, fallback, low, high));
    std::vector<int64_t> result;
    if (!has_length(key, *value, count)) return std::vector(count, fallback);
    for (const json& element : *value) result.push_back(to_integer(element, key, low, high));
    return result;
  }

  // One id or a list of 1 to 64 ids; empty when absent.
  std::vector<int64_t> ids(const char* key) {
    const json* value = find(key);
    std::vector<int64_t> result;
    if (value == nullptr) return result;
    if (!value->is_array()) return {to_integer(*value, key, 0, kMaxId)};
    if (value->empty() || value->size() > 64) return wrong(key, *value, "1 to 64 ids"), result;
    for (const json& element : *value) result.push_back(to_integer(element, key, 0, kMaxId));
    return result;
  }

  bool has_length(const char* key, const json& value, size_t count) {
    if (value.is_array() && value.size() == count) return true;
    if (!value.is_array()) return wrong(key, value, fmt::format("a list of {} elements", count)), false;
    set_error(fmt::format("{}{} has {} elements; one for each of {} is needed", where_, key, value.size(), count));
    return false;
  }

  int64_t to_integer(const json& value, const char* key, int64_t low, int64_t high) {
    if (value.is_number_integer() && (!value.is_number_unsigned() || value.get<uint64_t>() <= INT64_MAX)) {
      const auto number = value.get<int64_t>();
      if (number >= low && number <= high) return number;
    }
    return wrong(key, value, fmt::format("an integer from {} to {}", low, high)), low;
  }

  double to_real(const json& value, const char* key, double low, double high) {
    if (value.is_number()) {
      const auto number = value.get<double>();
      if (std::isfinite(number) && number >= low && number <= high) return number;
    }
    return wrong(key, value, fmt::format("a number from {} to {}", low, high)), low;
  }

  void wrong(const char* key, const json& value, const std::string& allowed) {
    std::string found = value.dump(-1, ' ', false, json::error_handler_t::replace);
    if (found.size() > 80) found = found.substr(0, 77) + "...";
    set_error(fmt::format("{}{} is {}; {} is allowed", where_, key, found, allowed));
  }

  void set_error(std::string message) {
    if (!error_) error_ = Error{ErrorCode::kModel, std::move(message)};
  }

  // The object under `key`, or an empty one.
  Fields section(const char* key) {
    static const json kNothing = json::object();
    const json* value = find(key);
    if (value != nullptr && !value->is_object()) wrong(key, *value, "an object");
    return Fields(value != nullptr && value->is_object() ? *value : kNothing, where_ + key + ".", error_);
  }

  const std::string& where() const { return where_; }

 private:
  const json& object_;
  std::string where_;  // "path: text_config."
  std::optional<Error>& error_;
};

void parse_layer_types(Fields& fields, TextConfig& text) {
  const auto layers = static_cast<size_t>(text.num_hidden_layers);
  for (size_t i = 0; i < layers; ++i) text.full_attention.push_back((i + 1) % 5 == 0);
  const json* types = fields.find("layer_types");
  if (types == nullptr || !fields.has_length("layer_types", *types, layers)) return;
  for (size_t i = 0; i < layers; ++i) {
    text.full_attention[i] = (*types)[i] == "full_attention";
    if (!text.full_attention[i] && (*types)[i] != "sliding_attention")
      fields.wrong("layer_types", (*types)[i], "\"full_attention\" or \"sliding_attention\"");
  }
}

// Ten layers at 0.95 when the pattern is missing, none if there are no more than ten. A single number is refused, as
// transformers does.
void parse_sparsity(Fields& fields, TextConfig& text) {
  const int64_t layers = text.num_hidden_layers;
  for (int64_t i = 0; i < layers; ++i) text.activation_sparsity.push_back(layers > 10 && i < 10 ? 0.95f : 0.0f);
  constexpr const char* kKey = "activation_sparsity_pattern";
  const json* pattern = fields.find(kKey);
  if (pattern == nullptr || !fields.has_length(kKey, *pattern, static_cast<size_t>(layers))) return;
  for (int64_t i = 0; i < layers; ++i)
    text.activation_sparsity[i] = static_cast<float>(fields.to_real((*pattern)[i], kKey, 0, 0.9999));
}

void parse_rope(Fields& fields, TextConfig& text) {
  text.rope_theta = fields.positive("rope_theta", text.rope_theta);
  text.rope_local_base_freq = fields.positive("rope_local_base_freq", text.rope_local_base_freq);
  if (const json* scaling = fields.find("rope_scaling")) fields.wrong("rope_scaling", *scaling, "null");
  Fields parameters = fields.section("rope_parameters");
  for (const auto& [type, theta] : {std::pair{"full_attention", &text.rope_theta},
                                    std::pair{"sliding_attention", &text.rope_local_base_freq}}) {
    Fields rope = parameters.section(type);
    rope.only("rope_type", "default");
    *theta = rope.positive("rope_theta", *theta);
  }
}

// Every sharing layer needs a layer of its own type below the first sharing one, whose K/V it reads.
void check_kv_sharing(Fields& fields, const TextConfig& text) {
  const int64_t first = text.first_kv_shared_layer();
  for (int64_t layer = first; layer < text.num_hidden_layers; ++layer) {
    bool found = false;
    for (int64_t j = 0; j < first; ++j) found = found || text.full_attention[j] == text.full_attention[layer];
    if (!found)
      return fields.set_error(fmt::format(
          "{}layer_types: layer {} shares the K/V of an earlier {} layer, but layers 0 to {} have none of that type",
          fields.where(), layer, text.full_attention[layer] ? "full_attention" : "sliding_attention", first - 1));
  }
}

TextConfig parse_text(Fields fields) {
  TextConfig text;
  text.vocab_size = fields.integer("vocab_size", 262'400, 1, kMaxVocab);
  text.vocab_size_per_layer_input = fields.integer("vocab_size_per_layer_input", 262'144, 1, kMaxVocab);
  text.hidden_size = fields.integer("hidden_size", 2048, 1, kMaxWidth);
  text.num_hidden_layers = fields.integer("num_hidden_layers", 35, 1, kMaxLayers);
  text.intermediate_size = fields.integers("intermediate_size", 16'384, text.num_hidden_layers, 1, kMaxWidth);
  text.num_attention_heads = fields.integer("num_attention_heads", 8, 1, kMaxWidth);
  text.num_key_value_heads = fields.integer("num_key_value_heads", 2, 1, kMaxWidth);
  text.head_dim = fields.integer("head_dim", 256, 1, kMaxWidth);
  text.hidden_size_per_layer_input = fields.integer("hidden_size_per_layer_input", 256, 1, kMaxWidth);
  text.laurel_rank = fields.integer("laurel_rank", 64, 1, kMaxWidth);
  text.altup_num_inputs = fields.integer("altup_num_inputs", 4, 1, kMaxStreams);
  text.altup_correct_scale = fields.boolean("altup_correct_scale", true);
  text.sliding_window = fields.integer("sliding_window", 512, 1, kMaxPositions);
  text.num_kv_shared_layers =
      fields.integer("num_kv_shared_layers", text.num_hidden_layers > 15 ? 15 : 0, 0, text.num_hidden_layers - 1);
  text.rms_norm_eps = static_cast<float>(fields.positive("rms_norm_eps", 1e-6));
  text.max_position_embeddings = fields.integer("max_position_embeddings", 32'768, 1, kMaxPositions);
  constexpr const char* kSoftcap = "final_logit_softcapping";
  text.final_logit_softcapping = fields.is_null(kSoftcap) ? 0.0f : static_cast<float>(fields.positive(kSoftcap, 30));
  fields.only("altup_active_idx", 0);
  fields.only("hidden_activation", "gelu_pytorch_tanh");
  fields.only("attention_bias", false);
  fields.only("tie_word_embeddings", true);
  parse_layer_types(fields, text);
  parse_sparsity(fields, text);
  parse_rope(fields, text);

  if (text.head_dim % 2 != 0)
    fields.wrong("head_dim", text.head_dim, "an even number (rotary embeddings turn pairs)");
  if (text.num_attention_heads % text.num_key_value_heads != 0)
    fields.wrong("num_key_value_heads", text.num_key_value_heads,
                 fmt::format("a divisor of num_attention_heads ({})", text.num_attention_heads));
  if (text.num_attention_heads * text.head_dim > kMaxWidth)
    fields.wrong("num_attention_heads", text.num_attention_heads,
                 fmt::format("num_attention_heads * head_dim up to {}", kMaxWidth));
  check_kv_sharing(fields, text);
  return text;
}

VisionConfig parse_vision(Fields fields) {
  VisionConfig vision;
  fields.only("architecture", "mobilenetv5_300m_enc");
  vision.hidden_size = fields.integer("hidden_size", 2048, 1, kMaxWidth);
  vision.vocab_size = fields.integer("vocab_size", 128, 1, kMaxVocab);
  vision.vocab_offset = fields.integer("vocab_offset", 262'144, 0, kMaxVocab);
  vision.rms_norm_eps = static_cast<float>(fields.positive("rms_norm_eps", 1e-6));
  vision.image_size = fields.integer("image_size", 768, 256, 768);  // in packages only
  if (vision.image_size % 256 != 0) fields.wrong("image_size", vision.image_size, "256, 512 or 768");
  return vision;
}

AudioConfig parse_audio(Fields fields) {
  AudioConfig audio;
  audio.hidden_size = fields.integer("hidden_size", 1536, 1, kMaxWidth);
  audio.vocab_size = fields.integer("vocab_size", 128, 1, kMaxVocab);
  audio.vocab_offset = fields.integer("vocab_offset", 262'272, 0, kMaxVocab);
  audio.rms_norm_eps = static_cast<float>(fields.positive("rms_norm_eps", 1e-6));
  audio.input_feat_size = fields.integer("input_feat_size", 128, 1, 4096);
  audio.chunk_size = fields.integer("conf_attention_chunk_size", 12, 1, 4096);
  audio.context_left = fields.integer("conf_attention_context_left", 13, 1, 256);
  fields.only("conf_attention_context_right", 0);  // the tower is causal: that is what makes streaming exact
  audio.logit_cap = static_cast<float>(fields.positive("conf_attention_logit_cap", 50));
  audio.num_attention_heads = fields.integer("conf_num_attention_heads", 8, 1, 1024);
  audio.num_hidden_layers = fields.integer("conf_num_hidden_layers", 12, 1, kMaxLayers);
  audio.conv_kernel_size = fields.integer("conf_conv_kernel_size", 5, 1, 1024);
  audio.reduction_factor = fields.integer("conf_reduction_factor", 4, 1, 1024);
  audio.residual_weight = static_cast<float>(fields.real("conf_residual_weight", 0.5, 0, 1));
  audio.sscp_channels = {128, 32};
  if (const json* channels = fields.find("sscp_conv_channel_size");
      channels != nullptr && fields.has_length("sscp_conv_channel_size", *channels, 2))
    audio.sscp_channels = fields.integers("sscp_conv_channel_size", 0, 2, 1, 4096);
  audio.sscp_group_norm_eps = static_cast<float>(fields.positive("sscp_conv_group_norm_eps", 1e-3));
  audio.gradient_clipping = static_cast<float>(fields.positive("gradient_clipping", 1e10));
  fields.only("sscp_conv_kernel_size", json{{3, 3}, {3, 3}});
  fields.only("sscp_conv_stride_size", json{{2, 2}, {2, 2}});
  if (audio.hidden_size % audio.num_attention_heads != 0)
    fields.wrong("conf_num_attention_heads", audio.num_attention_heads,
                 fmt::format("a divisor of hidden_size ({})", audio.hidden_size));
  return audio;
}

// Ids may lie beyond a small vocabulary (a text-only export keeps those of the full model): they are refused when used.
SpecialIds parse_ids(Fields outer, Fields text) {
  SpecialIds ids;
  const auto id = [](Fields& fields, const char* key, int64_t fallback) {
    return fields.integer(key, fallback, 0, kMaxId);
  };
  ids.pad = id(text, "pad_token_id", ids.pad);
  ids.bos = id(text, "bos_token_id", ids.bos);
  if (const auto eos = text.ids("eos_token_id"); !eos.empty()) ids.eos = eos.front();
  ids.image = id(outer, "image_token_id", ids.image);
  ids.boi = id(outer, "boi_token_id", ids.boi);
  ids.eoi = id(outer, "eoi_token_id", ids.eoi);
  ids.audio = id(outer, "audio_token_id", ids.audio);
  ids.boa = id(outer, "boa_token_id", ids.boa);
  ids.eoa = id(outer, "eoa_token_id", ids.eoa);
  return ids;
}

// The ids that end a reply come from the first place that names any: generation_config.json, config.json, text_config.
GenerationDefaults parse_generation(Fields generation, Fields outer, Fields text) {
  GenerationDefaults defaults;
  for (Fields* fields : {&generation, &outer, &text}) {
    auto ids = fields->ids("eos_token_id");
    if (ids.empty()) continue;
    defaults.stop_ids = std::move(ids);
    break;
  }
  defaults.do_sample = generation.boolean("do_sample", defaults.do_sample);
  defaults.temperature = static_cast<float>(generation.real("temperature", defaults.temperature, 0, 100));
  defaults.top_p = static_cast<float>(generation.real("top_p", defaults.top_p, 0, 1));
  defaults.top_k = generation.integer("top_k", defaults.top_k, 0, kMaxVocab);
  return defaults;
}

// Nesting is bounded because printing and comparing JSON values is recursive.
Result<json> parse_object(const std::string& text, const std::string& path) {
  bool too_deep = false;
  const auto bound_depth = [&too_deep](int depth, json::parse_event_t, json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return depth <= kMaxDepth;
  };
  json document = json::parse(text, bound_depth, /*allow_exceptions=*/false);
  if (too_deep) return fail(ErrorCode::kModel, "{}: JSON nested deeper than {} levels", path, kMaxDepth);
  if (document.is_discarded()) return fail(ErrorCode::kModel, "{}: is not valid JSON", path);
  if (!document.is_object()) return fail(ErrorCode::kModel, "{}: holds a JSON {}, not an object", path,
                                         document.type_name());
  return document;
}

// Whether the document describes a whole model ("gemma3n", text in text_config) or its text part alone.
enum class Form { kConditionalGeneration, kCausalLM };

Result<Form> identify(Fields& fields, const std::optional<Error>& error) {
  std::string type = fields.text("model_type", "");
  const json* architectures = fields.find("architectures");
  if (architectures != nullptr && architectures->is_array() && !architectures->empty()) {
    const bool whole = (*architectures)[0] == "Gemma3nForConditionalGeneration";
    if (!whole && (*architectures)[0] != "Gemma3nForCausalLM")
      fields.wrong("architectures", *architectures, "\"Gemma3nForConditionalGeneration\" or \"Gemma3nForCausalLM\"");
    if (type.empty()) type = whole ? "gemma3n" : "gemma3n_text";
  }
  if (type != "gemma3n" && type != "gemma3n_text")
    fields.wrong("model_type", type, "\"gemma3n\" or \"gemma3n_text\"");
  if (error) return std::unexpected(*error);
  return type == "gemma3n" ? Form::kConditionalGeneration : Form::kCausalLM;
}

}  // namespace

int64_t TextConfig::kv_producer(int64_t layer) const {
  const int64_t first = first_kv_shared_layer();
  if (layer < first) return layer;
  int64_t producer = first - 1;
  while (producer >= 0 && full_attention[producer] != full_attention[layer]) --producer;
  NESTLING_CHECK_GE(producer, 0);
  return producer;
}

Result<ModelConfig> parse_config(const std::string& config_json, const std::string& generation_json,
                                 const std::string& path) {
  NESTLING_TRY(const json document, parse_object(config_json, path));
  NESTLING_TRY(const json generation, generation_json.empty() ? Result<json>(json::object())
                                                              : parse_object(generation_json, path + " (generation)"));
  std::optional<Error> error;
  Fields outer(document, path + ": ", error);
  NESTLING_TRY(const Form form, identify(outer, error));
  if (form == Form::kConditionalGeneration && outer.find("text_config") == nullptr)
    return fail(ErrorCode::kModel, "{}: text_config is missing", path);
  Fields text = form == Form::kConditionalGeneration ? outer.section("text_config") : outer;

  ModelConfig config;
  outer.only("tie_word_embeddings", true);
  config.text = parse_text(text);
  if (outer.find("vision_config") != nullptr) config.vision = parse_vision(outer.section("vision_config"));
  if (outer.find("audio_config") != nullptr) config.audio = parse_audio(outer.section("audio_config"));
  config.ids = parse_ids(outer, text);
  config.vision_soft_tokens_per_image =
      outer.integer("vision_soft_tokens_per_image", config.vision_soft_tokens_per_image, 1, 4096);
  config.audio_soft_tokens_per_image =
      outer.integer("audio_soft_tokens_per_image", config.audio_soft_tokens_per_image, 1, 4096);
  config.generation = parse_generation(Fields(generation, path + " (generation): ", error), outer, text);
  if (error) return std::unexpected(*error);
  return config;
}

Result<ModelConfig> config_from_json(const std::string& text, const std::string& path) {
  NESTLING_TRY(const json document, parse_object(text, path));
  const auto config = document.find("config");
  const auto generation = document.find("generation_config");
  if (config == document.end() || generation == document.end())
    return fail(ErrorCode::kModel, "{}: the configuration lacks \"{}\"", path,
                config == document.end() ? "config" : "generation_config");
  return parse_config(config->dump(-1, ' ', false, json::error_handler_t::replace),
                      generation->dump(-1, ' ', false, json::error_handler_t::replace), path);
}

}  // namespace nestling
