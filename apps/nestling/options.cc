#include "options.h"

#include <charconv>
#include <cmath>
#include <functional>
#include <limits>
#include <random>

#include <CLI/CLI.hpp>

#include "runtime/session.h"

namespace nestling {
namespace {

// Not chosen by measurement yet (docs/performance.md, "Speculation").
constexpr int64_t kDefaultProposals = 3;

// "--top-k" -> "NESTLING_TOP_K"; a positional argument "model" -> "NESTLING_MODEL".
CLI::Option* with_twin(CLI::Option* option) {
  const auto& long_names = option->get_lnames();
  std::string name = long_names.empty() ? option->get_name() : long_names.front();
  for (char& c : name) c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return option->envname("NESTLING_" + name);
}

// "--max-tokens" of "-n,--max-tokens".
std::string long_name(const std::string& name) {
  const size_t begin = name.rfind("--");
  return begin == std::string::npos ? name : name.substr(begin);
}

// A flag whose text `parse` turns into a value, or into the reason why not.
CLI::Option* add_parsed(CLI::App& app, const std::string& name, const char* type, const std::string& help,
                        std::function<Status(const std::string&)> parse) {
  const auto use = [parse = std::move(parse), flag = long_name(name)](const std::string& text) {
    if (const Status status = parse(text); !status) throw CLI::ValidationError(flag, status.error().message);
  };
  return with_twin(app.add_option_function<std::string>(name, use, help)->type_name(type));
}

template <typename T, typename Parse>
auto store(T& target, Parse parse) {
  return [&target, parse](const std::string& text) -> Status {
    NESTLING_TRY(target, parse(text));
    return {};
  };
}

Result<float> parse_number(std::string_view text) {
  float value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
    return fail(ErrorCode::kUsage, "\"{}\" is not a number", text);
  return value;
}

Result<uint64_t> parse_seed(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    return fail(ErrorCode::kUsage, "\"{}\" is no seed; 0 to {} are allowed", text,
                std::numeric_limits<uint64_t>::max());
  return value;
}

// One of a few words.
template <typename T>
auto one_of(std::vector<std::pair<std::string, T>> table) {
  return [table = std::move(table)](const std::string& text) -> Result<T> {
    std::string allowed;
    for (const auto& [word, value] : table) {
      if (word == text) return value;
      allowed += (allowed.empty() ? "" : ", ") + word;
    }
    return fail(ErrorCode::kUsage, "\"{}\" is unknown; {} are allowed", text, allowed);
  };
}

Result<WeightType> parse_weight_type(const std::string& text) {
  if (const auto type = weight_type_from_name(text)) return *type;
  return fail(ErrorCode::kUsage, "\"{}\" is no weight type; f32, bf16, q8, q6, q4 are allowed", text);
}

uint64_t suffix_factor(std::string_view suffix) {
  constexpr std::string_view kLetters = "KMGT";
  if (suffix.empty() || suffix == "B") return 1;
  const size_t power = kLetters.find(suffix.front());
  if (power == std::string_view::npos) return 0;
  const std::string_view rest = suffix.substr(1);
  if (rest != "" && rest != "B" && rest != "iB") return 0;
  uint64_t factor = 1;
  for (size_t i = 0; i <= power; ++i) factor *= rest == "iB" ? 1024 : 1000;
  return factor;
}

}  // namespace

Result<int64_t> parse_whole(std::string_view text, int64_t low, int64_t high) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size() && value >= low && value <= high) return value;
  if (high == std::numeric_limits<int64_t>::max())
    return fail(ErrorCode::kUsage, "found \"{}\"; a whole number, {} or more, is allowed", text, low);
  return fail(ErrorCode::kUsage, "found \"{}\"; a whole number from {} to {} is allowed", text, low, high);
}

Result<uint64_t> parse_bytes(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view suffix = text.substr(static_cast<size_t>(end - text.data()));
  const uint64_t factor = suffix_factor(suffix);
  if (error != std::errc() || factor == 0 || !(value >= 0) || !(value * static_cast<double>(factor) < 0x1p62))
    return fail(ErrorCode::kUsage, "found \"{}\"; a number of bytes such as 2000000000, 2G or 2GiB is allowed", text);
  return static_cast<uint64_t>(value * static_cast<double>(factor));
}

