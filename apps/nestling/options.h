// Options that several subcommands share, as groups, and the typed flags they are made of. A value that cannot be used
// is refused with the flag, what was found and what is allowed. Every flag has an environment twin: --top-k is
// NESTLING_TOP_K.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "importing/weight_plan.h"
#include "media_input.h"
#include "runtime/engine.h"
#include "sampling/sampler.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace nestling {

// Typed flags. `name` as CLI11 takes it ("-n,--max-tokens", "model" for a positional argument).
CLI::Option* add_text(CLI::App& app, const std::string& name, std::string& target, const std::string& help);
CLI::Option* add_flag(CLI::App& app, const std::string& name, bool& target, const std::string& help);
CLI::Option* add_texts(CLI::App& app, const std::string& name, std::vector<std::string>& target,
                       const std::string& help);
// A whole number in [low, high].
CLI::Option* add_whole(CLI::App& app, const std::string& name, int64_t& target, int64_t low, int64_t high,
                       const std::string& help);
CLI::Option* add_number(CLI::App& app, const std::string& name, std::optional<float>& target, const std::string& help);
CLI::Option* add_bytes(CLI::App& app, const std::string& name, std::optional<uint64_t>& target,
                       const std::string& help);
CLI::Option* add_weight_type(CLI::App& app, const std::string& name, std::optional<WeightType>& target,
                             const std::string& help);

// "5000000", "1.5G", "512MiB": K, M, G, T are powers of 1000; KiB, MiB, GiB, TiB of 1024.
Result<uint64_t> parse_bytes(std::string_view text);
// "2,5,17"
Result<std::vector<int32_t>> parse_ids(std::string_view text);
Result<int64_t> parse_whole(std::string_view text, int64_t low, int64_t high);
// "off", "lookup", "lookup:3": most tokens proposed for a pass.
Result<int64_t> parse_speculate(std::string_view text);

// --weights --head-weights --ple-weights
struct WeightChoice {
  std::optional<WeightType> weights, head, ple;
  bool given() const { return weights || head || ple; }
  ImportOptions options(WeightType default_weights = WeightType::kQ4) const;
};
void add_weight_options(CLI::App& app, WeightChoice& choice);

// MODEL, with the weight types that a checkpoint is imported with.
struct ModelChoice {
  std::string model;
  WeightChoice weights;
};
enum class ModelArgument { kFlag, kPositional };
void add_model_options(CLI::App& app, ModelChoice& choice, ModelArgument argument);

// --size --ctx --kv --ple --ple-cache --memory --threads
void add_engine_options(CLI::App& app, EngineOptions& options);
// --chunk, for commands that choose no chunk themselves.
void add_chunk_option(CLI::App& app, EngineOptions& options);

// --temp --top-k --top-p --min-p --seed, penalties and --logit-bias; what is not given comes from the model's
// generation_config.json.
struct SamplingChoice {
  std::optional<float> temperature, top_p, min_p;
  std::optional<float> repetition_penalty, presence_penalty, frequency_penalty;
  std::vector<std::pair<int32_t, float>> logit_bias;
  int64_t top_logprobs = 0;
  std::optional<int64_t> top_k;
  std::optional<uint64_t> seed;
  SamplingParams resolve(const GenerationDefaults& defaults) const;  // a random seed when none is given
};
void add_sampling_options(CLI::App& app, SamplingChoice& choice);

// -n --stop --speculate: where an answer ends and how its passes are made.
struct AnswerChoice {
  int64_t max_tokens = 0;  // 0: no limit but the context
  std::vector<std::string> stop;
  int64_t speculate = 0;  // most tokens proposed for a pass; 0: off
};
void add_answer_options(CLI::App& app, AnswerChoice& choice);

// --audio-tokens --audio-limit
void add_audio_options(CLI::App& app, MediaChoice& choice);
// these, --image-size and --release-modalities
void add_media_options(CLI::App& app, MediaChoice& choice);
// --audio-rate --audio-format --audio-channels: raw samples on standard input
void add_pcm_options(CLI::App& app, MediaChoice& choice);
// --image-size alone
void add_image_size(CLI::App& app, int64_t& size);

// -p --image --audio, in the order of the command line.
struct ContentChoice {
  std::vector<std::string> prompts, images, audios;  // as parsed
  std::vector<ContentArgument> in_order(const CLI::App& app) const;
};
void add_content_options(CLI::App& app, ContentChoice& choice);

}  // namespace nestling
