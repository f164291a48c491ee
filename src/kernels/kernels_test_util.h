// Random matrices and packed weights for the tests of this folder.
#pragma once

#include <cstring>
#include <random>
#include <vector>

#include "base/aligned.h"
#include "kernels/kernels.h"
#include "kernels/matmul.h"
#include "kernels/pack.h"

namespace nestling::kernels_test {

inline constexpr WeightType kTypes[] = {WeightType::kF32, WeightType::kBF16, WeightType::kQ8, WeightType::kQ6,
                                        WeightType::kQ4};

inline std::vector<float> random_values(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// A matrix with its packed bytes, 64-byte aligned as in a package.
struct Packed {
  AlignedBuffer bytes;
  WeightMatrix w;
};

inline Packed pack(WeightType type, Layout layout, int64_t rows, int64_t cols, const std::vector<float>& values) {
  Packed packed{AlignedBuffer(packed_bytes(type, layout, rows, cols)), {}};
  pack_matrix(type, layout, rows, cols, values.data(), packed.bytes.data());
  packed.w = {type, layout, rows, cols, rows, cols, packed.bytes.data(), packed.bytes.size()};
  return packed;
}

// X prepared for one set of kernels.
struct Prepared {
  Prepared(const Kernels& kernels, ThreadPool& pool, const std::vector<float>& x, int64_t rows, int64_t cols)
      : memory(Activations::bytes_needed(rows, cols)), activations({memory.data(), memory.size()}, rows, cols) {
    activations.assign(kernels, pool, x.data(), rows, cols, cols, true);
  }
  AlignedBuffer memory;
  Activations activations;
};

#if defined(__x86_64__)
extern const KernelTable kEmulatedAvxVnniKernels;  // emulated/avxvnni_test.cc
#endif

// Sets whose instructions the test itself computes: emulated/sets_test.cc, emulated/avx512_test.cc.
std::vector<Kernels> emulated_kernels();

// The machine's sets, and those that are emulated.
inline std::vector<Kernels> all_kernels() {
  std::vector<Kernels> all = emulated_kernels();
  for (const std::string_view name : Kernels::available()) all.push_back(Kernels::named(name).value());
  return all;
}

inline Kernels scalar_kernels() { return Kernels::named("scalar").value(); }

// Equal as bits, so that NaN equals NaN and nothing is forgiven.
inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace nestling::kernels_test
