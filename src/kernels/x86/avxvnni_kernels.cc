#include "kernels/x86/avxvnni_kernels.h"

namespace nestling {
namespace {

// The VEX form: AVX-512's, which assemblers prefer, is not there. Functions carry no target attribute, so that
// compilers use the instruction nowhere else; asm operands, in the order written, keep a tile in registers with both.
struct Vnni {
  NESTLING_AVX2_INLINE static __m256i dot_bytes(__m256i acc, __m256i w, __m256i x) {
    asm volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(w), "x"(x));
    return acc;
  }
};

bool supported() { return avx2_supported() && __builtin_cpu_supports("avxvnni"); }

int64_t int8_products(int64_t rounds) {
  constexpr int kChains = 12;  // five cycles of latency, two a cycle, and two to spare
  __m256i acc[kChains];
  NESTLING_UNROLL for (int c = 0; c < kChains; ++c) acc[c] = _mm256_setzero_si256();
  const __m256i w = _mm256_set1_epi8(3), x = _mm256_set1_epi8(-5);
  for (int64_t i = 0; i < rounds; ++i)
    NESTLING_UNROLL for (int c = 0; c < kChains; ++c)
        asm volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc[c]) : "x"(w), "x"(x));
  return rounds * kChains * 32;
}

}  // namespace

constinit const KernelTable kAvxVnniKernels = avxvnni::table<Vnni>("avxvnni", supported, int8_products);

}  // namespace nestling
