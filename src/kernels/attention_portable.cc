// Attention blocks for sets without a file of their own: eight lanes at a time through the compilers' vector extensions.
#include "kernels/attention_portable.h"

#include "kernels/simd.h"
#include "kernels/unroll.h"

namespace nestling {
namespace {

#define NESTLING_INLINE [[gnu::always_inline]] inline

// Element `e` of eight words, as floats.
template <KvType kType>
NESTLING_INLINE Float8 element(Int8x4 words, int e) {
  Float8 values;
  if constexpr (kType == KvType::kQ8) return __builtin_convertvector((words << (24 - 8 * e)) >> 24, Float8);
  if constexpr (kType == KvType::kBF16) words = e == 0 ? words << 16 : words & static_cast<int32_t>(0xffff0000u);
  std::memcpy(&values, &words, sizeof(values));
  return values;
}

NESTLING_INLINE Int8x4 load_words(const std::byte* p) {
  Int8x4 words;
  std::memcpy(&words, p, sizeof(words));
  return words;
}

NESTLING_INLINE void prefetch(const std::byte* next, int64_t line) {
  if (next != nullptr) __builtin_prefetch(next + line * kKvLineBytes, /*write=*/0, /*locality=*/2);
}

template <KvType kType, int kQueries>
void scores(const AttentionBlock& a) {
  constexpr int kElements = static_cast<int>(elements_per_word(kType));
  const int64_t lines = key_lines(kType, a.head_dim);
  for (int group = 0; group < kKvBlock / kKvLanes; ++group) {
    const std::byte* keys = a.keys + group * lines * kKvLineBytes;
    const float* q = a.q;
    Float8 acc[kQueries][2] = {};
    for (int64_t line = 0; line < lines; ++line, keys += kKvLineBytes) {
      prefetch(a.next, group * lines + line);
      const Int8x4 low = load_words(keys), high = load_words(keys + 32);
      NESTLING_UNROLL for (int e = 0; e < kElements; ++e, q += kQueries) {
        const Float8 k0 = element<kType>(low, e), k1 = element<kType>(high, e);
        NESTLING_UNROLL for (int m = 0; m < kQueries; ++m) {
          const Float8 x = splat8(q[m]);
          acc[m][0] += k0 * x;
          acc[m][1] += k1 * x;
        }
      }
    }
    NESTLING_UNROLL for (int m = 0; m < kQueries; ++m)
      NESTLING_UNROLL for (int half = 0; half < 2; ++half) {
        const int64_t at = group * kKvLanes + 8 * half;
        if constexpr (kType == KvType::kQ8) acc[m][half] = acc[m][half] * load8(a.key_scales + at);
        store8(a.scores + m * kKvBlock + at, acc[m][half]);
      }
  }
}

template <KvType kType, int kQueries>
void sums(const AttentionBlock& a) {
  constexpr int kElements = static_cast<int>(elements_per_word(kType));
  const int64_t lines = value_lines(kType, a.head_dim), width = padded_head_dim(a.head_dim);
  // Half a line at a time, as many elements of its words as the registers hold.
  constexpr int kTogether = kElements > 2 ? 2 : kElements;
  for (int64_t half_line = 0; half_line < 2 * lines; ++half_line) {
    const int64_t line = half_line / 2, first_word = half_line % 2 * 8;
    for (int first = 0; first < kElements; first += kTogether) {
      float* out = a.sums + line * kKvLanes * kElements + first * kKvLanes + first_word;
      Float8 acc[kQueries][kTogether];
      NESTLING_UNROLL for (int m = 0; m < kQueries; ++m)
        NESTLING_UNROLL for (int e = 0; e < kTogether; ++e)
          acc[m][e] = load8(out + m * width + e * kKvLanes) * a.scales[m];
      const std::byte* values = a.values + line * kKvLineBytes + first_word * 4;
      for (int64_t j = 0; j < kKvBlock; ++j, values += lines * kKvLineBytes) {
        if (first == 0 && first_word == 0) prefetch(a.next, line * kKvBlock + j);
        const Int8x4 words = load_words(values);
        Float8 v[kTogether];
        NESTLING_UNROLL for (int e = 0; e < kTogether; ++e) v[e] = element<kType>(words, first + e);
        NESTLING_UNROLL for (int m = 0; m < kQueries; ++m) {
          const Float8 w = splat8(a.scores[m * kKvBlock + j]);
          NESTLING_UNROLL for (int e = 0; e < kTogether; ++e) acc[m][e] += v[e] * w;
        }
      }
      NESTLING_UNROLL for (int m = 0; m < kQueries; ++m)
        NESTLING_UNROLL for (int e = 0; e < kTogether; ++e) store8(out + m * width + e * kKvLanes, acc[m][e]);
    }
  }
}

template <KvType kType>
void scores_of(const AttentionBlock& a) {
  switch (a.queries) {
    case 1: return scores<kType, 1>(a);
    case 2: return scores<kType, 2>(a);
    case 3: return scores<kType, 3>(a);
    case 4: return scores<kType, 4>(a);
  }
}

template <KvType kType>
void sums_of(const AttentionBlock& a) {
  switch (a.queries) {
    case 1: return sums<kType, 1>(a);
    case 2: return sums<kType, 2>(a);
    case 3: return sums<kType, 3>(a);
    case 4: return sums<kType, 4>(a);
  }
}

}  // namespace

constinit const AttentionKernel kPortableAttention = {
    .queries = 4,
    .scores = {scores_of<KvType::kF32>, scores_of<KvType::kBF16>, scores_of<KvType::kQ8>},
    .sums = {sums_of<KvType::kF32>, sums_of<KvType::kBF16>, sums_of<KvType::kQ8>},
};

}  // namespace nestling
