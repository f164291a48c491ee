#include "media/sound_file.h"

#include <sndfile.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

namespace nestling {

struct SoundFile::State {
  std::string name;
  std::span<const std::byte> bytes;
  sf_count_t position = 0;
  SF_INFO info{};
  SNDFILE* file = nullptr;
  State() = default;
  State(const State&) = delete;
  ~State() {
    if (file) sf_close(file);
  }
  sf_count_t size() const { return static_cast<sf_count_t>(bytes.size()); }
};

namespace {

// libsndfile's view of the bytes in memory; `user` is a SoundFile::State.
template <typename State>
SF_VIRTUAL_IO memory_callbacks() {
  SF_VIRTUAL_IO callbacks{};
  callbacks.get_filelen = [](void* user) { return static_cast<State*>(user)->size(); };
  callbacks.tell = [](void* user) { return static_cast<State*>(user)->position; };
  callbacks.write = [](const void*, sf_count_t, void*) -> sf_count_t { return 0; };
  callbacks.seek = [](sf_count_t offset, int whence, void* user) -> sf_count_t {
    auto& state = *static_cast<State*>(user);
    const sf_count_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? state.position : state.size();
    sf_count_t target = 0;
    if (__builtin_add_overflow(base, offset, &target) || target < 0) return -1;
    return state.position = target;
  };
  callbacks.read = [](void* out, sf_count_t count, void* user) -> sf_count_t {
    auto& state = *static_cast<State*>(user);
    const sf_count_t n = std::clamp<sf_count_t>(state.size() - state.position, 0, std::max<sf_count_t>(count, 0));
    if (n > 0) std::memcpy(out, state.bytes.data() + state.position, static_cast<size_t>(n));
    state.position += n;
    return n;
  };
  return callbacks;
}

// libsndfile ends its sentences with a full stop, ours go on.
std::string error_text(SNDFILE* file) {
  std::string text = sf_strerror(file);
  while (text.ends_with('.') || text.ends_with('\n')) text.pop_back();
  return text;
}

}  // namespace

SoundFile::SoundFile(std::unique_ptr<State> state) : state_(std::move(state)) {}
SoundFile::SoundFile(SoundFile&& other) noexcept = default;
SoundFile& SoundFile::operator=(SoundFile&& other) noexcept = default;
SoundFile::~SoundFile() = default;

Result<SoundFile> SoundFile::open(std::string_view name, std::span<const std::byte> encoded) {
  auto state = std::make_unique<State>();
  state->name = name;
  state->bytes = encoded;
  SF_VIRTUAL_IO callbacks = memory_callbacks<State>();
  state->file = sf_open_virtual(&callbacks, SFM_READ, &state->info, state.get());
  if (!state->file) return fail(ErrorCode::kFailed, "{}: damaged sound: {}", name, error_text(nullptr));
  return SoundFile(std::move(state));
}

int64_t SoundFile::rate() const { return state_->info.samplerate; }
int64_t SoundFile::channels() const { return state_->info.channels; }

std::optional<int64_t> SoundFile::recorded_frames() const {
  const SF_INFO& info = state_->info;
  if ((info.format & SF_FORMAT_TYPEMASK) != SF_FORMAT_FLAC || info.frames == SF_COUNT_MAX) return std::nullopt;
  return info.frames;
}

Result<int64_t> SoundFile::read(std::span<float> interleaved) {
  const auto frames = static_cast<sf_count_t>(interleaved.size()) / state_->info.channels;
  const sf_count_t n = sf_readf_float(state_->file, interleaved.data(), frames);
  if (sf_error(state_->file) != SF_ERR_NO_ERROR)
    return fail(ErrorCode::kFailed, "{}: damaged sound: {}", state_->name, error_text(state_->file));
  return std::clamp<int64_t>(n, 0, frames);
}

}  // namespace nestling
