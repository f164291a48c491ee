// The adapter to kissfft.
#include "media/fft.h"

#include <kissfft/kissfft.hh>

#include "base/check.h"

namespace nestling {

struct RealFft::State {
  int64_t length;
  kissfft<double> transform;  // of length / 2 complex values
};

RealFft::RealFft(int64_t length)
    : state_(new State{length, kissfft<double>(static_cast<size_t>(length / 2), /*inverse=*/false)}) {
  NESTLING_CHECK_EQ(length % 2, 0);
}
RealFft::RealFft(RealFft&& other) noexcept = default;
RealFft& RealFft::operator=(RealFft&& other) noexcept = default;
RealFft::~RealFft() = default;

void RealFft::forward(std::span<const double> in, std::span<std::complex<double>> out) const {
  NESTLING_CHECK_EQ(static_cast<int64_t>(in.size()), state_->length);
  NESTLING_CHECK_EQ(static_cast<int64_t>(out.size()), state_->length / 2 + 1);
  state_->transform.transform_real(in.data(), out.data());
  // kissfft packs the two real bins, the first and the last, into one complex value.
  out.back() = out.front().imag();
  out.front() = out.front().real();
}

}  // namespace nestling
