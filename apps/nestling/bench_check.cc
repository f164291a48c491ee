// bench --check: the weight products alone beside the machine's ceilings, and floors that they may not fall below: a
// compiler can halve a kernel without a test noticing.
#include <algorithm>
#include <chrono>
#include <cstring>

#include "bench.h"
#include "kernels/dense.h"
#include "kernels/matmul.h"
#include "output.h"

namespace nestling {
namespace {

constexpr int64_t kRows = 8192, kCols = 2048, kTokens = 256;
constexpr uint64_t kWorkingSet = uint64_t{256} << 20;  // several times the last-level cache

// Shares of the int8 peak (gemm, and the encoders' dense) and of plain reading (matvec, decode) of each instruction set:
// a little below what a quiet machine gives (docs/performance.md). The int8 peak of avx2 is that of any 8-bit product;
// 4-bit codes pass it.
struct Floors {
  std::string_view kernels;
  double gemm, dense, matvec, decode;
};
constexpr Floors kFloors[] = {{"avx512", 0.62, 0.80, 0.75, 0.50}, {"avx2", 0.90, 0.62, 0.75, 0.45}};

// Matrices one after another, with codes and scales of any value that is an ordinary number; in huge pages like the
// array that plain reading is measured on, so that the share is the kernel's and not the page table's.
struct Matrices {
  explicit Matrices(WeightType type) {
    const uint64_t bytes = packed_bytes(type, Layout::kIl16, kRows, kCols);
    const auto copies = static_cast<int64_t>(kWorkingSet / bytes + 1);
    memory = AlignedBuffer(bytes * static_cast<uint64_t>(copies));
    use_huge_pages(memory);
    uint32_t state = 1;
    for (uint64_t at = 0; at + 4 <= memory.size(); at += 4) {
      state = state * 1664525 + 1013904223;
      const uint32_t word = (state & 0x03ff03ffu) | 0x20002000u;  // as f16: about 0.01
      std::memcpy(memory.data() + at, &word, 4);
    }
    for (int64_t i = 0; i < copies; ++i)
      matrices.push_back({type, Layout::kIl16, kRows, kCols, kRows, kCols,
                          memory.data() + static_cast<uint64_t>(i) * bytes, bytes});
  }
  AlignedBuffer memory;
  std::vector<WeightMatrix> matrices;
};

struct Input {
  Input(const Kernels& kernels, ThreadPool& pool, int64_t tokens)
      : values(static_cast<uint64_t>(tokens * kCols)), memory(Activations::bytes_needed(tokens, kCols)),
        activations({memory.data(), memory.size()}, tokens, kCols) {
    for (uint64_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 2654435761u % 65536) / 65536 - 0.5f;
    activations.assign(kernels, pool, values.data(), tokens, kCols, kCols, true);
  }
  AlignedArray<float> values;
  AlignedBuffer memory;
  Activations activations;
};

// A product of the encoders: a weight of the sound encoder and the frames of 30 seconds.
struct DenseProduct {
  static constexpr int64_t kOutputs = 6144, kInputs = 1536, kFrames = 750;
  DenseProduct(const Kernels& kernels, ThreadPool& pool)
      : values(static_cast<uint64_t>(kOutputs * kInputs)),
        weights(packed_bytes(WeightType::kI8, Layout::kIl16, kOutputs, kInputs)),
        memory(DenseInput::bytes_needed(kFrames, kInputs)), input({memory.data(), memory.size()}, kFrames, kInputs) {
    for (uint64_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 2654435761u % 65536) / 65536 - 0.5f;
    w = pack_dense(WeightType::kI8, kOutputs, kInputs, values.data(), kInputs, 1, weights.data());
    input.assign(kernels, pool, values.data(), kFrames, kInputs, kInputs, WeightType::kI8);
  }
  AlignedArray<float> values;
  AlignedBuffer weights, memory;
  DenseInput input;
  WeightMatrix w;
};

template <typename Body>
double seconds_of(Body body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// `work` per call of `body`, in units of 1e9, beside `ceiling` before and after.
template <typename Body, typename Ceiling>
Measurement measure_share(double work, int64_t repeat, Ceiling ceiling, Body body) {
  std::vector<double> rates, ceilings, shares;
  body();
  for (int64_t run = 0; run < repeat; ++run) {
    const double before = ceiling();
    rates.push_back(work / seconds_of(body) / 1e9);
    ceilings.push_back((before + ceiling()) / 2);
    shares.push_back(rates.back() / ceilings.back());
  }
  const Spread rate = spread_of(rates);
  return {.value = rate, .rate = rate.median, .ceiling = spread_of(ceilings).median, .share = spread_of(shares)};
}

// Whether the weights of this size come from memory at every token; those of small models stay in the cache.
bool is_bound_by_memory(const BenchReport& report, const std::string& size) {
  return std::ranges::any_of(report.sizes, [&](const SizeReport& s) {
    return s.size.name == size && s.work.weight_bytes > static_cast<double>(kWorkingSet);
  });
}

std::optional<double> floor_of(const Floors& floors, const BenchReport& report, const Measurement& m) {
  if (m.what.starts_with("gemm")) return floors.gemm;
  if (m.what.starts_with("dense")) return floors.dense;
  if (m.what.starts_with("matvec")) return floors.matvec;
  if (m.what == "decode" && is_bound_by_memory(report, m.size)) return floors.decode;
  return std::nullopt;
}

}  // namespace

Status measure_products(const Probe& probe, const Kernels& kernels, int threads, int64_t repeat, BenchReport& report) {
  ThreadPool pool(threads, threads <= available_core_count());
  const Matrices q4(WeightType::kQ4);
  Input one(kernels, pool, 1), many(kernels, pool, kTokens);
  const int64_t most = std::max(kTokens * kRows, DenseProduct::kFrames * DenseProduct::kOutputs);
  AlignedArray<float> y(static_cast<uint64_t>(most));
  const int64_t rounds = std::max<int64_t>(repeat, 7);

  Measurement gemm = measure_share(static_cast<double>(kRows * kCols * kTokens), rounds,
                                   [&] { return probe.int8(kernels, pool); },
                                   [&] { matmul(kernels, pool, many.activations, q4.matrices[0], y.data(), kRows); });
  gemm.what = fmt::format("gemm q4, {} x {}, {} tokens", kRows, kCols, kTokens);
  gemm.unit = gemm.ceiling_unit = "GMAC/s";
  gemm.ceiling_name = "int8 peak";
  report.measurements.push_back(std::move(gemm));

  const DenseProduct product(kernels, pool);
  Measurement dense_i8 = measure_share(
      static_cast<double>(DenseProduct::kOutputs * DenseProduct::kInputs * DenseProduct::kFrames), rounds,
      [&] { return probe.int8(kernels, pool); },
      [&] { dense(kernels, pool, product.input, product.w, y.data(), DenseProduct::kOutputs); });
  dense_i8.what = fmt::format("dense i8, {} x {}, {} rows", DenseProduct::kOutputs, DenseProduct::kInputs,
                              DenseProduct::kFrames);
  dense_i8.unit = dense_i8.ceiling_unit = "GMAC/s";
  dense_i8.ceiling_name = "int8 peak";
  report.measurements.push_back(std::move(dense_i8));

  Measurement matvec = measure_share(
      static_cast<double>(q4.memory.size()), rounds, [&] { return probe.read(pool); },
      [&] {
        for (const WeightMatrix& w : q4.matrices) matmul(kernels, pool, one.activations, w, y.data(), kRows);
      });
  matvec.what = fmt::format("matvec q4, {} x {}", kRows, kCols);
  matvec.unit = matvec.ceiling_unit = "GB/s";
  matvec.ceiling_name = "plain read";
  report.measurements.push_back(std::move(matvec));
  return {};
}

Result<bool> check_floors(const BenchReport& report) {
  const auto floors = std::ranges::find(kFloors, std::string_view(report.machine.kernels), &Floors::kernels);
  if (floors == std::end(kFloors)) {
    print_note(fmt::format("--check: no floors are known for {} kernels", report.machine.kernels));
    return true;
  }
  bool passed = true;
  for (const Measurement& m : report.measurements) {
    const auto floor = floor_of(*floors, report, m);
    if (!floor) continue;
    const bool low = m.share.median < *floor;
    passed &= !low;
    print_note(fmt::format("--check: {}{}{}: {:.1f} % of {}, {} {:.0f} %", m.size, m.size.empty() ? "" : " ", m.what,
                           100 * m.share.median, m.ceiling_name, low ? "BELOW the floor of" : "the floor is",
                           100 * *floor));
  }
  return passed;
}

}  // namespace nestling
