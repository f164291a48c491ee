// The instruction set in use: one table of kernels per set, chosen once at start.
#pragma once

#include <string_view>
#include <vector>

#include "base/error.h"

namespace nestling {

struct KernelTable;  // kernel_table.h, private to this folder

class Kernels {
 public:
  // The best set this machine has. NESTLING_CPU=scalar|avx2|avxvnni|avx512|neon|... forces one; a set the machine lacks
  // is kUnsupported with the sets it has.
  static Result<Kernels> choose();
  static Result<Kernels> named(std::string_view name);
  static std::vector<std::string_view> available();  // on this machine, best first
  explicit Kernels(const KernelTable* table) : table_(table) {}  // for tests of this folder: a set of their own

  std::string_view name() const;
  const KernelTable& table() const { return *table_; }

 private:
  const KernelTable* table_;
};

}  // namespace nestling
