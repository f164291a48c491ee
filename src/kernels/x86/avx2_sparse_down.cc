#include <algorithm>
#include <cstring>

#include "kernels/x86/avx2_common.h"
#include "kernels/x86/avx2_kernels.h"
#include "tensor/float_types.h"

namespace nestling {
namespace {

using namespace avx2;

// y[0..64) += int32 sums of one block, times scales.
struct Tile {
  __m256i sums[8];  // outputs 8i .. 8i+7
};

NESTLING_AVX2_INLINE void add_scaled(const Tile& tile, const std::byte* w_scales, float x_scale, float* y) {
  const __m256 xs = _mm256_set1_ps(x_scale);
  NESTLING_UNROLL for (int i = 0; i < 8; ++i) {
    const __m256 scale = _mm256_mul_ps(load_half8(w_scales + 16 * i), xs);
    _mm256_storeu_ps(y + 8 * i, _mm256_fmadd_ps(_mm256_cvtepi32_ps(tile.sums[i]), scale, _mm256_loadu_ps(y + 8 * i)));
  }
}

NESTLING_AVX2_INLINE __m256i widen(__m128i v) { return _mm256_cvtepi16_epi32(v); }

// The kept neurons of a block, two by two: their codes for one output are multiplied and added by one instruction. An
// odd last neuron is paired with itself times zero.
struct Pairs {
  static constexpr int kMost = kQuantBlock / 2;
  const std::byte* first[kMost];
  const std::byte* second[kMost];
  int32_t bytes[kMost];  // two int8 codes of x, repeated
  int32_t words[kMost];  // two int16
  int count = 0;
  int sum = 0;  // of all codes of x
};

// int16 holds the sum of a whole block: 8 * 127 * 32 = 32,512.
template <int kPairs>
NESTLING_AVX2_INLINE Tile dot_q4(const Pairs& pairs, int64_t offset) {
  const __m256i low4 = _mm256_set1_epi8(15);
  __m256i acc[4];
  NESTLING_UNROLL for (int i = 0; i < 4; ++i) acc[i] = _mm256_set1_epi16(static_cast<int16_t>(-8 * pairs.sum));
  const auto add = [&](int p) __attribute__((always_inline)) {
    const __m256i a = load(pairs.first[p] + offset), b = load(pairs.second[p] + offset);
    const __m256i xx = _mm256_set1_epi32(pairs.bytes[p]);
    const __m256i a_low = _mm256_and_si256(a, low4), b_low = _mm256_and_si256(b, low4);
    const __m256i a_high = _mm256_and_si256(_mm256_srli_epi16(a, 4), low4);
    const __m256i b_high = _mm256_and_si256(_mm256_srli_epi16(b, 4), low4);
    acc[0] = _mm256_add_epi16(acc[0], _mm256_maddubs_epi16(_mm256_unpacklo_epi8(a_low, b_low), xx));
    acc[1] = _mm256_add_epi16(acc[1], _mm256_maddubs_epi16(_mm256_unpackhi_epi8(a_low, b_low), xx));
    acc[2] = _mm256_add_epi16(acc[2], _mm256_maddubs_epi16(_mm256_unpacklo_epi8(a_high, b_high), xx));
    acc[3] = _mm256_add_epi16(acc[3], _mm256_maddubs_epi16(_mm256_unpackhi_epi8(a_high, b_high), xx));
  };
  if constexpr (kPairs > 0) {
    NESTLING_UNROLL for (int p = 0; p < kPairs; ++p) add(p);
  } else {
    for (int p = 0; p < pairs.count; ++p) add(p);
  }
  // unpack leaves outputs 0-7 | 16-23 and 8-15 | 24-31.
  Tile tile;
  NESTLING_UNROLL for (int i = 0; i < 2; ++i) {
    tile.sums[4 * i + 0] = widen(_mm256_castsi256_si128(acc[2 * i]));
    tile.sums[4 * i + 1] = widen(_mm256_castsi256_si128(acc[2 * i + 1]));
    tile.sums[4 * i + 2] = widen(_mm256_extracti128_si256(acc[2 * i], 1));
    tile.sums[4 * i + 3] = widen(_mm256_extracti128_si256(acc[2 * i + 1], 1));
  }
  return tile;
}

// Signed codes of outputs 16i .. 16i+15 as int16.
template <WeightType kType>
NESTLING_AVX2_INLINE __m256i load_codes16(const std::byte* codes, int i) {
  if constexpr (kType == WeightType::kQ8) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + 16 * i)));
  } else {
    const __m128i nibbles = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + 16 * (i % 2)));
    const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + 32));
    const __m128i low4 = _mm_and_si128(i < 2 ? nibbles : _mm_srli_epi16(nibbles, 4), _mm_set1_epi8(15));
    const __m128i bits = _mm_and_si128(_mm_srli_epi16(high, 2 * i), _mm_set1_epi8(3));
    const __m128i code = _mm_or_si128(low4, _mm_slli_epi16(bits, 4));
    return _mm256_cvtepi8_epi16(_mm_sub_epi8(code, _mm_set1_epi8(32)));
  }
}

