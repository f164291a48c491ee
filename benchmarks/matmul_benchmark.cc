// Weight products of the real shapes beside what the machine can do: decode (1 token) in GB/s of weight bytes against
// plain reading, prompts in GMAC/s against the int8 peak of the instruction set; both ceilings are measured directly
// before and after, and the ratio is the median over rounds.
//
//   matmul_benchmark [decode|gemm|sparse|all] [threads] [rounds]       NESTLING_CPU=avx2 forces a set.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base/aligned.h"
#include "kernels/ceilings.h"
#include "kernels/kernels.h"
#include "kernels/matmul.h"
#include "kernels/sparse_ffn.h"

namespace nestling {
namespace {

struct Run {
  Kernels kernels;
  ThreadPool pool;
  int rounds;
};

double seconds_of(const Run& run, const std::function<void()>& body) {
  const double start = benchmark_seconds(run.pool);
  body();
  return benchmark_seconds(run.pool) - start;
}

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + v.size() / 2, v.end());
  return v[v.size() / 2];
}

// Random codes under scales of about 0.01: the values do not matter, but denormals and NaN would.
struct RandomMatrix {
  RandomMatrix(WeightType type, Layout layout, int64_t rows, int64_t cols, int copies) {
    const uint64_t bytes = (packed_bytes(type, layout, rows, cols) + 4095) / 4096 * 4096;
    buffer = AlignedBuffer(bytes * copies);
    uint32_t state = 12345;
    for (uint64_t at = 0; at + 4 <= buffer.size(); at += 4) {
      state = state * 1664525 + 1013904223;
      // As f16, bf16 or f32: an ordinary positive number whichever half is read.
      const uint32_t word = (state & 0x03ff03ffu) | 0x20002000u;
      std::memcpy(buffer.data() + at, &word, 4);
    }
    for (int i = 0; i < copies; ++i)
      matrices.push_back({type, layout, rows, cols, rows, cols, buffer.data() + i * bytes, bytes});
  }
  AlignedBuffer buffer;
  std::vector<WeightMatrix> matrices;
};

struct Input {
  Input(Run& run, int64_t rows, int64_t cols, bool quantize)
      : x(rows * cols), memory(Activations::bytes_needed(rows, cols)),
        activations({memory.data(), memory.size()}, rows, cols) {
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>((i * 2654435761u >> 8) & 0xffff) / 65536.0f - 0.5f;
    activations.assign(run.kernels, run.pool, x.data(), rows, cols, cols, quantize);
  }
  std::vector<float> x;
  AlignedBuffer memory;
  Activations activations;
};

void decode(Run& run, WeightType type, int64_t rows, int64_t cols, int64_t tokens) {
  constexpr uint64_t kWorkingSet = 512ull << 20;
  const int copies = static_cast<int>(kWorkingSet / packed_bytes(type, Layout::kIl16, rows, cols)) + 1;
  const RandomMatrix w(type, Layout::kIl16, rows, cols, copies);
  Input x(run, tokens, cols, is_quantized(type));
  std::vector<float> y(tokens * rows);
  std::vector<double> rates, ratios;
  for (int round = 0; round < run.rounds; ++round) {
    const double before = measure_read(run.pool, w.buffer.data(), w.buffer.size());
    const double seconds = seconds_of(run, [&] {
      for (const WeightMatrix& m : w.matrices) matmul(run.kernels, run.pool, x.activations, m, y.data(), rows);
    });
    const double after = measure_read(run.pool, w.buffer.data(), w.buffer.size());
    rates.push_back(static_cast<double>(w.buffer.size()) / seconds);
    ratios.push_back(rates.back() * 2 / (before + after));
  }
  fmt::print(
      "decode {:4} {:5} x {:5}  tokens {:2}  {:6.1f} GB/s  {:5.1f} % of plain reading (best {:5.1f} GB/s, {:5.1f} %)\n",
      weight_type_name(type), rows, cols, tokens, median(rates) / 1e9, 100 * median(ratios),
      *std::max_element(rates.begin(), rates.end()) / 1e9, 100 * *std::max_element(ratios.begin(), ratios.end()));
}

void gemm(Run& run, WeightType type, int64_t rows, int64_t cols, int64_t tokens) {
  const RandomMatrix w(type, Layout::kIl16, rows, cols, 1);
  Input x(run, tokens, cols, is_quantized(type));
  std::vector<float> y(tokens * rows);
  std::vector<double> rates, ratios;
  const double macs = static_cast<double>(rows) * cols * tokens;
  for (int round = 0; round < run.rounds; ++round) {
    const double before = measure_int8(run.kernels, run.pool);
    const double seconds =
        seconds_of(run, [&] { matmul(run.kernels, run.pool, x.activations, w.matrices[0], y.data(), rows); });
    const double after = measure_int8(run.kernels, run.pool);
    rates.push_back(macs / seconds);
    ratios.push_back(rates.back() * 2 / (before + after));
  }
  std::vector<double> codings;
  for (int round = 0; round < run.rounds; ++round)
    codings.push_back(seconds_of(run, [&] {
      x.activations.assign(run.kernels, run.pool, x.x.data(), tokens, cols, cols, is_quantized(type));
    }));
  fmt::print(
      "gemm   {:4} {:5} x {:5}  tokens {:3} {:6.1f} GMAC/s {:5.1f} % of the int8 peak (best {:6.1f}, {:5.1f} %); "
      "coding x {:.0f} us, product {:.0f} us\n",
      weight_type_name(type), rows, cols, tokens, median(rates) / 1e9, 100 * median(ratios),
      *std::max_element(rates.begin(), rates.end()) / 1e9, 100 * *std::max_element(ratios.begin(), ratios.end()),
      median(codings) * 1e6, 1e6 * macs / median(rates));
}

