// Attention blocks in terms of the build's baseline instructions, for every set that has nothing better.
#pragma once

#include "kernels/attention_kernel.h"

namespace nestling {

extern const AttentionKernel kPortableAttention;

}  // namespace nestling
