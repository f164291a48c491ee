// The reference set: plain C++, the definition of every result. The others must give the same bits.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/attention_portable.h"
#include "kernels/block_codes.h"
#include "kernels/kernel_table.h"
#include "kernels/scalar/scalar_dense.h"
#include "tensor/float_types.h"
#include "tensor/layout.h"

namespace nestling {
namespace {

bool supported() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
#else
  return true;
#endif
}

// Blocks whose largest magnitude is below this are zero: its reciprocal would overflow.
constexpr float kSmallestPeak = 1e-30f;

void quantize(const float* x, int64_t cols, int8_t* codes, int32_t* corrections, float* scales) {
  for (int64_t block = 0; block < block_count(cols); ++block, codes += kQuantBlock) {
    const float* in = x + block * kQuantBlock;
    const int64_t count = std::min(kQuantBlock, cols - block * kQuantBlock);
    float peak = 0;
    for (int64_t i = 0; i < count; ++i) peak = std::max(peak, std::fabs(in[i]));
    const bool zero = peak < kSmallestPeak;
    const float inverse = zero ? 0.0f : 127.0f / peak;
    int32_t sum = 0;
    for (int64_t i = 0; i < kQuantBlock; ++i) {
      codes[i] = i < count ? static_cast<int8_t>(std::lrintf(in[i] * inverse)) : int8_t{0};
      sum += codes[i];
    }
    corrections[block] = -8 * sum;
    scales[block] = zero ? 0.0f : peak / 127.0f;
  }
}

template <WeightType kType>
float load(const std::byte* w, int64_t index) {
  if constexpr (kType == WeightType::kF32) {
    return reinterpret_cast<const float*>(w)[index];
  } else {
    return bf16_to_f32(reinterpret_cast<const uint16_t*>(w)[index]);
  }
}

template <WeightType kType>
void il16_float(const Il16Args& a) {
  for (int s = 0; s < a.streams; ++s)
    for (int m = 0; m < a.tokens; ++m) {
      const std::byte* w = a.w + s * a.w_stream;
      const float* x = a.x + m * a.x_stride;
      float* y = a.y + m * a.y_stride + s * a.y_stream;
      float acc[kLanes] = {};
      if (a.accumulate) std::copy_n(y, kLanes, acc);
      for (int64_t k = 0; k < a.cols; ++k)
        for (int64_t lane = 0; lane < kLanes; ++lane)
          acc[lane] = std::fma(load<kType>(w, k * kLanes + lane), x[k], acc[lane]);
      std::copy_n(acc, kLanes, y);
    }
}

// The cell as codes[input][lane].
template <WeightType kType>
void load_cell(const std::byte* cell, int64_t lanes, int8_t codes[kQuantBlock][kLanes]) {
  for (int64_t lane = 0; lane < lanes; ++lane) {
    int8_t lane_codes[kQuantBlock];
    load_cell_codes(kType, cell, lane, 4 * lanes, lane_codes);
    for (int64_t i = 0; i < kQuantBlock; ++i) codes[i][lane] = lane_codes[i];
  }
}

float half(const std::byte* bytes, int64_t index) {
  uint16_t bits;
  std::memcpy(&bits, bytes + 2 * index, 2);
  return f16_to_f32(bits);
}

int8_t code_of(const int32_t* words, int64_t word, int64_t byte) {
  return reinterpret_cast<const int8_t*>(words + word)[byte];
}

template <WeightType kType>
void il16_quantized(const Il16Args& a) {
  for (int s = 0; s < a.streams; ++s)
    for (int64_t block = 0; block < a.cols / kQuantBlock; ++block) {
      const std::byte* superblock = a.w + s * a.w_stream + block / 2 * il16_superblock_bytes(kType);
      const std::byte* scales = superblock + 32 * (block % 2);
      int8_t codes[kQuantBlock][kLanes];
      load_cell<kType>(superblock + kLineBytes + block % 2 * cell_bytes(kType), kLanes, codes);
      for (int m = 0; m < a.tokens; ++m) {
        int32_t dot[kLanes] = {};
        for (int64_t i = 0; i < kQuantBlock; ++i) {
          const int32_t x = code_of(a.tile.codes, (block * 8 + i / 4) * a.tokens + m, i % 4);
          for (int64_t lane = 0; lane < kLanes; ++lane) dot[lane] += codes[i][lane] * x;
        }
        const float x_scale = a.tile.scales[block * a.tokens + m];
        float* y = a.y + m * a.y_stride + s * a.y_stream;
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          const float acc = block == 0 && !a.accumulate ? 0.0f : y[lane];
          y[lane] = std::fma(static_cast<float>(dot[lane]), half(scales, lane) * x_scale, acc);
        }
      }
    }
}

// The one order in which the 16 lane sums of a row of kLaneRows are added.
float sum_lanes(const float* acc) {
  float sums[kLanes];
  std::copy_n(acc, kLanes, sums);
  for (int64_t width = kLanes / 2; width > 0; width /= 2)
    for (int64_t lane = 0; lane < width; ++lane) sums[lane] += sums[lane + width];
  return sums[0];
}

template <WeightType kType>
void lane_dot_float(const LaneDotArgs& a) {
  for (int r = 0; r < a.count; ++r) {
    float acc[kLanes] = {};
    for (int64_t k = 0; k < round_up(a.cols, kLanes); ++k) {
      const bool inside = k < a.cols;
      acc[k % kLanes] = std::fma(inside ? load<kType>(a.rows[r], k) : 0.0f, inside ? a.x.x[k] : 0.0f, acc[k % kLanes]);
    }
    a.out[r] = sum_lanes(acc);
  }
}

