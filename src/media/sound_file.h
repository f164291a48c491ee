// The adapter to libsndfile: an encoded sound in memory, read in blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace nestling {

class SoundFile {
 public:
  // `encoded` must outlive the object. `name` stands for the sound in errors.
  static Result<SoundFile> open(std::string_view name, std::span<const std::byte> encoded);
  SoundFile(SoundFile&& other) noexcept;
  SoundFile& operator=(SoundFile&& other) noexcept;
  ~SoundFile();

  int64_t rate() const;      // Hz, as the file says
  int64_t channels() const;  // as the file says
  // Frames the file says it holds: only FLAC records that, libsndfile estimates it for the others.
  std::optional<int64_t> recorded_frames() const;

  // Fills at most interleaved.size() / channels() frames; integer formats give [-1, 1). Returns the frames read, 0 at
  // the end.
  Result<int64_t> read(std::span<float> interleaved);

 private:
  struct State;
  explicit SoundFile(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace nestling