Result<std::vector<int32_t>> parse_ids(std::string_view text) {
  std::vector<int32_t> ids;
  while (true) {
    const size_t comma = text.find(',');
    NESTLING_TRY(const int64_t id, parse_whole(text.substr(0, comma), 0, std::numeric_limits<int32_t>::max()));
    ids.push_back(static_cast<int32_t>(id));
    if (comma == std::string_view::npos) return ids;
    text.remove_prefix(comma + 1);
  }
}

Result<int64_t> parse_speculate(std::string_view text) {
  constexpr std::string_view kLookup = "lookup";
  if (text == "off") return 0;
  if (text == kLookup) return kDefaultProposals;
  if (text.starts_with(kLookup) && text[kLookup.size()] == ':')
    if (const auto most = parse_whole(text.substr(kLookup.size() + 1), 1, Session::kMostProposals)) return *most;
  return fail(ErrorCode::kUsage, "\"{}\" is unknown; off, lookup, and lookup:1 to lookup:{} are allowed", text,
              Session::kMostProposals);
}

CLI::Option* add_text(CLI::App& app, const std::string& name, std::string& target, const std::string& help) {
  return with_twin(app.add_option(name, target, help));
}

CLI::Option* add_flag(CLI::App& app, const std::string& name, bool& target, const std::string& help) {
  return with_twin(app.add_flag(name, target, help));
}

CLI::Option* add_texts(CLI::App& app, const std::string& name, std::vector<std::string>& target,
                       const std::string& help) {
  return with_twin(app.add_option(name, target, help)->allow_extra_args(false));
}

CLI::Option* add_whole(CLI::App& app, const std::string& name, int64_t& target, int64_t low, int64_t high,
                       const std::string& help) {
  return add_parsed(app, name, "N", help,
                    store(target, [low, high](const std::string& text) { return parse_whole(text, low, high); }));
}

CLI::Option* add_number(CLI::App& app, const std::string& name, std::optional<float>& target,
                        const std::string& help) {
  return add_parsed(app, name, "X", help, store(target, parse_number));
}

CLI::Option* add_bytes(CLI::App& app, const std::string& name, std::optional<uint64_t>& target,
                       const std::string& help) {
  return add_parsed(app, name, "BYTES", help, store(target, parse_bytes));
}

CLI::Option* add_weight_type(CLI::App& app, const std::string& name, std::optional<WeightType>& target,
                             const std::string& help) {
  return add_parsed(app, name, "TYPE", help, store(target, parse_weight_type));
}

ImportOptions WeightChoice::options(WeightType default_weights) const {
  return {.weights = weights.value_or(default_weights), .head = head, .ple = ple};
}

void add_weight_options(CLI::App& app, WeightChoice& choice) {
  add_weight_type(app, "--weights", choice.weights, "weights of a checkpoint: f32, bf16, q8, q6 or q4 [q4]");
  add_weight_type(app, "--head-weights", choice.head,
                  "embedding and head, the same types [q6; for f32 and bf16 as --weights]");
  add_weight_type(app, "--ple-weights", choice.ple,
                  "per-layer embeddings, the same types [q8; for f32 and bf16 as --weights]");
}

void add_model_options(CLI::App& app, ModelChoice& choice, ModelArgument argument) {
  const bool positional = argument == ModelArgument::kPositional;
  add_text(app, positional ? "model,-m,--model" : "-m,--model", choice.model,
           "a package, a checkpoint directory (imported once into the cache), or a name such as nano")
      ->type_name("MODEL")
      ->required();
  add_weight_options(app, choice.weights);
}

void add_engine_options(CLI::App& app, EngineOptions& options) {
  add_text(app, "--size", options.size,
           "size of the model: e2b ... e4b, full, auto (the largest that fits), or per layer a width or skip [full]");
  add_whole(app, "--ctx", options.context, EngineOptions::kMinContext, std::numeric_limits<int32_t>::max(),
            fmt::format("tokens a conversation may hold, prompt and answer, {} to what the model allows [{}]",
                        EngineOptions::kMinContext, options.context));
  add_parsed(app, "--kv", "TYPE", "keys and values: f32, bf16 or q8 [bf16; f32 with f32 weights]",
             store(options.kv, one_of<KvType>({{"f32", KvType::kF32}, {"bf16", KvType::kBF16}, {"q8", KvType::kQ8}})));
  add_parsed(app, "--ple", "MODE", "per-layer embeddings: stream (rows are read from storage) or resident [stream]",
             store(options.ple.mode,
                   one_of<PleMode>({{"stream", PleMode::kStream}, {"resident", PleMode::kResident}})));
  add_parsed(app, "--ple-cache", "BYTES", "memory for per-layer embedding rows that were read [0]",
             store(options.ple.cache_bytes, parse_bytes));
  add_bytes(app, "--memory", options.memory_budget,
            "refuse to start (status 4) when the memory plan needs more, e.g. 2G or 2GiB [no budget]");
  const auto parse_threads = [](const std::string& text) -> Result<int> {
    NESTLING_TRY(const int64_t threads, parse_whole(text, 1, EngineOptions::kMaxThreads));
    return static_cast<int>(threads);
  };
  add_parsed(app, "--threads", "N",
             fmt::format("threads, 1 to {}; steps too small to share use one [the fastest cores this process may use]",
                         EngineOptions::kMaxThreads),
             store(options.threads, parse_threads));
}

