#include "trace_inputs.h"

#include <algorithm>

#include "media/audio.h"
#include "media/image.h"
#include "media/resize.h"
#include "storage/safetensors.h"

namespace nestling {
namespace {

Result<std::vector<float>> read_floats(const SafetensorsFile& file, const SafetensorsEntry& entry) {
  std::vector<float> values(static_cast<size_t>(entry.elements()));
  NESTLING_TRY_VOID(file.read_floats(entry, 0, values));
  return values;
}

// The first of the names that is there; null for none.
const SafetensorsEntry* find_any(const SafetensorsFile& file, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (const SafetensorsEntry* entry = file.find(name)) return entry;
  return nullptr;
}

// Shape without leading dimensions of 1: batches of one.
std::vector<int64_t> shape_of(const SafetensorsEntry& entry, size_t dimensions) {
  std::vector<int64_t> shape = entry.shape;
  while (shape.size() > dimensions && shape.front() == 1) shape.erase(shape.begin());
  return shape;
}

Status take_pixels(const std::string& path, const SafetensorsFile& file, const SafetensorsEntry& entry,
                   TraceInputs& inputs) {
  const std::vector<int64_t> shape = shape_of(entry, 3);
  const bool channels_first = shape.size() == 3 && shape[0] == 3, channels_last = shape.size() == 3 && shape[2] == 3;
  const int64_t size = shape.size() == 3 ? shape[1] : 0;
  if (!(channels_first && shape[2] == size) && !(channels_last && shape[0] == size))
    return fail(ErrorCode::kUsage, "{}: {} has shape [{}]; [3, S, S] or [S, S, 3] is allowed", path, entry.name,
                fmt::join(entry.shape, ", "));
  if (!is_image_size(size))
    return fail(ErrorCode::kUsage, "{}: {} has {} pixels a side; 256, 512 and 768 are allowed", path, entry.name, size);
  NESTLING_TRY(std::vector<float> values, read_floats(file, entry));
  if (channels_first) {
    const std::vector<float> planes = std::move(values);
    const auto pixels = static_cast<size_t>(size * size);
    values.resize(pixels * 3);
    for (size_t i = 0; i < pixels; ++i)
      for (size_t c = 0; c < 3; ++c) values[i * 3 + c] = planes[c * pixels + i];
  }
  inputs.media.pictures.push_back({size, std::move(values)});
  return {};
}

Status take_mel(const std::string& path, const SafetensorsFile& file, const SafetensorsEntry& entry,
                const SafetensorsEntry* mask, TraceInputs& inputs) {
  const std::vector<int64_t> shape = shape_of(entry, 2);
  if (shape.size() != 2 || shape[0] < 1)
    return fail(ErrorCode::kUsage, "{}: {} has shape [{}]; [frames, bins] is allowed", path, entry.name,
                fmt::join(entry.shape, ", "));
  LogMel mel{.frames = shape[0], .values = {}, .mask = std::vector<uint8_t>(static_cast<size_t>(shape[0]), 1)};
  NESTLING_TRY(mel.values, read_floats(file, entry));
  if (mask != nullptr) {
    NESTLING_TRY(const std::vector<int64_t> flags, file.read_integers(*mask));
    if (flags.size() != mel.mask.size())
      return fail(ErrorCode::kUsage, "{}: {} has {} elements; one for each of {} frames is needed", path, mask->name,
                  flags.size(), mel.frames);
    std::ranges::transform(flags, mel.mask.begin(), [](int64_t flag) { return flag != 0; });
  }
  inputs.media.mels.push_back(std::move(mel));
  return {};
}

Status take_ids(const std::string& path, const SafetensorsFile& file, const SafetensorsEntry& entry,
                TraceInputs& inputs) {
  NESTLING_TRY(const std::vector<int64_t> values, file.read_integers(entry));
  for (const int64_t id : values) {
    if (id < 0 || id > INT32_MAX) return fail(ErrorCode::kUsage, "{}: input.ids holds {}; ids are 0 or more", path, id);
    inputs.ids.push_back(static_cast<int32_t>(id));
  }
  return {};
}

Status take_encoder_outputs(const SafetensorsFile& file, TraceInputs& inputs) {
  if (const SafetensorsEntry* rows = file.find("input.image_encoder_out")) {
    inputs.features.images.emplace_back();
    NESTLING_TRY(inputs.features.images.back().rows, read_floats(file, *rows));
  }
  if (const SafetensorsEntry* rows = file.find("input.audio_encoder_out")) {
    inputs.features.sounds.emplace_back();
    NESTLING_TRY(inputs.features.sounds.back().rows, read_floats(file, *rows));
    if (const SafetensorsEntry* valid = file.find("input.audio_valid")) {
      NESTLING_TRY(const std::vector<int64_t> flags, file.read_integers(*valid));
      for (const int64_t flag : flags) inputs.features.sounds.back().valid.push_back(flag != 0);
    }
  }
  return {};
}

}  // namespace

Status read_inputs(const std::string& path, TraceInputs& inputs) {
  NESTLING_TRY(const SafetensorsFile file, SafetensorsFile::open(path));
  if (const SafetensorsEntry* ids = file.find("input.ids")) NESTLING_TRY_VOID(take_ids(path, file, *ids, inputs));
  if (const SafetensorsEntry* pixels = file.find("input.pixel_values"))
    NESTLING_TRY_VOID(take_pixels(path, file, *pixels, inputs));
  if (const SafetensorsEntry* samples = file.find("input.waveform")) {
    NESTLING_TRY(std::vector<float> waveform, read_floats(file, *samples));
    if (waveform.empty()) return fail(ErrorCode::kUsage, "{}: input.waveform holds no samples", path);
    inputs.media.waveforms.push_back(std::move(waveform));
  }
  if (const SafetensorsEntry* mel = file.find("input.mel"))
    NESTLING_TRY_VOID(take_mel(path, file, *mel, file.find("input.mel_mask"), inputs));
  return take_encoder_outputs(file, inputs);
}

Status read_pixels(const std::string& path, TraceInputs& inputs) {
  NESTLING_TRY(const SafetensorsFile file, SafetensorsFile::open(path));
  const SafetensorsEntry* pixels = find_any(file, {"pixel_values", "input.pixel_values", "pixels"});
  if (pixels == nullptr) return fail(ErrorCode::kUsage, "{}: holds no tensor pixel_values", path);
  return take_pixels(path, file, *pixels, inputs);
}

Status read_mel(const std::string& path, TraceInputs& inputs) {
  NESTLING_TRY(const SafetensorsFile file, SafetensorsFile::open(path));
  const SafetensorsEntry* mel = find_any(file, {"mel", "input.mel", "mel.log_mel", "input_features"});
  if (mel == nullptr) return fail(ErrorCode::kUsage, "{}: holds no tensor mel", path);
  return take_mel(path, file, *mel, find_any(file, {"mel_mask", "input.mel_mask", "mel.mask", "input_features_mask"}),
                  inputs);
}

Status read_image(const std::string& path, int64_t size, int64_t default_size, TraceInputs& inputs) {
  NESTLING_TRY(Image picture, load_image(path));
  const bool fits = picture.width == picture.height && is_image_size(picture.width);
  if (size == 0) size = fits ? picture.width : default_size;
  if (picture.width != size || picture.height != size) picture = resize_bilinear(picture, size, size);
  inputs.media.pictures.push_back({size, pixel_values(picture)});
  return {};
}

Status read_audio(const std::string& path, TraceInputs& inputs) {
  NESTLING_TRY(AudioClip clip, load_audio(path));
  inputs.media.waveforms.push_back(std::move(clip.samples));
  return {};
}

}  // namespace nestling
