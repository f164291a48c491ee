// Every tolerance of the test suite, with its derivation. Never widened to make a test pass.
#pragma once

namespace nestling {

// Float32 against transformers' float32, per tensor: max |difference| <= this times rms(golden). transformers' own
// float32 differs from its float64 by up to 2e-5 in this measure on these checkpoints (`float32_noise` in the goldens'
// metadata), and sums here run in another order, so the floor of a comparison is about twice that; 1e-4 is five times
// the noise of one side.
inline constexpr double kGoldenRelative = 1e-4;

}  // namespace nestling
