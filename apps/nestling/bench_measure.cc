// Prefill, decode, first token, load, memory and storage traffic of one size, for `nestling bench`.
#include <algorithm>
#include <chrono>
#include <random>

#include <fcntl.h>
#include <malloc.h>

#include "bench.h"
#include "interrupt.h"
#include "runtime/trace.h"

namespace nestling {
namespace {

using Clock = std::chrono::steady_clock;

// Tokens of the prompt whose first token is timed from the start of the program.
constexpr int64_t kStartPrompt = 512;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// Ids as of ordinary text: spread over the vocabulary, the same in every run.
std::vector<int32_t> random_ids(const TextConfig& config, int64_t count) {
  std::mt19937_64 random(1);
  const auto ids = static_cast<uint64_t>(std::min(config.vocab_size, config.vocab_size_per_layer_input));
  std::vector<int32_t> result;
  for (int64_t i = 0; i < count; ++i) result.push_back(static_cast<int32_t>(random() % ids));
  return result;
}

// Forgets what the page cache holds of the file, so that opening it reads the disk.
void drop_from_page_cache(const std::filesystem::path& path) {
  if (const auto file = File::open(path)) ::posix_fadvise(file->fd(), 0, 0, POSIX_FADV_DONTNEED);
}

uint64_t without(uint64_t bytes, uint64_t other) { return bytes > other ? bytes - other : 0; }

// Counts what the gates of sparse layers let through.
class KeptCounter : public TraceRecorder {
 public:
  explicit KeptCounter(const TextConfig& slice) : TraceRecorder("layers.*.mlp.gate_after_topk"), slice_(slice) {}
  void record(const std::string& name, const std::vector<int64_t>& shape, const float* data,
              int64_t outer_stride) override {
    if (!wants(name)) return;
    const auto layer = static_cast<size_t>(std::atoll(name.c_str() + std::string_view("layers.").size()));
    if (slice_.activation_sparsity[layer] == 0) return;
    for (int64_t row = 0; row < shape[0]; ++row)
      kept_ += shape[1] - std::count(data + row * outer_stride, data + row * outer_stride + shape[1], 0.0f);
    neurons_ += shape[0] * shape[1];
  }
  double share() const { return neurons_ == 0 ? 0 : static_cast<double>(kept_) / static_cast<double>(neurons_); }

 private:
  TextConfig slice_;
  int64_t kept_ = 0, neurons_ = 0;
};

Result<double> kept_share(Engine& engine) {
  KeptCounter counter(sliced_config(engine.config().text, engine.default_size()));
  const int64_t tokens = std::min<int64_t>(16, engine.options().chunk);
  NESTLING_TRY_VOID(trace_text(engine, {.ids = random_ids(engine.config().text, tokens), .size = engine.default_size(),
                                        .all_logits = false}, counter));
  return counter.share();
}

// One size: an engine, a session, and where the figures go.
class SizeBench {
 public:
  SizeBench(const std::filesystem::path& package, const BenchOptions& options, const std::string& size,
            const Probe& probe, BenchReport& report)
      : package_(package), options_(options), probe_(probe), report_(report), engine_options_(options.engine) {
    engine_options_.size = size;
  }

  Status run() {
    NESTLING_TRY_VOID(measure_load());
    NESTLING_TRY_VOID(check_lengths());
    for (const int64_t tokens : prompts_) NESTLING_TRY_VOID(measure_prefill(tokens));
    NESTLING_TRY_VOID(measure_decode());
    NESTLING_TRY_VOID(measure_rows(*engine_, random_ids(engine_->config().text, Engine::kLogitRows), options_.repeat,
                                   report_));
    finish_memory();
    return {};
  }

 private:
  Status open() {
    session_.reset();
    engine_.reset();
    reset_peak_resident_bytes();
    NESTLING_TRY(engine_, Engine::open(package_, engine_options_));
    session_ = std::make_unique<Session>(*engine_);
    return {};
  }

  // PLE rows come from the disk in every run: what is mapped, and has been read, stays in memory.
  Result<GenerateResult> generate(Session& session, int64_t prompt_tokens, int64_t max_tokens) {
    drop_from_page_cache(package_);
    // Sampled as users sample: greedy decoding of random weights runs in circles, and so would the rows it reads.
    const GenerationDefaults& defaults = engine_->config().generation;
    NESTLING_TRY(GenerateResult result,
                 session.generate({.prompt = {.ids = random_ids(engine_->config().text, prompt_tokens)},
                                   .size = engine_->default_size(),
                                   .sampling = {.temperature = defaults.temperature, .top_k = defaults.top_k,
                                                .top_p = defaults.top_p, .seed = 1},
                                   .max_tokens = max_tokens,
                                   .use_stop_ids = false,
                                   .cancelled = interrupt_flag()}));
    if (interrupted()) return fail(ErrorCode::kCancelled, "interrupted");
    return result;
  }

