// Sounds to rows of soft tokens: the mel front end and the audio tower, loaded when the first sound comes.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "media/mel.h"
#include "model/audio/audio_encoder.h"
#include "runtime/modality.h"

namespace nestling {

class Sound {
 public:
  explicit Sound(const TowerContext& context);

  Modality& modality() { return modality_; }
  const Modality& modality() const { return modality_; }
  const MelFrontEnd& front_end() const { return front_end_; }

  // Binds the encoder: kResident maps the region; kStreamed reads the layers from storage clip by clip, so that two of
  // them are in memory at a time. kModel: the model has no (or only part of an) audio tower. Keeps what is loaded already.
  Status load(AudioWeights weights);
  void release();
  bool is_loaded() const { return encoder_.has_value(); }
  AudioWeights weights() const { return weights_; }

  // Mel frames that are encoded at a time: enough that reading the weights costs little beside the products.
  int64_t frames_per_pass() const { return weights_ == AudioWeights::kStreamed ? kStreamedFrames : kResidentFrames; }
  static constexpr int64_t kResidentFrames = 1024, kStreamedFrames = 3072;  // 10 s, 30 s
  // Of a pass, beyond the weights (kStreamed: with its two layers). Loaded.
  uint64_t workspace_bytes() const;
  int64_t multiply_adds(int64_t mel_frames) const { return encoder_->multiply_adds(mel_frames); }
  uint64_t bytes_streamed() const { return bytes_streamed_ + (encoder_ ? encoder_->bytes_streamed() : 0); }
  // Soft tokens of a clip.
  int64_t rows_of(int64_t samples) const;

  // One clip, heard in pieces as they come. The sound must be loaded and stay so.
  class Listener {
   public:
    explicit Listener(Sound& sound);
    // Mono samples, 16 kHz. They are encoded when a pass is full, or at once with `eager`, for a source that takes its
    // time (a microphone).
    Status push(std::span<const float> samples, bool eager = false);
    // Rows [n, encoder width] of the whole clip.
    Result<std::vector<float>> finish();
    int64_t samples() const { return samples_; }

   private:
    Status encode(int64_t least_frames);
    Sound& sound_;
    MelStream mel_stream_;
    AudioEncoder::Stream stream_;
    LogMel mel_;  // frames that wait
    std::vector<float> rows_;
    int64_t samples_ = 0;
  };

  // A whole clip from its mel frames [frames][bins], with taps: rows [n, encoder width]; `mask` and `valid` as in
  // AudioEncoder.
  Result<std::vector<float>> encode(const LogMel& mel, std::vector<bool>& valid, Taps* taps = nullptr);

 private:
  TowerContext context_;
  Modality modality_;
  MelFrontEnd front_end_;
  AudioWeights weights_ = AudioWeights::kResident;
  std::optional<AudioEncoder> encoder_;
  uint64_t bytes_streamed_ = 0;  // by encoders that were released
};

}  // namespace nestling