void add_chunk_option(CLI::App& app, EngineOptions& options) {
  add_whole(app, "--chunk", options.chunk, 1, EngineOptions::kMaxChunk,
            fmt::format("most tokens of a prompt in one pass, 1 to {}: a longer pass takes more memory [{}]",
                        EngineOptions::kMaxChunk, options.chunk));
}

// "106:-5,235:2.5"
static Result<std::vector<std::pair<int32_t, float>>> parse_logit_bias(const std::string& text) {
  std::vector<std::pair<int32_t, float>> bias;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const size_t colon = part.find(':');
    if (colon == std::string::npos)
      return fail(ErrorCode::kUsage, "'{}': an id and a bias such as 106:-5 are allowed, separated by commas", part);
    NESTLING_TRY(const int64_t id, parse_whole(part.substr(0, colon), 0, std::numeric_limits<int32_t>::max()));
    NESTLING_TRY(const float value, parse_number(part.substr(colon + 1)));
    bias.emplace_back(static_cast<int32_t>(id), value);
    begin = end + 1;
  }
  return bias;
}

SamplingParams SamplingChoice::resolve(const GenerationDefaults& defaults) const {
  SamplingParams params{.temperature = defaults.do_sample ? defaults.temperature : 0,
                        .top_k = defaults.top_k,
                        .top_p = defaults.top_p};
  params.temperature = temperature.value_or(params.temperature);
  params.top_k = top_k.value_or(params.top_k);
  params.top_p = top_p.value_or(params.top_p);
  params.min_p = min_p.value_or(params.min_p);
  params.repetition_penalty = repetition_penalty.value_or(params.repetition_penalty);
  params.presence_penalty = presence_penalty.value_or(params.presence_penalty);
  params.frequency_penalty = frequency_penalty.value_or(params.frequency_penalty);
  params.logit_bias = logit_bias;
  params.top_logprobs = top_logprobs;
  params.seed = seed ? *seed : std::random_device{}();
  return params;
}

void add_sampling_options(CLI::App& app, SamplingChoice& choice) {
  add_number(app, "--temp", choice.temperature, "temperature, 0 (greedy) to 100 [as the model says]");
  add_parsed(app, "--top-k", "N", "sample from the N likeliest tokens, 0: all [as the model says]",
             store(choice.top_k, [](const std::string& text) {
               return parse_whole(text, 0, std::numeric_limits<int64_t>::max());
             }));
  add_number(app, "--top-p", choice.top_p, "sample from the likeliest that reach this sum, 0 to 1 [as the model says]");
  add_number(app, "--min-p", choice.min_p, "drop tokens below this part of the likeliest, 0 to 1 [0]");
  add_number(app, "--repetition-penalty", choice.repetition_penalty,
             "above 1: ids seen, prompt included, become less likely [1]");
  add_number(app, "--presence-penalty", choice.presence_penalty, "taken once from the logit of ids generated [0]");
  add_number(app, "--frequency-penalty", choice.frequency_penalty, "taken for every time an id was generated [0]");
  add_parsed(app, "--logit-bias", "ID:BIAS,...", "added to the logits of these ids, e.g. 106:-5,235:2.5",
             store(choice.logit_bias, parse_logit_bias));
  add_parsed(app, "--seed", "N", "seed: the same one gives the same answer [random]", store(choice.seed, parse_seed));
}

void add_answer_options(CLI::App& app, AnswerChoice& choice) {
  add_whole(app, "-n,--max-tokens", choice.max_tokens, 1, std::numeric_limits<int64_t>::max(),
            "most tokens of an answer, 1 or more [until the model stops or the context is full]");
  add_texts(app, "--stop", choice.stop, "end the answer before this text; may be repeated, up to 64 times");
  add_parsed(app, "--speculate", "HOW",
             fmt::format("off, or lookup[:K]: propose what followed the same words earlier in the conversation, at most K tokens "
                         "a pass, 1 to {}; the answer is the same, texts that repeat come faster [off; K {}]",
                         Session::kMostProposals, kDefaultProposals),
             store(choice.speculate, parse_speculate));
}

