// ModelConfig as JSON for the package, in transformers' form, so that parse_config reads it back with all its checks.
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "model/config.h"

namespace nestling {
namespace {

using nlohmann::json;

json layer_types(const TextConfig& text) {
  json types = json::array();
  for (const bool full : text.full_attention) types.push_back(full ? "full_attention" : "sliding_attention");
  return types;
}

json text_to_json(const TextConfig& text) {
  const auto rope = [](double theta) { return json{{"rope_type", "default"}, {"rope_theta", theta}}; };
  return {{"model_type", "gemma3n_text"},
          {"vocab_size", text.vocab_size},
          {"vocab_size_per_layer_input", text.vocab_size_per_layer_input},
          {"hidden_size", text.hidden_size},
          {"num_hidden_layers", text.num_hidden_layers},
          {"intermediate_size", text.intermediate_size},
          {"num_attention_heads", text.num_attention_heads},
          {"num_key_value_heads", text.num_key_value_heads},
          {"head_dim", text.head_dim},
          {"hidden_size_per_layer_input", text.hidden_size_per_layer_input},
          {"laurel_rank", text.laurel_rank},
          {"altup_num_inputs", text.altup_num_inputs},
          {"altup_active_idx", 0},
          {"altup_correct_scale", text.altup_correct_scale},
          {"hidden_activation", "gelu_pytorch_tanh"},
          {"sliding_window", text.sliding_window},
          {"layer_types", layer_types(text)},
          {"activation_sparsity_pattern", text.activation_sparsity},
          {"num_kv_shared_layers", text.num_kv_shared_layers},
          {"rope_parameters",
           {{"full_attention", rope(text.rope_theta)}, {"sliding_attention", rope(text.rope_local_base_freq)}}},
          {"final_logit_softcapping", text.final_logit_softcapping > 0 ? json(text.final_logit_softcapping) : json()},
          {"rms_norm_eps", text.rms_norm_eps},
          {"max_position_embeddings", text.max_position_embeddings}};
}

json vision_to_json(const VisionConfig& vision) {
  return {{"hidden_size", vision.hidden_size},
          {"vocab_size", vision.vocab_size},
          {"vocab_offset", vision.vocab_offset},
          {"rms_norm_eps", vision.rms_norm_eps},
          {"image_size", vision.image_size}};
}

json audio_to_json(const AudioConfig& audio) {
  return {{"hidden_size", audio.hidden_size},
          {"vocab_size", audio.vocab_size},
          {"vocab_offset", audio.vocab_offset},
          {"rms_norm_eps", audio.rms_norm_eps},
          {"input_feat_size", audio.input_feat_size},
          {"conf_attention_chunk_size", audio.chunk_size},
          {"conf_attention_context_left", audio.context_left},
          {"conf_attention_logit_cap", audio.logit_cap},
          {"conf_num_attention_heads", audio.num_attention_heads},
          {"conf_num_hidden_layers", audio.num_hidden_layers},
          {"conf_conv_kernel_size", audio.conv_kernel_size},
          {"conf_reduction_factor", audio.reduction_factor},
          {"conf_residual_weight", audio.residual_weight},
          {"sscp_conv_channel_size", audio.sscp_channels},
          {"sscp_conv_group_norm_eps", audio.sscp_group_norm_eps},
          {"gradient_clipping", audio.gradient_clipping}};
}

}  // namespace

std::string config_to_json(const ModelConfig& config) {
  json text = text_to_json(config.text);
  text["pad_token_id"] = config.ids.pad;
  text["eos_token_id"] = config.ids.eos;
  text["bos_token_id"] = config.ids.bos;
  json model = {{"architectures", {"Gemma3nForConditionalGeneration"}},
                {"model_type", "gemma3n"},
                {"text_config", std::move(text)},
                {"image_token_id", config.ids.image},
                {"boi_token_id", config.ids.boi},
                {"eoi_token_id", config.ids.eoi},
                {"audio_token_id", config.ids.audio},
                {"boa_token_id", config.ids.boa},
                {"eoa_token_id", config.ids.eoa},
                {"vision_soft_tokens_per_image", config.vision_soft_tokens_per_image},
                {"audio_soft_tokens_per_image", config.audio_soft_tokens_per_image}};
  if (config.vision) model["vision_config"] = vision_to_json(*config.vision);
  if (config.audio) model["audio_config"] = audio_to_json(*config.audio);
  const json generation = {{"eos_token_id", config.generation.stop_ids},
                           {"do_sample", config.generation.do_sample},
                           {"temperature", config.generation.temperature},
                           {"top_p", config.generation.top_p},
                           {"top_k", config.generation.top_k}};
  return json{{"config", std::move(model)}, {"generation_config", generation}}.dump();
}

std::string replace_text_layers(const std::string& config_json, const TextConfig& slice) {
  auto document = nlohmann::ordered_json::parse(config_json, nullptr, /*allow_exceptions=*/false);
  NESTLING_CHECK(document.is_object());
  auto& text = document.contains("text_config") ? document["text_config"] : document;
  text["num_hidden_layers"] = slice.num_hidden_layers;
  text["intermediate_size"] = slice.intermediate_size;
  text["layer_types"] = layer_types(slice);
  json sparsity = json::array();
  // float32 0.95 is written as such, not as the double nearest to it.
  for (const float s : slice.activation_sparsity) sparsity.push_back(json::parse(fmt::format("{}", s)).get<double>());
  text["activation_sparsity_pattern"] = sparsity;
  text["num_kv_shared_layers"] = slice.num_kv_shared_layers;
  return document.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace nestling