  // Cold: nothing of the file is in the page cache. First tokens from the start are timed once each, they are slow.
  Status measure_load() {
    std::vector<double> cold, warm;
    for (int64_t run = 0; run < options_.repeat; ++run) {
      session_.reset();
      engine_.reset();
      drop_from_page_cache(package_);
      const auto start = Clock::now();
      NESTLING_TRY_VOID(open());
      cold.push_back(milliseconds_since(start));
    }
    NESTLING_TRY(kept_, kept_after_cold_start());
    for (int64_t run = 0; run < options_.repeat; ++run) {
      session_.reset();  // what closing the one before takes is no part of opening
      engine_.reset();
      const auto start = Clock::now();
      NESTLING_TRY_VOID(open());
      warm.push_back(milliseconds_since(start));
    }
    work_ = work_of(engine_->package(), engine_->config().text, engine_->default_size(), kept_);
    // Besides, it maps the pages that all later runs find mapped.
    NESTLING_TRY(const GenerateResult first, generate(*session_, start_prompt(), 1));
    add({.what = "open, warm", .unit = "ms", .value = spread_of(warm)});
    add({.what = "open, cold", .unit = "ms", .value = spread_of(cold)});
    add({.what = fmt::format("start to first token, prompt {}, warm", start_prompt()), .unit = "ms",
         .value = spread_of({warm.back() + first.first_token_ms})});
    add({.what = fmt::format("start to first token, prompt {}, cold", start_prompt()), .unit = "ms",
         .value = spread_of({cold.back() + cold_first_token_ms_})});
    return {};
  }

  int64_t start_prompt() const { return std::min(kStartPrompt, engine_->options().context - 1); }

  // The last cold engine answers, and tells what share of its sparse neurons ran.
  Result<double> kept_after_cold_start() {
    NESTLING_TRY(const GenerateResult result, generate(*session_, start_prompt(), 1));
    cold_first_token_ms_ = result.first_token_ms;
    return kept_share(*engine_);
  }

  Status check_lengths() {
    const int64_t context = engine_->options().context;
    prompts_ = options_.prompts;
    if (prompts_.empty())
      for (const int64_t tokens : {32, 128, 512, 2048})
        if (tokens < context) prompts_.push_back(tokens);
    for (const int64_t tokens : prompts_)
      if (tokens >= context)
        return fail(ErrorCode::kUsage, "--prompt-tokens {}: 1 to {} are allowed, the context holds {} (--ctx)", tokens,
                    context - 1, context);
    for (const int64_t depth : options_.depths)
      if (std::max<int64_t>(depth, 1) + options_.gen_tokens >= context)
        return fail(ErrorCode::kUsage, "--depth {} and --gen-tokens {} are {} tokens; the context holds {} (--ctx)",
                    depth, options_.gen_tokens, depth + options_.gen_tokens, context);
    return {};
  }

  Status measure_prefill(int64_t tokens) {
    const double products = work_.prefill_products * static_cast<double>(tokens) + work_.last_products;
    std::vector<double> speed, rates, ceilings, shares, first_tokens;
    for (int64_t run = 0; run < options_.repeat; ++run) {
      session_->clear();
      const double before = probe_.int8(engine_->kernels(), engine_->pool());
      NESTLING_TRY(const GenerateResult result, generate(*session_, tokens, 1));
      ceilings.push_back((before + probe_.int8(engine_->kernels(), engine_->pool())) / 2);
      engine_->pool().park();
      speed.push_back(static_cast<double>(tokens) * 1e3 / result.prefill_ms);
      rates.push_back(products / result.prefill_ms / 1e6);
      shares.push_back(rates.back() / ceilings.back());
      first_tokens.push_back(result.first_token_ms);
      prompt_ple_ = result.ple;
      prompt_tokens_ = tokens;
    }
    add({.what = fmt::format("prefill {}", tokens), .unit = "tokens/s", .value = spread_of(speed),
         .ceiling_name = "int8 peak", .ceiling_unit = "GMAC/s", .rate = spread_of(rates).median,
         .ceiling = spread_of(ceilings).median, .share = spread_of(shares)});
    add({.what = fmt::format("first token, prompt {}", tokens), .unit = "ms", .value = spread_of(first_tokens)});
    return {};
  }

  // Runs at one depth. The session keeps its prompt: runs after the first find its K/V and run its last token only.
  struct DecodeRuns {
    int64_t depth = 0;
    std::unique_ptr<Session> session;
    std::vector<double> speed, rates, ceilings, shares, forks;
    int64_t prompt() const { return std::max<int64_t>(depth, 1); }
  };

