#include "output.h"

#include <cerrno>
#include <cstdio>

namespace nestling {
namespace {

using Json = nlohmann::ordered_json;

double per_second(int64_t count, double ms) { return count > 0 && ms > 0 ? static_cast<double>(count) * 1000 / ms : 0; }

// 0.95, not 0.949999988079071.
double shortest(float value) { return std::stod(fmt::format("{}", value)); }

Status stdout_failed() {
  return fail(ErrorCode::kFailed, "standard output: cannot be written: {}", errno_text(errno));
}

}  // namespace

Status write_stdout(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) return stdout_failed();
  return {};
}

Status flush_stdout() {
  if (std::fflush(stdout) != 0) return stdout_failed();
  return {};
}

Status print_json(const Json& document) {
  // Text that is no UTF-8 (a path) must not lose the whole document.
  NESTLING_TRY_VOID(write_stdout(document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"));
  return flush_stdout();
}

void print_note(std::string_view note) { fmt::print(stderr, "nestling: note: {}\n", note); }

Json memory_json(const MemoryPlan& plan) {
  Json regions = Json::array();
  for (const MemoryRegion& region : plan.regions)
    regions.push_back(
        {{"name", region.name}, {"resident_bytes", region.resident}, {"reserved_bytes", region.reserved}});
  return {{"plan", std::move(regions)},
          {"planned_bytes", plan.resident()},
          {"rss_bytes", resident_bytes()},
          {"peak_rss_bytes", peak_resident_bytes()}};
}

Json ple_json(const PleOptions& options, const PleCounters& counters) {
  return {{"mode", options.mode == PleMode::kStream ? "stream" : "resident"},
          {"cache_bytes", options.cache_bytes},
          {"rows", counters.rows},
          {"bytes_read", counters.bytes_read},
          {"cache_hits", counters.cache_hits},
          {"stalls", counters.stalls},
          {"stall_ms", counters.stall_ms}};
}

Json timings_json(double load_ms, const GenerateResult& result, double image_ms, double audio_ms) {
  return {{"load_ms", load_ms},
          {"image_ms", image_ms},
          {"audio_ms", audio_ms},
          {"prefill_ms", result.prefill_ms},
          {"prefill_tps", prefill_tps(result)},
          {"first_token_ms", result.first_token_ms},
          {"decode_ms", result.decode_ms},
          {"decode_tps", decode_tps(result)}};
}

Json media_json(const std::vector<MediaReport>& media) {
  Json list = Json::array();
  for (const MediaReport& m : media) {
    const MediaFacts& f = m.facts;
    const bool picture = m.kind == ContentKind::kImage;
    Json entry = {{"kind", picture ? "image" : "audio"}, {"file", m.name}};
    if (picture)
      entry.update({{"width", f.width}, {"height", f.height}, {"encoded_size", f.encoded_size}});
    else
      entry.update({{"seconds", f.seconds}, {"heard_seconds", f.heard_seconds}, {"source_rate", f.source_rate},
                    {"channels", f.channels}});
    entry.update({{"tokens", m.tokens}, {"encode_ms", m.encode_ms}, {"cached", m.cached}});
    if (!picture) entry.update({{"clipped_values", f.clipped_values}, {"cut", m.cut}});
    list.push_back(std::move(entry));
  }
  return list;
}

Json modalities_json(const Towers& towers) {
  const auto of = [](const Modality& m) -> Json {
    return {{"loads", m.counters.loads},
            {"loaded", m.is_loaded()},
            {"resident_bytes", m.resident_bytes()},
            {"encoded", m.counters.encoded},
            {"cached", m.counters.cached}};
  };
  Json audio = of(towers.sound.modality());
  audio["weights"] = towers.sound.weights() == AudioWeights::kStreamed ? "streamed" : "resident";
  audio["bytes_streamed"] = towers.sound.bytes_streamed();
  return {{"vision", of(towers.vision.modality())}, {"audio", std::move(audio)}, {"cache_bytes", towers.cache.bytes()}};
}

Json sampling_json(const SamplingParams& params) {
  return {{"temperature", shortest(params.temperature)},
          {"top_k", params.top_k},
          {"top_p", shortest(params.top_p)},
          {"min_p", shortest(params.min_p)},
          {"repetition_penalty", shortest(params.repetition_penalty)},
          {"presence_penalty", shortest(params.presence_penalty)},
          {"frequency_penalty", shortest(params.frequency_penalty)}};
}

double prefill_tps(const GenerateResult& result) {
  return per_second(result.prompt_tokens - result.cached_tokens, result.prefill_ms);
}

double decode_tps(const GenerateResult& result) { return per_second(result.completion_tokens - 1, result.decode_ms); }

std::string megabytes(uint64_t bytes) { return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6); }

}  // namespace nestling
