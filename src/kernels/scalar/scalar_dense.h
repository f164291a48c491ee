// The reference kernels of dense().
#pragma once

#include "kernels/kernel_table.h"

namespace nestling {

void scalar_dense(const DenseArgs& a);
void scalar_dense16(const DenseArgs& a);
void scalar_dense_code(const float* x, int64_t stride, int rows, int64_t cols, const DenseTile& out);

}  // namespace nestling
