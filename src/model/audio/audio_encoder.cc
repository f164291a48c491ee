#include "model/audio/audio_encoder.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <tuple>
#include <utility>

#include "base/checked.h"
#include "model/audio/conformer.h"
#include "model/audio/layer_loader.h"
#include "model/audio/stream_state.h"
#include "model/audio_tensors.h"

namespace nestling {
namespace {

// Encoder frames that go through the layers together (30 s): memory does not grow with the clip.
constexpr int64_t kPieceFrames = 750;
constexpr int64_t kMelPerFrame = 4;  // mel frames per encoder frame: two strides of 2

int64_t encoder_frames(int64_t mel_frames) { return ceil_div(mel_frames, kMelPerFrame); }

// One push: a part of a clip, or its end.
struct Pass {
  const AudioNetwork& network;
  AudioStreamState& state;
  LayerLoader& loader;
  const Kernels& kernels;
  ThreadPool& pool;
  Taps* taps = nullptr;
  std::vector<float>& rows;  // where finished rows go
  std::vector<bool>* valid = nullptr;
};

// A part of a clip, at most as much as runs through the layers together.
struct Piece {
  const float* mel = nullptr;
  int64_t frames = 0;
  const uint8_t* mask = nullptr;  // null: all valid
  bool last = false;              // the clip ends with it
  bool more = false;              // another piece follows at once
};

// Both convolutions: the rows [n][bins * channels] that the piece completes.
std::vector<float> subsample(Pass& pass, const Piece& piece) {
  for (int64_t i = 0; i < piece.frames; ++i)
    if (pass.state.mel_frames++ % kMelPerFrame == 0)
      pass.state.next_valid.push_back(piece.mask == nullptr ? 1 : piece.mask[i]);
  Subsample::Stages stages;
  const bool tapped = pass.taps != nullptr;
  std::vector<float> windows;
  windows.reserve(static_cast<size_t>((encoder_frames(piece.frames) + 1) * pass.network.projection.cols));
  pass.state.subsample.push(pass.kernels, pass.pool, piece.mel, piece.frames, piece.last, windows,
                            tapped ? &stages : nullptr);
  if (!tapped) return windows;
  const AudioConfig& c = pass.network.config;
  for (const auto& [name, values, stage] : {std::tuple{"audio.sscp.conv_0", &stages.conv_0, 0},
                                            std::tuple{"audio.sscp.conv_1", &stages.conv_1, 1}}) {
    const int64_t bins = audio_bins_after(c.input_feat_size, stage + 1);
    const int64_t channels = c.sscp_channels[static_cast<size_t>(stage)];
    pass.taps->record(name, {static_cast<int64_t>(values->size()) / (bins * channels), bins, channels},
                      values->data());
  }
  return windows;
}

// The validity of the next n frames, behind that of the past ones they can see.
std::vector<uint8_t> take_valid(AudioStreamState& state, int64_t n) {
  std::vector<uint8_t> valid = state.past_valid;
  valid.insert(valid.end(), state.next_valid.begin(), state.next_valid.begin() + n);
  state.next_valid.erase(state.next_valid.begin(), state.next_valid.begin() + n);
  state.past_valid.assign(valid.end() - static_cast<int64_t>(state.past_valid.size()), valid.end());
  return valid;
}

// Appends every reduction_factor-th frame of the clip; zeros where it is not valid. step.workspace.x holds all frames
// of the piece, or already the kept ones alone.
void emit(Pass& pass, const AudioStep& step, int64_t n, int64_t first_kept, const uint8_t* valid) {
  const int64_t D = step.config.hidden_size, factor = step.config.reduction_factor;
  const bool reduced = step.keep_every > 1;
  const size_t begin = pass.rows.size();
  for (int64_t t = first_kept, i = 0; t < n; t += factor, ++i) {
    const float* x = step.workspace.x + (reduced ? i : t) * D;
    if (valid[t] != 0)
      pass.rows.insert(pass.rows.end(), x, x + D);
    else
      pass.rows.resize(pass.rows.size() + static_cast<size_t>(D));
    if (pass.valid != nullptr) pass.valid->push_back(valid[t] != 0);
  }
  if (pass.taps != nullptr)
    pass.taps->record("audio.reduced", {static_cast<int64_t>(pass.rows.size() - begin) / D, D},
                      pass.rows.data() + begin);
}

Status run_piece(Pass& pass, const Piece& piece) {
  const AudioNetwork& net = pass.network;
  const AudioConfig& c = net.config;
  const std::vector<float> windows = subsample(pass, piece);
  const int64_t n = static_cast<int64_t>(windows.size()) / net.projection.cols;
  if (n == 0) return {};
  AudioWorkspace workspace(c, n);
  const std::vector<uint8_t> valid = take_valid(pass.state, n);
  const uint8_t* valid_rows = valid.data() + c.context_left - 1;
  const int64_t first_kept = ceil_div(pass.state.encoder_frames, c.reduction_factor) * c.reduction_factor -
                             pass.state.encoder_frames;
  AudioStep step{.config = c, .kernels = pass.kernels, .pool = pass.pool, .workspace = workspace, .taps = pass.taps,
                 .rows = n, .valid = valid.data()};
  step.all_valid = std::all_of(valid_rows, valid_rows + n, std::identity());
  step.multiply(windows.data(), {{net.projection, workspace.x}});
  if (pass.taps != nullptr) pass.taps->record("audio.sscp", {n, c.hidden_size}, workspace.x);
  for (step.layer = 0; step.layer < c.num_hidden_layers; ++step.layer) {
    const bool last = step.layer + 1 == c.num_hidden_layers;
    NESTLING_TRY(step.weights, pass.loader.take(step.layer, !last ? step.layer + 1 : piece.more ? 0 : -1));
    step.positions = net.positions[static_cast<size_t>(step.layer)].data();
    step.state = pass.state.layer(step.layer);
    if (last && pass.taps == nullptr) {  // nothing reads the frames that the reduction drops
      step.first_kept = first_kept;
      step.keep_every = c.reduction_factor;
    }
    conformer_block(step);
  }
  emit(pass, step, n, first_kept, valid_rows);
  pass.state.encoder_frames += n;
  return {};
}

// A part of a clip of any length. With taps it is one piece, so that each is recorded once.
Status run_pieces(Pass& pass, const float* mel, int64_t frames, const uint8_t* mask, bool last) {
  const int64_t most = pass.taps != nullptr ? std::max<int64_t>(frames, 1) : kPieceFrames * kMelPerFrame;
  int64_t done = 0;
  do {
    const int64_t count = std::min(most, frames - done);
    const bool end = done + count == frames;
    NESTLING_TRY_VOID(run_piece(pass, {.mel = mel + done * pass.network.config.input_feat_size,
                                       .frames = count,
                                       .mask = mask == nullptr ? nullptr : mask + done,
                                       .last = last && end,
                                       .more = !end}));
    done += count;
  } while (done < frames);
  return {};
}

}  // namespace

int64_t audio_rows(int64_t mel_frames, int64_t reduction_factor) {
  return ceil_div(encoder_frames(mel_frames), reduction_factor);
}

struct AudioEncoder::Network {
  AudioNetwork weights;
  std::atomic<uint64_t> bytes_streamed{0};
};

struct AudioEncoder::Stream::State {
  Network& network;
  AudioStreamState stream;

