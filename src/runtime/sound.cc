#include "runtime/sound.h"

#include <algorithm>

#include "base/check.h"

namespace nestling {
namespace {

// Encoder frames are made of four mel frames, and a pass reads every weight: a microphone is heard half a second at a
// time.
constexpr int64_t kEagerFrames = 48;

int64_t mel_bins(const TowerContext& context) {
  return context.config->audio ? context.config->audio->input_feat_size : kMelBins;
}

}  // namespace

Sound::Sound(const TowerContext& context)
    : context_(context), modality_(Modality::audio(context)), front_end_(mel_bins(context)) {}

Status Sound::load(AudioWeights weights) {
  if (encoder_) return {};
  if (!modality_.exists()) return modality_.require("sound");
  if (weights == AudioWeights::kResident) NESTLING_TRY_VOID(modality_.load());
  NESTLING_TRY(encoder_, AudioEncoder::bind(*context_.package, *context_.config->audio, weights));
  weights_ = weights;
  return {};
}

void Sound::release() {
  bytes_streamed_ = bytes_streamed();
  encoder_.reset();
  modality_.release();
}

uint64_t Sound::workspace_bytes() const {
  NESTLING_CHECK(encoder_.has_value());
  return encoder_->workspace_bytes(frames_per_pass(), context_.pool->size());
}

int64_t Sound::rows_of(int64_t samples) const {
  return audio_rows(mel_frame_count(samples), context_.config->audio->reduction_factor);
}

Sound::Listener::Listener(Sound& sound) : sound_(sound), mel_stream_(sound.front_end_), stream_(*sound.encoder_) {}

Status Sound::Listener::push(std::span<const float> samples, bool eager) {
  // Piece by piece, so that a long clip never has all of its mel frames in memory.
  const auto piece = static_cast<size_t>(sound_.frames_per_pass() * kMelHopLength);
  while (!samples.empty()) {
    const auto part = samples.first(std::min(piece, samples.size()));
    mel_stream_.push(part, mel_);
    samples_ += static_cast<int64_t>(part.size());
    samples = samples.subspan(part.size());
    NESTLING_TRY_VOID(encode(eager ? kEagerFrames : sound_.frames_per_pass()));
  }
  return {};
}

Status Sound::Listener::encode(int64_t least_frames) {
  const int64_t most = sound_.frames_per_pass(), bins = sound_.front_end_.bins();
  int64_t done = 0;
  while (mel_.frames - done >= least_frames) {
    const int64_t frames = std::min(most, mel_.frames - done);
    NESTLING_TRY_VOID(stream_.push(*sound_.context_.kernels, *sound_.context_.pool, mel_.values.data() + done * bins,
                                   frames, rows_));
    done += frames;
  }
  mel_.values.erase(mel_.values.begin(), mel_.values.begin() + done * bins);
  mel_.mask.erase(mel_.mask.begin(), mel_.mask.begin() + done);
  mel_.frames -= done;
  return {};
}

Result<std::vector<float>> Sound::Listener::finish() {
  mel_stream_.finish(mel_);
  NESTLING_TRY_VOID(encode(sound_.frames_per_pass()));
  NESTLING_TRY_VOID(stream_.finish(*sound_.context_.kernels, *sound_.context_.pool, mel_.values.data(), mel_.frames,
                                   rows_));
  sound_.context_.pool->park();
  ++sound_.modality_.counters.encoded;
  return std::move(rows_);
}

Result<std::vector<float>> Sound::encode(const LogMel& mel, std::vector<bool>& valid, Taps* taps) {
  NESTLING_CHECK(encoder_.has_value());
  NESTLING_TRY(std::vector<float> rows, encoder_->encode(*context_.kernels, *context_.pool, mel.values.data(),
                                                         mel.frames, mel.mask.data(), &valid, taps));
  context_.pool->park();
  ++modality_.counters.encoded;
  return rows;
}

}  // namespace nestling
