// The AVX-512 kernels without the instructions: a set beside those of the machine, for all tests of the kernels. Its
// functions are those of x86/avx512_*.cc compiled once more, with avx512_testing.h read before (../CMakeLists.txt).
#include "kernels/kernels_test_util.h"
#include "kernels/x86/avx2_kernels.h"

namespace nestling::kernels_test {
namespace {

// Nothing asks it for a ceiling.
KernelTable emulated() {
  KernelTable table = kAvx512Kernels;
  table.name = "avx512 (emulated)";
  table.supported = avx2_supported;
  table.int8_products = nullptr;
  table.float_products = nullptr;
  return table;
}

}  // namespace

std::vector<Kernels> emulated_kernels() {
  static const KernelTable avx512 = emulated();
  return {Kernels(&kEmulatedAvxVnniKernels), Kernels(&avx512)};
}

}  // namespace nestling::kernels_test
