// Several rows in one pass against one, for `nestling bench`: what a proposed token costs (speculation) and what a pass
// over several conversations would.
#include <chrono>
#include <iterator>

#include "bench.h"

namespace nestling {
namespace {

constexpr int64_t kRows[] = {1, 2, 4, 8};
static_assert(kRows[3] == Engine::kLogitRows);

// One pass over `ids` at the beginning of a conversation, to the logits of every row; in milliseconds.
Result<double> pass_ms(Engine& engine, KvCache& kv, std::span<const int32_t> ids) {
  const auto rows = static_cast<int64_t>(ids.size());
  std::vector<int32_t> ple_rows;
  for (const int32_t id : ids) ple_rows.push_back(engine.text().ple_row(id));
  const auto start = std::chrono::steady_clock::now();
  engine.ple().request(0, ple_rows);
  NESTLING_TRY(const float* hidden,
               engine.text().forward(engine.kernels(), engine.pool(), engine.workspace(),
                                     {.ids = ids, .wanted = rows, .size = &engine.default_size(), .kv = &kv,
                                      .ple = &engine.ple()}));
  engine.text().logits(engine.kernels(), engine.pool(), engine.workspace(), hidden, rows, engine.logits());
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Status measure_rows(Engine& engine, std::span<const int32_t> ids, int64_t repeat, BenchReport& report) {
  KvCache kv(engine.config().text,
             {.type = *engine.options().kv, .context = Engine::kLogitRows, .max_chunk = Engine::kLogitRows});
  std::vector<double> milliseconds;
  std::vector<double> ratios[std::size(kRows)];
  // In turns: whatever else the machine does meets all of them.
  for (int64_t run = 0; run < repeat; ++run)
    for (size_t i = 0; i < std::size(kRows); ++i) {
      NESTLING_TRY(const double ms, pass_ms(engine, kv, ids.first(static_cast<size_t>(kRows[i]))));
      if (i == 0) milliseconds.push_back(ms);
      ratios[i].push_back(ms / milliseconds.back());
    }
  engine.pool().park();
  const std::string& size = engine.default_size().name;
  report.measurements.push_back({.size = size, .what = "pass of 1 row, with logits", .unit = "ms",
                                 .value = spread_of(milliseconds)});
  for (size_t i = 1; i < std::size(kRows); ++i)
    report.measurements.push_back({.size = size, .what = fmt::format("pass of {} rows", kRows[i]), .unit = "x 1 row",
                                   .value = spread_of(ratios[i])});
  return {};
}

}  // namespace nestling
