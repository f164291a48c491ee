// The report of `nestling bench`: table, JSON and CSV, and the comparison with an earlier one.
#include <algorithm>
#include <fstream>

#include "base/file.h"
#include "bench.h"
#include "output.h"

namespace nestling {
namespace {

using Json = nlohmann::ordered_json;

// Below this a line passes between cores that share a cache, above it between core complexes; a virtual machine may
// move from one state to the other within a minute, and its bandwidth with it.
constexpr double kNearCoresNs = 120;

const char* state_name(const Machine& machine) {
  return machine.latency_ns == 0 ? "" : machine.latency_ns < kNearCoresNs ? "near cores" : "far cores";
}

double per(double value, int64_t count) { return count == 0 ? 0 : value / static_cast<double>(count); }

std::string change_of(const Measurement& m) {
  if (!m.before || *m.before == 0) return "";
  return fmt::format("  {:+.1f} % ({:.4g} before)", 100 * (m.value.median / *m.before - 1), *m.before);
}

std::string line_of(const Measurement& m) {
  std::string line = fmt::format("  {:38} {:10.2f} {:9} ({:.2f} .. {:.2f})", m.what, m.value.median, m.unit,
                                 m.value.min, m.value.max);
  if (!m.ceiling_name.empty())
    line = fmt::format("{:82} {:7.1f} of {:.1f} {} {}: {:5.1f} % ({:.1f} .. {:.1f})", line, m.rate, m.ceiling,
                       m.ceiling_unit, m.ceiling_name, 100 * m.share.median, 100 * m.share.min, 100 * m.share.max);
  return line + change_of(m) + "\n";
}

std::string machine_text(const Machine& m) {
  std::string text =
      fmt::format("{}, {} kernels, {} threads, load {:.1f}\n", m.processor, m.kernels, m.threads, m.load);
  text += fmt::format("  plain read {:.1f} GB/s with 1 thread, {:.1f} with {}; int8 {:.0f} GMAC/s, float32 {:.0f}",
                      m.read_1, m.read_n, m.threads, m.int8, m.float32);
  if (m.latency_ns > 0) text += fmt::format("; core to core {:.0f} ns ({})", m.latency_ns, state_name(m));
  return text + "\n";
}

std::string ple_text(const char* what, const PleCounters& ple, int64_t tokens) {
  return fmt::format("  PLE per {}: {:.2f} rows, {:.0f} bytes read, {:.2f} hits, {:.2f} stalls, {:.3f} ms stalled\n",
                     what, per(static_cast<double>(ple.rows), tokens), per(static_cast<double>(ple.bytes_read), tokens),
                     per(static_cast<double>(ple.cache_hits), tokens), per(static_cast<double>(ple.stalls), tokens),
                     per(ple.stall_ms, tokens));
}

std::string size_text(const SizeReport& s) {
  std::string text = fmt::format("  a decoded token reads {:.1f} MB of weights, a prompt token forms {:.0f} M products",
                                 s.work.weight_bytes / 1e6, s.work.prefill_products / 1e6);
  text += s.kept > 0 ? fmt::format("; {:.1f} % of sparse neurons run\n", 100 * s.kept) : "\n";
  text += ple_text("decoded token", s.decode_ple, s.decode_tokens);
  if (s.prompt_tokens > 0)
    text += ple_text(fmt::format("token of prompt {}", s.prompt_tokens).c_str(), s.prompt_ple, s.prompt_tokens);
  text += fmt::format("  resident {}, at most {}, planned {}\n", megabytes(s.resident_bytes),
                      megabytes(s.peak_resident_bytes), megabytes(s.planned_bytes));
  return text;
}

const Measurement* find(const BenchReport& report, const std::string& size, std::string_view what) {
  const auto wanted = [&](const Measurement& m) { return m.size == size && m.what.starts_with(what); };
  const auto it = std::ranges::find_if(report.measurements, wanted);
  return it == report.measurements.end() ? nullptr : &*it;
}

// The fastest prompt, whatever its length.
double best_prefill(const BenchReport& report, const std::string& size) {
  double best = 0;
  for (const Measurement& m : report.measurements)
    if (m.size == size && m.what.starts_with("prefill")) best = std::max(best, m.value.median);
  return best;
}

std::string comparison_of_sizes(const BenchReport& report) {
  std::string text = fmt::format("{:16} {:>9} {:>9} {:>12} {:>14} {:>16}\n", "size", "decode/s", "prefill/s",
                                 "resident", "MB per token", "decode/s x bytes");
  for (const SizeReport& s : report.sizes) {
    const Measurement* decode = find(report, s.size.name, "decode");
    text += fmt::format("{:16} {:9.2f} {:9.1f} {:>12} {:14.1f} {:11.2f} GB/s\n", s.size.name,
                        decode != nullptr ? decode->value.median : 0, best_prefill(report, s.size.name),
                        megabytes(s.peak_resident_bytes), s.work.weight_bytes / 1e6,
                        decode != nullptr ? decode->rate : 0);
  }
  return text;
}

Json spread_json(const Spread& s) {
  return {{"median", s.median}, {"min", s.min}, {"max", s.max}, {"runs", s.runs}};
}

Json measurement_json(const Measurement& m) {
  Json json = {{"size", m.size}, {"what", m.what}, {"unit", m.unit}, {"value", spread_json(m.value)}};
  if (!m.ceiling_name.empty())
    json.update({{"ceiling_name", m.ceiling_name}, {"ceiling_unit", m.ceiling_unit}, {"rate", m.rate},
                 {"ceiling", m.ceiling}, {"share", spread_json(m.share)}});
  if (m.before) json["before"] = *m.before;
  return json;
}

Json ple_counters_json(const PleCounters& ple, int64_t tokens) {
  return {{"tokens", tokens},         {"rows", ple.rows},     {"bytes_read", ple.bytes_read},
          {"cache_hits", ple.cache_hits}, {"stalls", ple.stalls}, {"stall_ms", ple.stall_ms}};
}

Json size_json(const SizeReport& s) {
  return {{"size", s.size.name},
          {"layers", s.size.layers_run()},
          {"kept_share", s.kept},
          {"weight_bytes_per_token", s.work.weight_bytes},
          {"ple_bytes_per_token", s.work.ple_row_bytes},
          {"products_per_prompt_token", s.work.prefill_products},
          {"rss_bytes", s.resident_bytes},
          {"peak_rss_bytes", s.peak_resident_bytes},
          {"planned_bytes", s.planned_bytes},
          {"ple_decode", ple_counters_json(s.decode_ple, s.decode_tokens)},
          {"ple_prompt", ple_counters_json(s.prompt_ple, s.prompt_tokens)}};
}

Json machine_json(const Machine& m) {
  return {{"processor", m.processor}, {"kernels", m.kernels},         {"threads", m.threads},
          {"load", m.load},           {"core_latency_ns", m.latency_ns}, {"state", state_name(m)},
          {"read_1_gb_per_s", m.read_1}, {"read_gb_per_s", m.read_n}, {"int8_gmac_per_s", m.int8},
          {"float32_gmac_per_s", m.float32}};
}

}  // namespace

Status print_report(const BenchReport& report) {
  std::string text = machine_text(report.machine);
  if (!report.model.empty() && report.sizes.empty()) text += fmt::format("{} ({})\n", report.model, report.weights);
  if (!report.sizes.empty())
    text += fmt::format("{} ({}), K/V {}, {} tokens of context, {} a pass, PLE {}\n", report.model, report.weights,
                        report.kv, report.context, report.chunk, report.ple);
  for (const SizeReport& s : report.sizes) {
    text += fmt::format("\nsize {}\n", s.size.name);
    for (const Measurement& m : report.measurements)
      if (m.size == s.size.name) text += line_of(m);
    text += size_text(s);
  }
  for (const Measurement& m : report.measurements)
    if (m.size.empty()) text += line_of(m);
  if (report.sizes.size() > 1) text += "\n" + comparison_of_sizes(report);
  NESTLING_TRY_VOID(write_stdout(text));
  for (const std::string& note : report.notes) print_note(note);
  return flush_stdout();
}

Status print_report_json(const BenchReport& report, const BenchOptions& options) {
  Json sizes = Json::array(), measurements = Json::array();
  for (const SizeReport& s : report.sizes) sizes.push_back(size_json(s));
  for (const Measurement& m : report.measurements) measurements.push_back(measurement_json(m));
  return print_json({{"version", NESTLING_VERSION},
                     {"model", report.model},
                     {"weights", report.weights},
                     {"kv", report.kv},
                     {"ple", report.ple},
                     {"context", report.context},
                     {"chunk", report.chunk},
                     {"gen_tokens", options.gen_tokens},
                     {"repeat", options.repeat},
                     {"machine", machine_json(report.machine)},
                     {"sizes", std::move(sizes)},
                     {"measurements", std::move(measurements)},
                     {"limits", report.notes}});
}

Status write_csv(const BenchReport& report, const std::string& path) {
  std::ofstream file(path);
  file << "model,weights,processor,kernels,threads,context,chunk,kv,size,what,unit,median,min,max,runs,rate,ceiling,"
          "ceiling_unit,ceiling_name,share_median,share_min,share_max\n";
  const Machine& machine = report.machine;
  for (const Measurement& m : report.measurements)
    file << fmt::format("\"{}\",\"{}\",\"{}\",{},{},{},{},{},{},\"{}\",{},{},{},{},{},{},{},{},{},{},{},{}\n",
                        report.model, report.weights, machine.processor, machine.kernels, machine.threads,
                        report.context, report.chunk, report.kv, m.size, m.what, m.unit, m.value.median, m.value.min,
                        m.value.max, m.value.runs, m.rate, m.ceiling, m.ceiling_unit, m.ceiling_name,
                        m.share.median, m.share.min, m.share.max);
  file.flush();
  if (!file) return fail(ErrorCode::kFailed, "--csv {}: cannot be written", path);
  return {};
}

Status compare_to(BenchReport& report, const std::string& path) {
  constexpr uint64_t kMaxBytes = uint64_t{16} << 20;
  const auto text = read_text_file(path, kMaxBytes);
  if (!text) return fail(ErrorCode::kUsage, "--compare-to: {}", text.error().message);
  const Json earlier = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  const auto refuse = [&] {
    return fail(ErrorCode::kUsage, "--compare-to {}: is no document of nestling bench --json", path);
  };
  if (!earlier.is_object() || !earlier.contains("measurements") || !earlier["measurements"].is_array()) return refuse();
  for (const Json& old : earlier["measurements"]) {
    if (!old.is_object() || !old.contains("size") || !old.contains("what") || !old.contains("value")) return refuse();
    const Json& value = old["value"];
    if (!value.is_object() || !value.contains("median") || !value["median"].is_number()) return refuse();
    for (Measurement& m : report.measurements)
      if (old["size"] == m.size && old["what"] == m.what) m.before = value["median"].get<double>();
  }
  return {};
}

}  // namespace nestling
