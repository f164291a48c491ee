#include "kernels/kernels.h"

#include <cstdlib>
#include <string>

#include "base/log.h"
#include "kernels/kernel_table.h"

namespace nestling {
namespace {

// Best first.
constexpr const KernelTable* kTables[] = {
#if defined(__x86_64__)
    &kAvx512Kernels, &kAvxVnniKernels, &kAvx2Kernels,
#elif defined(__aarch64__)
    &kI8mmKernels, &kNeonKernels,
#endif
    &kScalarKernels,
};

std::string available_names() {
  std::string names;
  for (const std::string_view name : Kernels::available()) {
    if (!names.empty()) names += ", ";
    names += name;
  }
  return names.empty() ? "none" : names;
}

}  // namespace

std::vector<std::string_view> Kernels::available() {
  std::vector<std::string_view> names;
  for (const KernelTable* table : kTables)
    if (table->supported()) names.push_back(table->name);
  return names;
}

Result<Kernels> Kernels::named(std::string_view name) {
  for (const KernelTable* table : kTables)
    if (table->name == name && table->supported()) return Kernels(table);
  return fail(ErrorCode::kUnsupported, "instruction set \"{}\" is not available; this machine has {}", name,
              available_names());
}

Result<Kernels> Kernels::choose() {
  if (const char* forced = std::getenv("NESTLING_CPU"); forced != nullptr && *forced != '\0') return named(forced);
  for (const KernelTable* table : kTables) {
    if (!table->supported()) continue;
    if (table == &kScalarKernels)
      spdlog::warn("this processor lacks dot products (asimddp of ARMv8.2): the scalar kernels run, many times slower");
    return Kernels(table);
  }
  return fail(ErrorCode::kUnsupported,
              "this processor lacks the instructions Nestling needs: x86-64-v3 (AVX2, FMA, F16C)");
}

std::string_view Kernels::name() const { return table_->name; }

}  // namespace nestling
