#include "media/sniff.h"

#include <cstdint>
#include <string>

namespace nestling {
namespace {

using namespace std::string_view_literals;

struct Signature {
  std::string_view start;    // the first bytes
  size_t second_offset;      // 0 = there is no second part
  std::string_view second;   // bytes at second_offset
  SniffedType result;
};

constexpr Signature kSignatures[] = {
    {"\xFF\xD8\xFF"sv, 0, ""sv, {MediaType::kJpeg, "a JPEG image"}},
    {"\x89PNG\r\n\x1A\n"sv, 0, ""sv, {MediaType::kPng, "a PNG image"}},
    {"RIFF"sv, 8, "WEBP"sv, {MediaType::kWebp, "a WebP image"}},
    {"GIF87a"sv, 0, ""sv, {MediaType::kGif, "a GIF image"}},
    {"GIF89a"sv, 0, ""sv, {MediaType::kGif, "a GIF image"}},
    {"RIFF"sv, 8, "WAVE"sv, {MediaType::kWav, "a WAV sound"}},
    {"RIFX"sv, 8, "WAVE"sv, {MediaType::kWav, "a WAV sound"}},
    {"RF64"sv, 8, "WAVE"sv, {MediaType::kWav, "a WAV sound"}},
    {"fLaC"sv, 0, ""sv, {MediaType::kFlac, "a FLAC sound"}},
    {"OggS"sv, 0, ""sv, {MediaType::kOgg, "an Ogg sound"}},
    {"ID3"sv, 0, ""sv, {MediaType::kMp3, "an MP3 sound"}},
    {"FORM"sv, 8, "AIFF"sv, {MediaType::kAiff, "an AIFF sound"}},
    {"FORM"sv, 8, "AIFC"sv, {MediaType::kAiff, "an AIFF sound"}},
    {"\0\0\0"sv, 4, "ftypheic"sv, {MediaType::kOther, "an HEIC image"}},
    {"\0\0\0"sv, 4, "ftypheix"sv, {MediaType::kOther, "an HEIC image"}},
    {"\0\0\0"sv, 4, "ftypmif1"sv, {MediaType::kOther, "an HEIF image"}},
    {"\0\0\0"sv, 4, "ftypavif"sv, {MediaType::kOther, "an AVIF image"}},
    {"\0\0\0"sv, 4, "ftypM4A "sv, {MediaType::kOther, "an M4A (AAC) sound"}},
    {"\0\0\0"sv, 4, "ftyp"sv, {MediaType::kOther, "an MP4 file"}},
    {"\x1A\x45\xDF\xA3"sv, 0, ""sv, {MediaType::kOther, "a WebM or Matroska file"}},
    {"II*\0"sv, 0, ""sv, {MediaType::kOther, "a TIFF image"}},
    {"MM\0*"sv, 0, ""sv, {MediaType::kOther, "a TIFF image"}},
    {"BM"sv, 0, ""sv, {MediaType::kOther, "a BMP image"}},
    {"%PDF-"sv, 0, ""sv, {MediaType::kOther, "a PDF document"}},
    {"<svg"sv, 0, ""sv, {MediaType::kOther, "an SVG drawing"}},
};

// The header of an MPEG audio frame: 11 bits of sync, then fields with forbidden values.
bool is_mpeg_audio_frame(std::string_view bytes) {
  if (bytes.size() < 4) return false;
  const auto at = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  const bool sync = at(0) == 0xFF && (at(1) & 0xE0) == 0xE0;
  const bool version = (at(1) >> 3 & 3) != 1, layer = (at(1) >> 1 & 3) != 0;
  const bool bit_rate = at(2) >> 4 != 15, sample_rate = (at(2) >> 2 & 3) != 3;
  return sync && version && layer && bit_rate && sample_rate;
}

}  // namespace

SniffedType sniff_media(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  for (const Signature& s : kSignatures) {
    if (!text.starts_with(s.start) || text.size() < s.second_offset) continue;
    if (text.substr(s.second_offset).starts_with(s.second)) return s.result;
  }
  if (is_mpeg_audio_frame(text)) return {MediaType::kMp3, "an MP3 sound"};
  if (text.starts_with("\xFF\xF1") || text.starts_with("\xFF\xF9")) return {MediaType::kOther, "an AAC sound"};
  return {MediaType::kUnknown, "no known image or sound"};
}

bool is_image(MediaType type) {
  return type == MediaType::kJpeg || type == MediaType::kPng || type == MediaType::kWebp || type == MediaType::kGif;
}

bool is_audio(MediaType type) {
  return type == MediaType::kWav || type == MediaType::kFlac || type == MediaType::kOgg || type == MediaType::kMp3 ||
         type == MediaType::kAiff;
}

}  // namespace nestling