void add_image_size(CLI::App& app, int64_t& size) {
  add_parsed(app, "--image-size", "N", "pixels a side that pictures are scaled to: 256, 512 or 768 [as the model says]",
             store(size, one_of<int64_t>({{"256", 256}, {"512", 512}, {"768", 768}})));
}

void add_audio_options(CLI::App& app, MediaChoice& choice) {
  add_parsed(app, "--audio-tokens", "HOW",
             "places a sound gets in the prompt: exact (one for every 160 ms) or pad188 (the model's number, which is 188 "
             "for the published ones, as transformers does: longer sounds are cut, shorter ones padded) [exact]",
             store(choice.options.audio_tokens,
                   one_of<AudioTokens>({{"exact", AudioTokens::kExact}, {"pad188", AudioTokens::kPadded}})));
  add_parsed(app, "--audio-limit", "SECONDS", "most seconds heard of a sound, above 0 to 5400 [all of it]",
             [&target = choice.options.audio_limit_seconds](const std::string& text) -> Status {
               const auto seconds = parse_number(text);
               if (!seconds || !(*seconds > 0 && *seconds <= 5400))
                 return fail(ErrorCode::kUsage, "found \"{}\"; above 0 to 5400 seconds are allowed", text);
               target = *seconds;
               return {};
             });
}

void add_media_options(CLI::App& app, MediaChoice& choice) {
  add_image_size(app, choice.options.image_size);
  add_audio_options(app, choice);
  add_flag(app, "--release-modalities", choice.options.release_modalities,
           "unload vision and audio as soon as the media of a prompt are encoded [they stay loaded]");
}

void add_pcm_options(CLI::App& app, MediaChoice& choice) {
  add_parsed(app, "--audio-rate", "HZ", fmt::format("--audio - is raw samples of this rate, {} to {}", kMinSampleRate,
                                                    kMaxSampleRate),
             store(choice.rate, [](const std::string& text) { return parse_whole(text, kMinSampleRate, kMaxSampleRate); }));
  add_parsed(app, "--audio-format", "TYPE", "raw samples: s16 or f32, little-endian [s16]",
             store(choice.sample, one_of<PcmFormat::Sample>({{"s16", PcmFormat::Sample::kS16},
                                                             {"f32", PcmFormat::Sample::kF32}})));
  add_parsed(app, "--audio-channels", "N", fmt::format("raw samples: channels, interleaved, 1 to {} [1]", kMaxChannels),
             store(choice.channels, [](const std::string& text) { return parse_whole(text, 1, kMaxChannels); }));
}

void add_content_options(CLI::App& app, ContentChoice& choice) {
  add_texts(app, "-p,--prompt", choice.prompts,
            "text of the prompt, - reads standard input; -p, --image and --audio may be repeated and keep their order");
  add_texts(app, "--image", choice.images,
            "a picture: JPEG, PNG, WebP or GIF, up to 64 MiB and 67 megapixels, - reads standard input")
      ->type_name("FILE");
  add_texts(app, "--audio", choice.audios,
            "a sound: WAV, FLAC, MP3, Ogg or AIFF, up to 512 MiB and 90 minutes, - reads standard input; the model was "
            "trained on up to 30 s")
      ->type_name("FILE");
}

std::vector<ContentArgument> ContentChoice::in_order(const CLI::App& app) const {
  struct Source {
    const CLI::Option* option;
    ContentKind kind;
    const std::vector<std::string>& values;
    size_t taken = 0;
  };
  Source sources[] = {{app.get_option("--prompt"), ContentKind::kText, prompts},
                      {app.get_option("--image"), ContentKind::kImage, images},
                      {app.get_option("--audio"), ContentKind::kAudio, audios}};
  std::vector<ContentArgument> content;
  const auto take = [&](Source& source) { content.push_back({source.kind, source.values[source.taken++]}); };
  for (const CLI::Option* option : app.parse_order())
    for (Source& source : sources)
      if (source.option == option && source.taken < source.values.size()) take(source);
  for (Source& source : sources)  // from the environment
    while (source.taken < source.values.size()) take(source);
  return content;
}

}  // namespace nestling
