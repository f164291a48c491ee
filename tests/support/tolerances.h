// Every tolerance of the test suite, with its derivation. Never widened to make a test pass.
#pragma once

namespace nestling {

// Float32 against transformers' float32, per tensor: max |difference| <= this times rms(golden). transformers' own
// float32 differs from its float64 by up to 2e-5 in this measure on these checkpoints (`float32_noise` in the goldens'
// metadata), and sums here run in another order, so the floor of a comparison is about twice that; 1e-4 is five times
// the noise of one side.
inline constexpr double kGoldenRelative = 1e-4;

// Mean KL (nats per token) of the bundled model's next-token distribution against float32 weights on held-out text. A
// weight rounded to b bits errs by a relative 2^-b, and KL grows with the square of the error of the logits: 16-bit, 8-bit
// and 4-bit weights differ by orders of magnitude, and each bound would be broken by a format one step worse.
inline constexpr double kMeanKlBf16 = 1e-4;
inline constexpr double kMeanKlQ8 = 1e-3;
inline constexpr double kMeanKlQ6 = 5e-3;
inline constexpr double kMeanKlQ4 = 5e-2;

// int8 activations per block of 32 against float32 activations on the same weights.
inline constexpr double kMeanKlInt8Activations = 1e-3;
inline constexpr double kSameArgmaxInt8Activations = 0.99;

// K/V stored as bf16 or q8 against float32: errors of the size of q8 weights.
inline constexpr double kMeanKlKv = 1e-3;

// Cosine of every row of the audio tower with that of float32 weights, at the published shapes on random weights. One
// product of Gaussian values errs by about 0.12 % with weights rounded to bf16. 60 products follow one another; on random
// weights the squared error of the rows is about 40 times that of one product, which gives 1 - cosine = 3e-5 in the mean,
// and the bound allows single rows six times that. int8: the goal is 0.999. int8 weights (one scale for 1,536 or 6,144
// values) err by 0.8 to 0.9 % and int8 activations (with a zero) by 0.8 to 0.95 %; with v, W_post,
// W_start and W_end as i16 the rest comes to 1 - cosine = 6e-4.
inline constexpr double kAudioCosineBf16 = 0.9998;
inline constexpr double kAudioCosineInt8 = 0.999;

// Share of held-out questions that the bundled model answers word for word, greedily.
inline constexpr double kNanoAccuracyE4b = 0.90;
inline constexpr double kNanoAccuracySlices = 0.80;
// The same about held-out pictures; of a grey picture it can only guess among the few answers a question has.
inline constexpr double kNanoPictures = 0.90;
inline constexpr double kNanoPicturesSlices = 0.90;
inline constexpr double kNanoGreyPictures = 0.35;
// Word error rate on voices it never heard; of silence it can only guess.
inline constexpr double kNanoWordErrors = 0.20;
inline constexpr double kNanoWordErrorsSlices = 0.30;
inline constexpr double kNanoWordErrorsOfSilence = 0.80;

}  // namespace nestling
