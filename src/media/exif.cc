#include "media/exif.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>

namespace nestling {
namespace {

constexpr uint64_t kOrientationTag = 0x0112, kShortType = 3;
constexpr size_t kEntryBytes = 12, kValueOffset = 8;

// Unsigned numbers of a TIFF block in its own byte order.
struct TiffReader {
  std::span<const std::byte> bytes;
  bool big_endian = false;

  std::optional<uint64_t> read(uint64_t offset, size_t width) const {
    if (offset > bytes.size() || bytes.size() - offset < width) return std::nullopt;
    uint64_t value = 0;
    for (size_t i = 0; i < width; ++i) {
      const auto byte = std::to_integer<uint64_t>(bytes[offset + i]);
      value |= byte << 8 * (big_endian ? width - 1 - i : i);
    }
    return value;
  }
};

}  // namespace

int exif_orientation(std::span<const std::byte> exif) {
  constexpr char kPrefix[] = {'E', 'x', 'i', 'f', 0, 0};
  if (exif.size() >= sizeof kPrefix && std::memcmp(exif.data(), kPrefix, sizeof kPrefix) == 0)
    exif = exif.subspan(sizeof kPrefix);
  if (exif.size() < 8) return 1;
  const bool intel = std::memcmp(exif.data(), "II", 2) == 0, motorola = std::memcmp(exif.data(), "MM", 2) == 0;
  if (!intel && !motorola) return 1;
  const TiffReader tiff{exif, motorola};
  if (tiff.read(2, 2) != 42) return 1;
  const uint64_t directory = *tiff.read(4, 4);
  const uint64_t entries = tiff.read(directory, 2).value_or(0);
  for (uint64_t i = 0; i < entries; ++i) {
    const uint64_t entry = directory + 2 + i * kEntryBytes;
    if (tiff.read(entry, 2) != kOrientationTag) continue;
    if (tiff.read(entry + 2, 2) != kShortType) return 1;
    const uint64_t value = tiff.read(entry + kValueOffset, 2).value_or(1);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

}  // namespace nestling