template <WeightType kType>
NESTLING_AVX2_INLINE Tile dot_wide(const Pairs& pairs, int64_t offset) {
  Tile tile;
  NESTLING_UNROLL for (int i = 0; i < 4; ++i) {
    __m256i low = _mm256_setzero_si256(), high = _mm256_setzero_si256();
    for (int p = 0; p < pairs.count; ++p) {
      const __m256i a = load_codes16<kType>(pairs.first[p] + offset, i);
      const __m256i b = load_codes16<kType>(pairs.second[p] + offset, i);
      const __m256i xx = _mm256_set1_epi32(pairs.words[p]);
      low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), xx));
      high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), xx));
    }
    // unpack leaves outputs 0-3 | 8-11 and 4-7 | 12-15.
    tile.sums[2 * i] = _mm256_permute2x128_si256(low, high, 0x20);
    tile.sums[2 * i + 1] = _mm256_permute2x128_si256(low, high, 0x31);
  }
  return tile;
}

template <WeightType kType>
class DownProduct {
 public:
  explicit DownProduct(const SparseDownArgs& a)
      : a_(a), row_bytes_(input_major_row_bytes(kType, a.rows)), block_bytes_(input_major_block_bytes(kType, a.rows)) {}

  void run() const {
    for (int64_t block = a_.first_block; block < a_.end_block; ++block) {
      if (block + kAhead < a_.end_block) prefetch(block + kAhead);
      const Pairs pairs = pairs_of(block);
      if (pairs.count == 0) continue;
      if constexpr (kType == WeightType::kQ4) {
        // Most blocks of a sparse layer keep one to four neurons.
        if (pairs.count == 1)
          add_block<1>(pairs, block);
        else if (pairs.count == 2)
          add_block<2>(pairs, block);
        else
          add_block<0>(pairs, block);
      } else {
        add_block<0>(pairs, block);
      }
    }
  }

 private:
  static constexpr int64_t kTileBytes = 2 * code_bytes(kType);
  static constexpr int64_t kAhead = 2;

  const std::byte* scales_of(int64_t block) const { return a_.w + block * block_bytes_; }
  const std::byte* codes_of(int64_t block, int32_t kept) const {
    return scales_of(block) + 2 * input_major_width(a_.rows) + a_.x.neurons[kept] % kQuantBlock * row_bytes_;
  }

  void prefetch(int64_t block) const {
    const int32_t first = a_.x.starts[block], last = a_.x.starts[block + 1];
    if (first == last) return;
    // Scales are long enough for the hardware to follow, once it has seen the start.
    prefetch(scales_of(block) + 2 * a_.begin, 4 * kLineBytes);
    const int64_t begin = a_.begin / kInputMajorWidth * kTileBytes;
    const int64_t end = ceil_div(a_.end, kInputMajorWidth) * kTileBytes;
    for (int32_t i = first; i < last; ++i) prefetch(codes_of(block, i) + begin, end - begin);
  }
  static void prefetch(const std::byte* bytes, int64_t count) {
    for (int64_t at = 0; at < count; at += kLineBytes) _mm_prefetch(bytes + at, _MM_HINT_T1);
  }

