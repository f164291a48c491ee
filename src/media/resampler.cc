// The adapter to soxr.
#include "media/resampler.h"

#include <soxr.h>

#include <algorithm>

namespace nestling {

struct Resampler::State {
  soxr_t soxr = nullptr;
  State() = default;
  State(const State&) = delete;
  ~State() { soxr_delete(soxr); }
};

Resampler::Resampler(std::unique_ptr<State> state) : state_(std::move(state)) {}
Resampler::Resampler(Resampler&& other) noexcept = default;
Resampler& Resampler::operator=(Resampler&& other) noexcept = default;
Resampler::~Resampler() = default;

Result<Resampler> Resampler::create(int64_t from_rate, int64_t to_rate) {
  if (from_rate == to_rate) return Resampler(nullptr);
  soxr_error_t error = nullptr;
  const soxr_io_spec_t samples = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
  // The recipe of librosa's default, through which most users of the reference implementation come.
  const soxr_quality_spec_t quality = soxr_quality_spec(SOXR_HQ, 0);
  auto state = std::make_unique<State>();
  state->soxr = soxr_create(static_cast<double>(from_rate), static_cast<double>(to_rate), 1, &error, &samples, &quality,
                            nullptr);
  if (!state->soxr || error)
    return fail(ErrorCode::kFailed, "resampling from {} Hz to {} Hz: {}", from_rate, to_rate, error ? error : "failed");
  return Resampler(std::move(state));
}

Status Resampler::process(const float* samples, size_t count, std::vector<float>& out) {
  constexpr size_t kBlock = 4096;
  while (true) {
    const size_t before = out.size();
    size_t taken = 0, given = 0;
    out.resize(before + kBlock);
    const soxr_error_t error =
        soxr_process(state_->soxr, samples, count, &taken, out.data() + before, kBlock, &given);
    out.resize(before + given);
    if (error) return fail(ErrorCode::kFailed, "resampling: {}", error);
    if (samples) samples += taken;
    count -= std::min(taken, count);
    if (count == 0 && given < kBlock) return {};
  }
}

Status Resampler::push(std::span<const float> samples, std::vector<float>& out) {
  if (samples.empty()) return {};  // to soxr a null pointer means the end
  if (state_) return process(samples.data(), samples.size(), out);
  out.insert(out.end(), samples.begin(), samples.end());
  return {};
}

Status Resampler::finish(std::vector<float>& out) { return state_ ? process(nullptr, 0, out) : Status{}; }

}  // namespace nestling
