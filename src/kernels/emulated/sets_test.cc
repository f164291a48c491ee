// The emulated sets of nestling_kernels_test. nestling_avx512_emulated_test has those of avx512_test.cc instead.
#include "kernels/kernels_test_util.h"

namespace nestling::kernels_test {

std::vector<Kernels> emulated_kernels() {
#if defined(__x86_64__)
  return {Kernels(&kEmulatedAvxVnniKernels)};
#else
  return {};
#endif
}

}  // namespace nestling::kernels_test
