// SHA-256 (FIPS 180-4), to compare exported tensors with recorded hashes.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>

namespace nestling {

// The first 32 bits of the fractional part of a root of the n-th prime: the constants of the standard.
inline uint32_t prime_root_bits(int n, long double (*root)(long double)) {
  int prime = 1;
  for (int found = -1; found < n;) {
    ++prime;
    bool divisible = false;
    for (int d = 2; d * d <= prime; ++d) divisible |= prime % d == 0;
    if (!divisible) ++found;
  }
  const long double value = root(prime);
  return static_cast<uint32_t>((value - std::floor(value)) * 4294967296.0L);
}

inline std::string sha256_hex(std::span<const std::byte> data) {
  static const auto k = [] {
    std::array<uint32_t, 64> constants{};
    for (int i = 0; i < 64; ++i) constants[i] = prime_root_bits(i, [](long double x) { return std::cbrt(x); });
    return constants;
  }();
  std::array<uint32_t, 8> h{};
  for (int i = 0; i < 8; ++i) h[i] = prime_root_bits(i, [](long double x) { return std::sqrt(x); });

  std::vector<uint8_t> message;
  for (const std::byte b : data) message.push_back(static_cast<uint8_t>(b));
  message.push_back(0x80);
  while (message.size() % 64 != 56) message.push_back(0);
  for (int shift = 56; shift >= 0; shift -= 8) message.push_back(static_cast<uint8_t>(data.size() * 8 >> shift));

  for (size_t block = 0; block < message.size(); block += 64) {
    std::array<uint32_t, 64> w{};
    for (size_t i = 0; i < 64; ++i) w[i / 4] = w[i / 4] << 8 | message[block + i];
    for (size_t i = 16; i < 64; ++i) {
      const uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ w[i - 15] >> 3;
      const uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ w[i - 2] >> 10;
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    auto [a, b, c, d, e, f, g, hh] = h;
    for (size_t i = 0; i < 64; ++i) {
      const uint32_t s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
      const uint32_t t1 = hh + s1 + ((e & f) ^ (~e & g)) + k[i] + w[i];
      const uint32_t s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
      const uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
      hh = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    const std::array<uint32_t, 8> added = {a, b, c, d, e, f, g, hh};
    for (size_t i = 0; i < 8; ++i) h[i] += added[i];
  }
  std::string hex;
  for (const uint32_t word : h) hex += fmt::format("{:08x}", word);
  return hex;
}

}  // namespace nestling
