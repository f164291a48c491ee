// The AVX-VNNI kernels with their one instruction computed in AVX2: a set beside those of the machine, for all tests of
// this folder.
#if defined(__x86_64__)
#include <cstring>

#include <gtest/gtest.h>

#include "kernels/kernels_test_util.h"
#include "kernels/x86/avxvnni_kernels.h"

namespace nestling::kernels_test {
namespace {

// Even and odd bytes apart, as int16: the products of two, added as int32, overflow nothing.
struct Vnni {
  NESTLING_AVX2_INLINE static __m256i dot_bytes(__m256i acc, __m256i w, __m256i x) {
    const __m256i even_w = _mm256_and_si256(w, _mm256_set1_epi16(0xff)), odd_w = _mm256_srli_epi16(w, 8);
    const __m256i even_x = _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8), odd_x = _mm256_srai_epi16(x, 8);
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(even_w, even_x));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(odd_w, odd_x));
  }
};

TEST(AvxVnni, EmulationFollowsTheDefinition) {
  constexpr int kUnsigned[] = {0, 1, 127, 128, 254, 255}, kSigned[] = {-128, -127, -1, 0, 1, 127};
  std::mt19937 random(1);
  for (int round = 0; round < 10'000; ++round) {
    const auto draw = [&](const int(&extremes)[6], int low) {
      const uint32_t bits = random();
      return bits % 2 == 0 ? extremes[(bits >> 8) % 6] : low + static_cast<int>((bits >> 8) % 256);
    };
    uint8_t w[32];
    int8_t x[32];
    int32_t acc[8], expected[8];
    for (int i = 0; i < 8; ++i) {
      acc[i] = expected[i] = static_cast<int32_t>(random());
      for (int k = 4 * i; k < 4 * i + 4; ++k) {
        w[k] = static_cast<uint8_t>(draw(kUnsigned, 0));
        x[k] = static_cast<int8_t>(draw(kSigned, -128));
        expected[i] = static_cast<int32_t>(static_cast<uint32_t>(expected[i]) + static_cast<uint32_t>(w[k] * x[k]));
      }
    }
    const __m256i found = Vnni::dot_bytes(avx2::load(acc), avx2::load(w), avx2::load(x));
    ASSERT_EQ(std::memcmp(&found, expected, sizeof(expected)), 0) << round;
  }
}

}  // namespace

// Nothing asks it for a ceiling.
constinit const KernelTable kEmulatedAvxVnniKernels =
    avxvnni::table<Vnni>("avxvnni (emulated)", avx2_supported, /*int8_products=*/nullptr);

}  // namespace nestling::kernels_test
#endif