  // Depths take turns, each with a session of its own: the machine changes more from one minute to the next than the cost
  // of a token does from one depth to another.
  Status measure_decode() {
    session_.reset();
    std::vector<DecodeRuns> all;
    for (const int64_t depth : options_.depths) {
      all.push_back({.depth = depth, .session = std::make_unique<Session>(*engine_)});
      NESTLING_TRY(const GenerateResult warm_up, generate(*all.back().session, all.back().prompt(), 2));
    }
    for (int64_t run = 0; run < options_.repeat; ++run)
      for (DecodeRuns& runs : all) NESTLING_TRY_VOID(decode_once(runs));
    for (const DecodeRuns& runs : all) add_decode(runs);
    return {};
  }

  Status decode_once(DecodeRuns& runs) {
    const int64_t steps = options_.gen_tokens;
    const double position = static_cast<double>(runs.prompt()) + static_cast<double>(steps) / 2;
    const double bytes = work_.weight_bytes + kv_bytes_read(engine_->config().text, engine_->default_size(),
                                                            *engine_->options().kv, position);
    const double before = probe_.read(engine_->pool());
    const uint32_t forks_before = engine_->pool().forks();
    NESTLING_TRY(const GenerateResult result, generate(*runs.session, runs.prompt(), steps + 1));
    runs.forks.push_back(static_cast<double>(engine_->pool().forks() - forks_before) / static_cast<double>(steps + 1));
    runs.ceilings.push_back((before + probe_.read(engine_->pool())) / 2);
    engine_->pool().park();
    // From the first token to the last: each step is a pass, the head and a choice.
    const double ms = result.decode_ms - (result.first_token_ms - result.prefill_ms);
    runs.speed.push_back(static_cast<double>(steps) * 1e3 / ms);
    runs.rates.push_back(runs.speed.back() * bytes / 1e9);
    runs.shares.push_back(runs.rates.back() / runs.ceilings.back());
    if (runs.depth == options_.depths.front()) decode_ple_ = result.ple;
    return {};
  }

  void add_decode(const DecodeRuns& runs) {
    const std::string at = runs.depth == 0 ? "" : fmt::format(" at {}", runs.depth);
    add({.what = "decode" + at, .unit = "tokens/s", .value = spread_of(runs.speed), .ceiling_name = "plain read",
         .ceiling_unit = "GB/s", .rate = spread_of(runs.rates).median, .ceiling = spread_of(runs.ceilings).median,
         .share = spread_of(runs.shares)});
    add({.what = "parallel steps per token" + at, .unit = "", .value = spread_of(runs.forks)});
  }

  void finish_memory() {
    report_.sizes.push_back({.size = engine_->default_size(),
                             .kept = kept_,
                             .work = work_,
                             .decode_ple = decode_ple_,
                             .prompt_ple = prompt_ple_,
                             .decode_tokens = options_.gen_tokens,
                             .prompt_tokens = prompt_tokens_,
                             .resident_bytes = without(resident_bytes(), probe_.bytes()),
                             .peak_resident_bytes = without(peak_resident_bytes(), probe_.bytes()),
                             .plan_table = engine_->plan().table(),
                             .planned_bytes = engine_->plan().resident()});
    report_.context = engine_->options().context;
    report_.chunk = engine_->options().chunk;
    report_.kv = kv_type_name(*engine_->options().kv);
    const auto& notes = engine_->notes();
    report_.notes.insert(report_.notes.end(), notes.begin(), notes.end());
    engine_->pool().park();
  }

  void add(Measurement measurement) {
    measurement.size = engine_->default_size().name;
    report_.measurements.push_back(std::move(measurement));
  }

  const std::filesystem::path& package_;
  const BenchOptions& options_;
  const Probe& probe_;
  BenchReport& report_;
  EngineOptions engine_options_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Session> session_;
  std::vector<int64_t> prompts_;
  double kept_ = 0, cold_first_token_ms_ = 0;
  Work work_;
  PleCounters decode_ple_, prompt_ple_;
  int64_t prompt_tokens_ = 0;
};

}  // namespace

void reset_peak_resident_bytes() {
  ::malloc_trim(0);
  const int fd = ::open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  [[maybe_unused]] const ssize_t written = ::write(fd, "5", 1);
  ::close(fd);
}

Spread spread_of(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t n = values.size();
  if (n == 0) return {};
  const double median = n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
  return {median, values.front(), values.back(), static_cast<int64_t>(n)};
}

Status measure_size(const std::filesystem::path& package, const BenchOptions& options, const std::string& size,
                    const Probe& probe, BenchReport& report) {
  return SizeBench(package, options, size, probe, report).run();
}

}  // namespace nestling