template <WeightType kType>
void lane_dot_quantized(const LaneDotArgs& a) {
  for (int r = 0; r < a.count; ++r) {
    const std::byte* cell_codes = a.rows[r] + lane_scale_bytes(a.cols);
    float acc[kLanes] = {};
    for (int64_t cell = 0; cell < lane_cells(a.cols); ++cell, cell_codes += cell_bytes(kType)) {
      int8_t codes[kQuantBlock][kLanes] = {};
      load_cell<kType>(cell_codes, lane_cell_lanes(a.cols, cell), codes);
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        int32_t dot = 0;
        for (int64_t i = 0; i < kQuantBlock; ++i)
          dot += codes[i][lane] * code_of(a.x.codes, (cell * 8 + i / 4) * kLanes + lane, i % 4);
        const float scale = half(a.rows[r], cell * kLanes + lane) * a.x.scales[cell * kLanes + lane];
        acc[lane] = std::fma(static_cast<float>(dot), scale, acc[lane]);
      }
    }
    a.out[r] = sum_lanes(acc);
  }
}

template <WeightType kType>
void sparse_down_float(const SparseDownArgs& a) {
  const uint64_t row_bytes = input_major_row_bytes(kType, a.rows);
  for (int32_t i = a.x.starts[a.first_block]; i < a.x.starts[a.end_block]; ++i) {
    const std::byte* w = a.w + a.x.neurons[i] * row_bytes;
    for (int64_t o = a.begin; o < a.end; ++o) a.y[o] = std::fma(load<kType>(w, o), a.x.values[i], a.y[o]);
  }
}

template <WeightType kType>
void sparse_down_quantized(const SparseDownArgs& a) {
  const uint64_t row_bytes = input_major_row_bytes(kType, a.rows);
  for (int64_t block = a.first_block; block < a.end_block; ++block) {
    const int32_t first = a.x.starts[block], last = a.x.starts[block + 1];
    if (first == last) continue;
    const std::byte* scales = a.w + block * input_major_block_bytes(kType, a.rows);
    const std::byte* codes = scales + 2 * input_major_width(a.rows);
    for (int64_t begin = a.begin; begin < a.end; begin += kInputMajorWidth) {
      int32_t dot[kInputMajorWidth] = {};
      for (int32_t i = first; i < last; ++i) {
        int8_t w[kInputMajorWidth];
        load_input_major_codes(kType, codes + a.x.neurons[i] % kQuantBlock * row_bytes, begin, w);
        for (int64_t o = 0; o < kInputMajorWidth; ++o) dot[o] += w[o] * a.x.codes[i];
      }
      for (int64_t o = begin; o < std::min(begin + kInputMajorWidth, a.end); ++o)
        a.y[o] = std::fma(static_cast<float>(dot[o - begin]), half(scales, o) * a.x.scales[block], a.y[o]);
    }
  }
}

int64_t int8_products(int64_t rounds) {
  constexpr int kChains = 64;
  int32_t acc[kChains] = {};
  int8_t w[kChains], x[kChains];
  std::fill_n(w, kChains, int8_t{3});
  std::fill_n(x, kChains, int8_t{-5});
  for (int64_t i = 0; i < rounds; ++i) {
    asm volatile("" : "+m"(w), "+m"(x));
    for (int c = 0; c < kChains; ++c) acc[c] += w[c] * x[c];
  }
  asm volatile("" : : "m"(acc));
  return rounds * kChains;
}

int64_t float_products(int64_t rounds) {
  constexpr int kChains = 64;
  float acc[kChains] = {}, w[kChains], x[kChains];
  std::fill_n(w, kChains, 3.0f);
  std::fill_n(x, kChains, 0.5f);
  for (int64_t i = 0; i < rounds; ++i) {
    asm volatile("" : "+m"(w), "+m"(x));
    for (int c = 0; c < kChains; ++c) acc[c] += w[c] * x[c];
  }
  asm volatile("" : : "m"(acc));
  return rounds * kChains;
}

template <WeightType kType>
constexpr Il16Kernel il16() {
  Il16Kernel kernel;
  if constexpr (is_quantized(kType))
    kernel.run = il16_quantized<kType>;
  else
    kernel.run = il16_float<kType>;
  return kernel;
}

}  // namespace

constinit const KernelTable kScalarKernels = {
    .name = "scalar",
    .supported = supported,
    .tile_rows = 4,
    .corrections = Corrections::kSums,
    .quantize = quantize,
    .il16 = {il16<WeightType::kF32>(), il16<WeightType::kBF16>(), il16<WeightType::kQ8>(), il16<WeightType::kQ6>(),
             il16<WeightType::kQ4>()},
    .lane_dot = {lane_dot_float<WeightType::kF32>, lane_dot_float<WeightType::kBF16>,
                 lane_dot_quantized<WeightType::kQ8>, lane_dot_quantized<WeightType::kQ6>,
                 lane_dot_quantized<WeightType::kQ4>},
    .sparse_down = {sparse_down_float<WeightType::kF32>, sparse_down_float<WeightType::kBF16>,
                    sparse_down_quantized<WeightType::kQ8>, sparse_down_quantized<WeightType::kQ6>,
                    sparse_down_quantized<WeightType::kQ4>},
    .dense = {.run = scalar_dense, .rows = 4, .groups = 2, .code = scalar_dense_code},
    .dense16 = {.run = scalar_dense16, .rows = 4, .groups = 2},
    .attention = &kPortableAttention,
    .int8_products = int8_products,
    .float_products = float_products,
};

}  // namespace nestling
