// What a file is, told from its first bytes; the name it came with is never asked.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace nestling {

enum class MediaType {
  kJpeg, kPng, kWebp, kGif,             // images that are read
  kWav, kFlac, kOgg, kMp3, kAiff,       // sounds that are read
  kOther,                               // known by name only: see SniffedType::description
  kUnknown,
};

struct SniffedType {
  MediaType type = MediaType::kUnknown;
  std::string_view description;  // "a PNG image", "an HEIC image", "no known image or sound"
};

SniffedType sniff_media(std::span<const std::byte> bytes);
bool is_image(MediaType type);
bool is_audio(MediaType type);

}  // namespace nestling
