// Band-limited conversion of the sample rate of one channel.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/error.h"

namespace nestling {

class Resampler {
 public:
  // Rates in Hz. Equal rates pass samples through untouched.
  static Result<Resampler> create(int64_t from_rate, int64_t to_rate);
  Resampler(Resampler&& other) noexcept;
  Resampler& operator=(Resampler&& other) noexcept;
  ~Resampler();

  // Appends what the new samples make to `out`; the filter keeps some back until finish().
  Status push(std::span<const float> samples, std::vector<float>& out);
  Status finish(std::vector<float>& out);

 private:
  struct State;
  explicit Resampler(std::unique_ptr<State> state);
  Status process(const float* samples, size_t count, std::vector<float>& out);
  std::unique_ptr<State> state_;  // null: rates are equal
};

}  // namespace nestling