  Status run(const Kernels& kernels, ThreadPool& pool, const float* mel, int64_t frames, const uint8_t* mask, bool last,
             std::vector<float>& rows, std::vector<bool>* valid, Taps* taps) {
    LayerLoader loader(network.weights, network.bytes_streamed);
    Pass pass{network.weights, stream, loader, kernels, pool, taps, rows, valid};
    return run_pieces(pass, mel, frames, mask, last);
  }
};

AudioEncoder::AudioEncoder(std::unique_ptr<Network> network) : network_(std::move(network)) {}
AudioEncoder::AudioEncoder(AudioEncoder&&) noexcept = default;
AudioEncoder& AudioEncoder::operator=(AudioEncoder&&) noexcept = default;
AudioEncoder::~AudioEncoder() = default;

Result<AudioEncoder> AudioEncoder::bind(const Package& package, const AudioConfig& config, AudioWeights weights) {
  auto network = std::make_unique<Network>();
  NESTLING_TRY(network->weights, AudioNetwork::bind(package, config, weights == AudioWeights::kResident));
  return AudioEncoder(std::move(network));
}

int64_t AudioEncoder::width() const { return network_->weights.config.hidden_size; }
int64_t AudioEncoder::mel_bins() const { return network_->weights.config.input_feat_size; }
uint64_t AudioEncoder::bytes_streamed() const { return network_->bytes_streamed; }

int64_t AudioEncoder::multiply_adds(int64_t mel_frames) const {
  const AudioNetwork& net = network_->weights;
  const AudioConfig& c = net.config;
  const int64_t D = c.hidden_size, n = encoder_frames(mel_frames);
  const int64_t dropped = n - audio_rows(mel_frames, c.reduction_factor);
  const auto size = [](const WeightMatrix& w) { return w.rows * w.cols; };
  const int64_t front = ceil_div(mel_frames, 2) * audio_bins_after(c.input_feat_size, 1) * size(net.stages[0].kernel) +
                        n * audio_bins_after(c.input_feat_size, 2) * size(net.stages[1].kernel) +
                        n * size(net.projection);
  const int64_t ffn = 2 * D * audio_ffn_width(c), convolution_end = D * (c.conv_kernel_size + D);
  const int64_t layer = 2 * ffn + 4 * D * D + 3 * D * c.context_left + 2 * D * D + convolution_end;
  return front + n * c.num_hidden_layers * layer - dropped * (convolution_end + ffn);
}

uint64_t AudioEncoder::workspace_bytes(int64_t mel_frames, int threads) const {
  const AudioNetwork& net = network_->weights;
  const int64_t n = std::min(encoder_frames(mel_frames), kPieceFrames + 1);
  const auto floats = static_cast<uint64_t>((n + 1) * (net.projection.cols + net.config.hidden_size));
  const AudioStreamState state(net);
  const uint64_t streamed = net.layers.empty() ? 2 * net.largest_range : 0;
  return AudioWorkspace::bytes_needed(net.config, n) + floats * sizeof(float) + state.bytes() +
         state.subsample.workspace_bytes(threads) + streamed;
}

AudioEncoder::Stream::Stream(AudioEncoder& encoder)
    : state_(new State{*encoder.network_, AudioStreamState(encoder.network_->weights)}) {}
AudioEncoder::Stream::Stream(Stream&&) noexcept = default;
AudioEncoder::Stream::~Stream() = default;

Status AudioEncoder::Stream::push(const Kernels& kernels, ThreadPool& pool, const float* mel, int64_t frames,
                                  std::vector<float>& rows, const uint8_t* mask, std::vector<bool>* valid, Taps* taps) {
  return state_->run(kernels, pool, mel, frames, mask, false, rows, valid, taps);
}

Status AudioEncoder::Stream::finish(const Kernels& kernels, ThreadPool& pool, const float* mel, int64_t frames,
                                    std::vector<float>& rows, const uint8_t* mask, std::vector<bool>* valid,
                                    Taps* taps) {
  return state_->run(kernels, pool, mel, frames, mask, true, rows, valid, taps);
}

uint64_t AudioEncoder::Stream::state_bytes() const { return state_->stream.bytes(); }

Result<std::vector<float>> AudioEncoder::encode(const Kernels& kernels, ThreadPool& pool, const float* mel,
                                                int64_t frames, const uint8_t* mask, std::vector<bool>* valid,
                                                Taps* taps) {
  if (frames < 1) return fail(ErrorCode::kFailed, "a clip of {} mel frames; at least 1 is needed", frames);
  Stream stream(*this);
  std::vector<float> rows;
  NESTLING_TRY_VOID(stream.finish(kernels, pool, mel, frames, rows, mask, valid, taps));
  return rows;
}

}  // namespace nestling
