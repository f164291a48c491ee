#include "model/audio/subsample.h"

#include <algorithm>
#include <cstring>

#include "kernels/matmul.h"

namespace nestling {
namespace {

// Mel frames that pass both stages together: what lies between the stages stays in the caches.
constexpr int64_t kBlockFrames = 32;

}  // namespace

SubsampleStage::SubsampleStage(const SubsampleStageWeights& weights, int64_t bins, float eps)
    : weights_(weights), bins_(bins), channels_in_(weights.kernel.cols / 9), bins_out_((bins + 1) / 2),
      channels_out_(weights.kernel.rows), eps_(eps) {}

void SubsampleStage::append_padded(const float* rows, int64_t count) {
  const int64_t width = input_size();
  for (int64_t t = 0; t < count; ++t) {
    pending_.resize(pending_.size() + static_cast<size_t>(channels_in_));
    pending_.insert(pending_.end(), rows + t * width, rows + (t + 1) * width);
    pending_.resize(pending_.size() + static_cast<size_t>(channels_in_));
  }
}

// One row of outputs from three padded rows of inputs: for every bin its window [3][3][channels in] as one row of a
// product. `patches`: [bins out][9 * channels in].
void SubsampleStage::convolve(const Kernels& kernels, const float* window, float* patches, float* out) const {
  const int64_t span = 3 * channels_in_, stride = (bins_ + 2) * channels_in_;
  for (int64_t f = 0; f < bins_out_; ++f) {
    const float* corner = window + 2 * f * channels_in_;
    for (int64_t k = 0; k < 3; ++k)
      std::memcpy(patches + f * 3 * span + k * span, corner + k * stride, static_cast<size_t>(span) * sizeof(float));
  }
  ThreadPool alone(1);
  const Activations input = Activations::of_floats(patches, bins_out_, 3 * span, 3 * span);
  matmul(kernels, alone, input, weights_.kernel, out, channels_out_);
}

void SubsampleStage::push(const Kernels& kernels, ThreadPool& pool, const float* rows, int64_t count, bool last,
                          std::vector<float>& out) {
  append_padded(rows, count);
  const int64_t row = (bins_ + 2) * channels_in_;
  const int64_t held = static_cast<int64_t>(pending_.size()) / row;
  const int64_t n = last ? (held + 1) / 2 : std::max<int64_t>((held - 1) / 2, 0);
  if (last) pending_.resize(static_cast<size_t>((2 * n + 1) * row));  // zeros behind the clip
  if (n == 0) return;
  const size_t first = out.size();
  out.resize(first + static_cast<size_t>(n * output_size()));
  float* values = out.data() + first;
  std::vector<FrameSums> sums(static_cast<size_t>(n));
  pool.for_ranges(n, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> patches(static_cast<size_t>(bins_out_ * 9 * channels_in_));
    for (int64_t t = begin; t < end; ++t) {
      convolve(kernels, pending_.data() + 2 * t * row, patches.data(), values + t * output_size());
      sums[static_cast<size_t>(t)] = frame_sums(values + t * output_size(), output_size());
    }
  });
  std::vector<FrameNorm> norms;
  for (const FrameSums& s : sums) norms.push_back(statistics_.advance(s, output_size(), eps_));
  pool.for_ranges(n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      float* y = values + t * output_size();
      normalize_and_rectify(y, norms[static_cast<size_t>(t)], weights_.norm.data(), bins_out_, channels_out_, y);
    }
  });
  pending_.erase(pending_.begin(), pending_.begin() + 2 * n * row);
}

uint64_t SubsampleStage::workspace_bytes(int64_t count, int threads) const {
  const int64_t padded = (count + 3) * (bins_ + 2) * channels_in_, patches = threads * bins_out_ * 9 * channels_in_;
  return static_cast<uint64_t>(2 * padded + patches + (count / 2 + 1) * output_size()) * sizeof(float);
}

// At most two rows wait for a third.
uint64_t SubsampleStage::state_bytes() const {
  return static_cast<uint64_t>(2 * (bins_ + 2) * channels_in_) * sizeof(float) + sizeof(statistics_);
}

Subsample::Subsample(const AudioNetwork& network)
    : first_(network.stages[0], network.config.input_feat_size, network.config.sscp_group_norm_eps),
      second_(network.stages[1], (network.config.input_feat_size + 1) / 2, network.config.sscp_group_norm_eps) {}

void Subsample::push(const Kernels& kernels, ThreadPool& pool, const float* mel, int64_t frames, bool last,
                     std::vector<float>& out, Stages* stages) {
  std::vector<float> between;
  int64_t done = 0;
  do {
    const int64_t count = std::min(frames - done, kBlockFrames);
    const bool end = last && done + count == frames;
    between.clear();
    first_.push(kernels, pool, mel + done * first_.input_size(), count, end, between);
    const size_t before = out.size();
    second_.push(kernels, pool, between.data(), static_cast<int64_t>(between.size()) / second_.input_size(), end, out);
    if (stages != nullptr) {
      stages->conv_0.insert(stages->conv_0.end(), between.begin(), between.end());
      stages->conv_1.insert(stages->conv_1.end(), out.begin() + static_cast<int64_t>(before), out.end());
    }
    done += count;
  } while (done < frames);
}

uint64_t Subsample::workspace_bytes(int threads) const {
  return first_.workspace_bytes(kBlockFrames, threads) + second_.workspace_bytes(kBlockFrames / 2, threads);
}

}  // namespace nestling
