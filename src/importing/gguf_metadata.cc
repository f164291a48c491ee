#include "importing/gguf_metadata.h"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "kernels/ops.h"

namespace nestling {
namespace {

using gguf::ValueType;

class Metadata {
 public:
  void text(std::string key, std::string value) { entries_.push_back({std::move(key), std::move(value)}); }
  void count(std::string key, int64_t value) {
    entries_.push_back({std::move(key), static_cast<uint64_t>(value), ValueType::kUint32});
  }
  void number(std::string key, double value) {
    entries_.push_back({std::move(key), value, ValueType::kFloat32});
  }
  void flag(std::string key, bool value) { entries_.push_back({std::move(key), value}); }
  template <typename T>
  void list(std::string key, std::vector<T> values, std::optional<ValueType> stored_as = std::nullopt) {
    entries_.push_back({std::move(key), std::move(values), stored_as});
  }
  std::vector<gguf::MetadataEntry> take() { return std::move(entries_); }

 private:
  std::vector<gguf::MetadataEntry> entries_;
};

void add_general(Metadata& out, const GgufDescription& d) {
  // LLAMA_FTYPE_MOSTLY_...
  static const std::map<std::string, int64_t, std::less<>> kFileTypes = {
      {"F32", 0}, {"Q4_0", 2}, {"Q8_0", 7}, {"Q6_K", 18}, {"BF16", 32}};
  out.text("general.architecture", "gemma3n");
  out.text("general.type", "model");
  out.text("general.name", "Gemma 3n " + d.name);
  if (const auto type = kFileTypes.find(d.weights); type != kFileTypes.end())
    out.count("general.file_type", type->second);
  if (d.weights.starts_with('Q')) out.count("general.quantization_version", 2);
}

void add_feed_forward(Metadata& out, const std::vector<int64_t>& widths) {
  if (std::ranges::adjacent_find(widths, std::not_equal_to()) == widths.end()) {
    out.count("gemma3n.feed_forward_length", widths.front());
  } else {
    out.list("gemma3n.feed_forward_length", widths, ValueType::kInt32);
  }
}

void add_hyper_parameters(Metadata& out, const GgufDescription& d) {
  const TextConfig& c = d.slice;
  std::vector<double> sparsity;
  for (const float share : c.activation_sparsity)
    sparsity.push_back(share > 0 ? normal_quantile(share) : -std::numeric_limits<double>::infinity());
  std::vector<bool> sliding = c.full_attention;
  sliding.flip();
  out.count("gemma3n.context_length", c.max_position_embeddings);
  out.count("gemma3n.embedding_length", c.hidden_size);
  out.count("gemma3n.block_count", c.num_hidden_layers);
  add_feed_forward(out, c.intermediate_size);
  out.count("gemma3n.attention.head_count", c.num_attention_heads);
  out.count("gemma3n.attention.head_count_kv", c.num_key_value_heads);
  out.count("gemma3n.attention.key_length", c.head_dim);
  out.count("gemma3n.attention.value_length", c.head_dim);
  out.number("gemma3n.attention.layer_norm_rms_epsilon", c.rms_norm_eps);
  out.count("gemma3n.attention.sliding_window", c.sliding_window);
  out.list("gemma3n.attention.sliding_window_pattern", std::move(sliding));
  out.count("gemma3n.attention.shared_kv_layers", c.num_kv_shared_layers);
  out.list("gemma3n.activation_sparsity_scale", std::move(sparsity), ValueType::kFloat32);
  out.count("gemma3n.altup.active_idx", 0);
  out.count("gemma3n.altup.num_inputs", c.altup_num_inputs);
  out.count("gemma3n.embedding_length_per_layer_input", c.hidden_size_per_layer_input);
  out.number("gemma3n.rope.freq_base", c.rope_theta);
  out.number("gemma3n.rope.freq_base_swa", c.rope_local_base_freq);
  out.number("gemma3n.final_logit_softcapping", c.final_logit_softcapping);
  out.count("gemma3n.vocab_size", d.vocabulary);
}

void add_token_ids(Metadata& out, const GgufDescription& d, const std::vector<std::string>& tokens) {
  const auto add = [&](const char* key, int64_t id) {
    if (id < d.vocabulary) out.count(key, id);
  };
  add("tokenizer.ggml.bos_token_id", d.config.ids.bos);
  add("tokenizer.ggml.eos_token_id", d.config.ids.eos);
  add("tokenizer.ggml.padding_token_id", d.config.ids.pad);
  const auto unknown = std::ranges::find(d.tokenizer.types, int64_t{2});
  if (unknown != d.tokenizer.types.end())
    add("tokenizer.ggml.unknown_token_id", unknown - d.tokenizer.types.begin());
  const auto turn = std::ranges::find(tokens, "<end_of_turn>");
  if (turn != tokens.end()) add("tokenizer.ggml.eot_token_id", turn - tokens.begin());
}

// A SentencePiece vocabulary with one entry for every embedding.
void add_tokenizer(Metadata& out, const GgufDescription& d) {
  constexpr int64_t kUnused = 5;
  if (d.tokenizer.tokens.empty()) {
    out.text("tokenizer.ggml.model", "none");
    return;
  }
  const auto size = static_cast<size_t>(d.vocabulary);
  std::vector<std::string> tokens = d.tokenizer.tokens;
  std::vector<double> scores = d.tokenizer.scores;
  std::vector<int64_t> types = d.tokenizer.types;
  tokens.resize(std::min(tokens.size(), size));
  while (tokens.size() < size) tokens.push_back(fmt::format("[PAD{}]", tokens.size()));
  scores.resize(size, -1000.0);
  types.resize(size, kUnused);
  out.text("tokenizer.ggml.model", "llama");
  out.text("tokenizer.ggml.pre", "default");
  add_token_ids(out, d, tokens);
  out.list("tokenizer.ggml.tokens", std::move(tokens));
  out.list("tokenizer.ggml.scores", std::move(scores), ValueType::kFloat32);
  out.list("tokenizer.ggml.token_type", std::move(types), ValueType::kInt32);
  out.flag("tokenizer.ggml.add_bos_token", true);
  out.flag("tokenizer.ggml.add_eos_token", false);
  out.flag("tokenizer.ggml.add_space_prefix", false);
  if (!d.tokenizer.chat_template.empty()) out.text("tokenizer.chat_template", d.tokenizer.chat_template);
}

}  // namespace

std::vector<gguf::MetadataEntry> gguf_metadata(const GgufDescription& description) {
  Metadata out;
  add_general(out, description);
  add_hyper_parameters(out, description);
  add_tokenizer(out, description);
  return out.take();
}

std::vector<std::string> llama_cpp_differences(const TextConfig& config) {
  constexpr int64_t kOwnKv = 20, kSparse = 10, kLaurel = 64, kPerLayer = 256, kStreams = 4;
  constexpr float kSparsity = 0.95f, kSoftcap = 30;
  std::vector<std::string> found;
  const auto expect = [&](bool as_expected, std::string sentence) {
    if (!as_expected) found.push_back(std::move(sentence));
  };
  const auto& widths = config.intermediate_size;
  expect(config.first_kv_shared_layer() == kOwnKv,
         fmt::format("{} layers own keys and values; llama.cpp computes with {} whatever the file says",
                     config.first_kv_shared_layer(), kOwnKv));
  bool sparse = true;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer)
    sparse &= config.activation_sparsity[layer] == (layer < kSparse ? kSparsity : 0.0f);
  expect(sparse, fmt::format("the sparse layers are not the first {} with {}, which llama.cpp computes with whatever "
                             "the file says", kSparse, kSparsity));
  expect(std::ranges::adjacent_find(widths, std::not_equal_to()) == widths.end(),
         "feed-forward widths differ between layers; llama.cpp loads one width only");
  expect(config.laurel_rank == kLaurel,
         fmt::format("a LAuReL rank of {}; llama.cpp loads {} only", config.laurel_rank, kLaurel));
  expect(config.hidden_size_per_layer_input == kPerLayer,
         fmt::format("per-layer embeddings of width {}; llama.cpp loads {} only", config.hidden_size_per_layer_input,
                     kPerLayer));
  expect(config.altup_num_inputs == kStreams,
         fmt::format("{} AltUp streams; llama.cpp loads {} only", config.altup_num_inputs, kStreams));
  expect(config.final_logit_softcapping == kSoftcap,
         fmt::format("logits are capped at {}; llama.cpp caps at {} whatever the file says",
                     config.final_logit_softcapping, kSoftcap));
  expect(config.altup_correct_scale, "AltUp's corrections are not scaled; llama.cpp always scales them");
  return found;
}

}  // namespace nestling