void sparse(Run& run, WeightType type, int64_t ffn, int64_t width, int64_t tokens, double share) {
  constexpr int kLayers = 16;  // distinct, so that a token finds nothing in the cache
  const RandomMatrix up(type, Layout::kLaneRows, ffn, width, kLayers),
      down(type, Layout::kInputMajor, width, ffn, kLayers);
  Input x(run, tokens, width, true);
  std::vector<int64_t> offsets = {0};
  std::vector<int32_t> neurons;
  uint32_t state = 1;
  for (int64_t t = 0; t < tokens; ++t) {
    for (int32_t n = 0; n < ffn; ++n) {
      state = state * 1664525 + 1013904223;
      if (state < share * 4294967296.0) neurons.push_back(n);
    }
    offsets.push_back(static_cast<int64_t>(neurons.size()));
  }
  const SparseSelection kept{tokens, offsets.data(), neurons.data()};
  std::vector<float> values(neurons.size()), y(tokens * width);
  const AlignedBuffer scratch(sparse_down_scratch_bytes(tokens, width, ffn, run.pool.size()));
  std::vector<double> ups, downs;
  for (int round = 0; round < run.rounds; ++round)
    for (int layer = 0; layer < kLayers; ++layer) {
      ups.push_back(seconds_of(run, [&] {
        sparse_up(run.kernels, run.pool, x.activations, up.matrices[layer], kept, values.data());
      }));
      downs.push_back(seconds_of(run, [&] {
        sparse_down(run.kernels, run.pool, kept, values.data(), down.matrices[layer], y.data(), width, scratch.data());
      }));
    }
  fmt::print("sparse {:4} {:5} x {:5}  tokens {:3}  kept {:4.1f} %  up {:7.0f} us  down {:7.0f} us per layer "
             "(best {:.0f} and {:.0f})\n",
             weight_type_name(type), ffn, width, tokens, 100.0 * neurons.size() / (tokens * ffn), median(ups) * 1e6,
             median(downs) * 1e6, *std::min_element(ups.begin(), ups.end()) * 1e6,
             *std::min_element(downs.begin(), downs.end()) * 1e6);
}

int run_all(std::string_view what, int threads, int rounds) {
  auto kernels = Kernels::choose();
  if (!kernels) {
    fmt::print(stderr, "{}\n", kernels.error().message);
    return exit_status(kernels.error().code);
  }
  Run run{*kernels, ThreadPool(threads, threads <= available_core_count()), rounds};
  const Ceilings ceilings = measure_ceilings(run.kernels, run.pool, 768ull << 20);
  fmt::print("{} {} threads: plain reading {:.1f} GB/s, int8 {:.0f} GMAC/s\n", run.kernels.name(), threads,
             ceilings.read_bytes_per_second / 1e9, ceilings.int8_products_per_second / 1e9);
  const auto wanted = [&](std::string_view part) { return what == "all" || what == part; };
  if (wanted("decode")) {
    for (WeightType type : {WeightType::kQ4, WeightType::kQ6, WeightType::kQ8, WeightType::kBF16, WeightType::kF32}) {
      decode(run, type, 16384, 2048, 1);
      decode(run, type, 2048, 16384, 1);
    }
    for (int64_t tokens : {2, 3, 4, 6, 8, 12, 16, 24}) decode(run, WeightType::kQ4, 16384, 2048, tokens);
  }
  if (wanted("gemm")) {
    for (WeightType type : {WeightType::kQ4, WeightType::kQ6, WeightType::kQ8, WeightType::kBF16, WeightType::kF32}) {
      gemm(run, type, 2048, 2048, 256);
      gemm(run, type, 8192, 2048, 256);
      gemm(run, type, 2048, 8192, 256);
    }
    gemm(run, WeightType::kQ4, 16384, 2048, 512);
    gemm(run, WeightType::kQ4, 2048, 16384, 512);
    gemm(run, WeightType::kQ4, 8192, 2048, 32);
  }
  if (wanted("sparse")) {
    for (double share : {0.02, 0.05, 0.1, 0.3}) sparse(run, WeightType::kQ4, 16384, 2048, 1, share);
    sparse(run, WeightType::kQ8, 16384, 2048, 1, 0.05);
    sparse(run, WeightType::kQ4, 16384, 2048, 256, 0.05);
  }
  return 0;
}

}  // namespace
}  // namespace nestling

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "all";
  const int threads = argc > 2 ? std::atoi(argv[2]) : nestling::default_thread_count();
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 7;
  if (threads < 1 || rounds < 1) {
    fmt::print(stderr, "usage: matmul_benchmark [decode|gemm|sparse|all] [threads >= 1] [rounds >= 1]\n");
    return 2;
  }
  return nestling::run_all(what, threads, rounds);
}