  Pairs pairs_of(int64_t block) const {
    Pairs pairs;
    const int32_t last = a_.x.starts[block + 1];
    for (int32_t i = a_.x.starts[block]; i < last; i += 2) {
      const bool pair = i + 1 < last;
      const int x0 = a_.x.codes[i], x1 = pair ? a_.x.codes[i + 1] : 0;
      pairs.first[pairs.count] = codes_of(block, i);
      pairs.second[pairs.count] = codes_of(block, pair ? i + 1 : i);
      pairs.bytes[pairs.count] = static_cast<int32_t>(((x0 & 0xffu) | (x1 & 0xffu) << 8) * 0x10001u);
      pairs.words[pairs.count] = static_cast<int32_t>((x0 & 0xffffu) | static_cast<uint32_t>(x1) << 16);
      pairs.sum += x0 + x1;
      ++pairs.count;
    }
    return pairs;
  }

  template <int kPairs>
  void add_block(const Pairs& pairs, int64_t block) const {
    const std::byte* scales = scales_of(block);
    int64_t offset = a_.begin / kInputMajorWidth * kTileBytes;
    for (int64_t o = a_.begin; o < a_.end; o += kInputMajorWidth, offset += kTileBytes) {
      Tile tile;
      if constexpr (kType == WeightType::kQ4)
        tile = dot_q4<kPairs>(pairs, offset);
      else
        tile = dot_wide<kType>(pairs, offset);
      if (a_.end - o >= kInputMajorWidth) {
        add_scaled(tile, scales + 2 * o, a_.x.scales[block], a_.y + o);
      } else {
        float y[kInputMajorWidth] = {};
        std::memcpy(y, a_.y + o, (a_.end - o) * sizeof(float));
        add_scaled(tile, scales + 2 * o, a_.x.scales[block], y);
        std::memcpy(a_.y + o, y, (a_.end - o) * sizeof(float));
      }
    }
  }

  const SparseDownArgs& a_;
  uint64_t row_bytes_, block_bytes_;
};

template <WeightType kType>
void floats(const SparseDownArgs& a) {
  const uint64_t row_bytes = input_major_row_bytes(kType, a.rows);
  for (int32_t i = a.x.starts[a.first_block]; i < a.x.starts[a.end_block]; ++i) {
    const std::byte* w = a.w + a.x.neurons[i] * row_bytes;
    const __m256 x = _mm256_set1_ps(a.x.values[i]);
    int64_t o = a.begin;
    for (; o + 8 <= a.end; o += 8) {
      const std::byte* at = w + o * float_bytes(kType);
      const __m256 weights =
          kType == WeightType::kF32 ? _mm256_loadu_ps(reinterpret_cast<const float*>(at)) : load_bf16x8(at);
      _mm256_storeu_ps(a.y + o, _mm256_fmadd_ps(weights, x, _mm256_loadu_ps(a.y + o)));
    }
    for (; o < a.end; ++o) {
      const float weight = kType == WeightType::kF32 ? reinterpret_cast<const float*>(w)[o]
                                                     : bf16_to_f32(reinterpret_cast<const uint16_t*>(w)[o]);
      a.y[o] = __builtin_fmaf(weight, a.x.values[i], a.y[o]);
    }
  }
}

}  // namespace

void avx2_sparse_down_f32(const SparseDownArgs& a) { floats<WeightType::kF32>(a); }
void avx2_sparse_down_bf16(const SparseDownArgs& a) { floats<WeightType::kBF16>(a); }
void avx2_sparse_down_q8(const SparseDownArgs& a) { DownProduct<WeightType::kQ8>(a).run(); }
void avx2_sparse_down_q6(const SparseDownArgs& a) { DownProduct<WeightType::kQ6>(a).run(); }
void avx2_sparse_down_q4(const SparseDownArgs& a) { DownProduct<WeightType::kQ4>(a).run(); }

}  // namespace nestling
