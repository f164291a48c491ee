// LAuReL (arXiv 2411.07501): a learned residual of low rank beside attention. Gemma3nTextLaurelBlock.
#pragma once

#include "model/text/step.h"

namespace nestling {

// laurel = n + rms_norm(laurel_right (laurel_left n)). The left product runs together with q, k and v (attention.h),
// into workspace.low_rank; this is the rest. n: workspace.normed [T, D].
void laurel_residual(const Step& step);

}  // namespace nestling
