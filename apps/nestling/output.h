// What the program prints: data on stdout, everything else on stderr; one JSON document where --json is given.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "runtime/engine.h"
#include "runtime/media_reader.h"
#include "runtime/session.h"

namespace nestling {

// kFailed when stdout cannot take it (a full disk).
Status write_stdout(std::string_view text);
Status flush_stdout();
Status print_json(const nlohmann::ordered_json& document);
// "nestling: note: ..." on stderr.
void print_note(std::string_view note);

// {plan: [{name, resident_bytes, reserved_bytes}], planned_bytes, rss_bytes, peak_rss_bytes}
nlohmann::ordered_json memory_json(const MemoryPlan& plan);
// {mode, cache_bytes, rows, bytes_read, cache_hits, stalls, stall_ms}
nlohmann::ordered_json ple_json(const PleOptions& options, const PleCounters& counters);
// {load_ms, image_ms, audio_ms, prefill_ms, prefill_tps, first_token_ms, decode_ms, decode_tps}
nlohmann::ordered_json timings_json(double load_ms, const GenerateResult& result, double image_ms = 0,
                                    double audio_ms = 0);
// [{kind: "image", file, width, height, encoded_size, tokens, encode_ms, cached},
//  {kind: "audio", file, seconds, heard_seconds, source_rate, channels, tokens, encode_ms, cached, clipped_values, cut}]
nlohmann::ordered_json media_json(const std::vector<MediaReport>& media);
// {vision: {loads, loaded, resident_bytes, encoded, cached}, audio: {..., weights, bytes_streamed}, cache_bytes}
nlohmann::ordered_json modalities_json(const Towers& towers);
nlohmann::ordered_json sampling_json(const SamplingParams& params);

// Tokens per second; 0 where nothing was measured. A decode of n tokens runs n - 1 steps: the first comes of the
// prompt.
double prefill_tps(const GenerateResult& result);
double decode_tps(const GenerateResult& result);
std::string megabytes(uint64_t bytes);

}  // namespace nestling
