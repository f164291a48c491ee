// The audio tower of Gemma 3n, a causal USM conformer (transformers: Gemma3nAudioEncoder): log-mel frames in, one row for
// every 16 of them out. Streaming is the only form: a whole clip is one push.
#pragma once

#include <memory>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "model/config.h"
#include "model/taps.h"
#include "storage/package.h"

namespace nestling {

// Rows that `mel_frames` frames give: ceil(T / 16) with the published reduction of 4.
int64_t audio_rows(int64_t mel_frames, int64_t reduction_factor);

// Where the weights are while a clip is encoded.
enum class AudioWeights {
  kResident,  // the audio region is loaded and stays so
  kStreamed,  // one layer at a time is read from storage into two buffers, used for all frames given, and dropped
};

class AudioEncoder {
 public:
  // The tensors "a.*" of a package; kResident: its audio region is loaded and stays so. kModel: a tensor is missing or has
  // a shape that does not fit the configuration.
  static Result<AudioEncoder> bind(const Package& package, const AudioConfig& config, AudioWeights weights);
  AudioEncoder(AudioEncoder&&) noexcept;
  AudioEncoder& operator=(AudioEncoder&&) noexcept;
  ~AudioEncoder();

  int64_t width() const;
  int64_t mel_bins() const;
  int64_t multiply_adds(int64_t mel_frames) const;
  // Beyond the weights; kStreamed: with two layers of them.
  uint64_t workspace_bytes(int64_t mel_frames, int threads) const;
  uint64_t bytes_streamed() const;  // read from storage so far (kStreamed)

  // One clip, in pieces of any length; the rows do not depend on how it was cut. Keeps a reference to the encoder.
  class Stream {
   public:
    explicit Stream(AudioEncoder& encoder);
    Stream(Stream&&) noexcept;
    ~Stream();
    // mel [frames][bins]; appends the finished rows to `rows` [n][width]. `mask`: null, or 1 per valid frame: rows of
    // invalid frames come out zero, with `valid` false (only transformers' batches and left padding have such frames).
    Status push(const Kernels& kernels, ThreadPool& pool, const float* mel, int64_t frames, std::vector<float>& rows,
                const uint8_t* mask = nullptr, std::vector<bool>* valid = nullptr, Taps* taps = nullptr);
    // The end of the clip with its last frames, which may be none: with them the weights are read once less than with a
    // push() before.
    Status finish(const Kernels& kernels, ThreadPool& pool, const float* mel, int64_t frames, std::vector<float>& rows,
                  const uint8_t* mask = nullptr, std::vector<bool>* valid = nullptr, Taps* taps = nullptr);
    uint64_t state_bytes() const;

   private:
    friend class AudioEncoder;
    struct State;
    std::unique_ptr<State> state_;
  };

  // A whole clip: mel [frames][bins] -> [audio_rows(frames)][width]. Taps: audio.sscp.conv_0, audio.sscp.conv_1,
  // audio.sscp, audio.conformer.N.{ffw_layer_start, attention, lconv1d, ffw_layer_end}, audio.conformer.N, audio.reduced.
  Result<std::vector<float>> encode(const Kernels& kernels, ThreadPool& pool, const float* mel, int64_t frames,
                                    const uint8_t* mask = nullptr, std::vector<bool>* valid = nullptr,
                                    Taps* taps = nullptr);

 private:
  struct Network;
  explicit AudioEncoder(std::unique_ptr<Network> network);
  std::unique_ptr<Network> network_;
};

}  // namespace nestling
