// The discrete Fourier transform of real input, in double precision.
#pragma once

#include <complex>
#include <cstdint>
#include <memory>
#include <span>

namespace nestling {

class RealFft {
 public:
  // `length`: an even number of real inputs.
  explicit RealFft(int64_t length);
  RealFft(RealFft&& other) noexcept;
  RealFft& operator=(RealFft&& other) noexcept;
  ~RealFft();

  // in [length], out [length / 2 + 1]: F[b] = sum of in[i] exp(-2 pi j b i / length). May be called by several threads.
  void forward(std::span<const double> in, std::span<std::complex<double>> out) const;

 private:
  struct State;
  std::unique_ptr<const State> state_;
};

}  // namespace nestling
