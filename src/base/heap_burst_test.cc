#include "base/heap_burst.h"

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <unistd.h>

namespace nestling {
namespace {

// Whether huge pages were asked for where p lies (hg among the flags of /proc/self/smaps).
bool huge_pages_at(const void* p) {
  std::ifstream smaps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(smaps, line);) {
    uintptr_t begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2)
      inside = begin <= reinterpret_cast<uintptr_t>(p) && reinterpret_cast<uintptr_t>(p) < end;
    else if (inside && line.starts_with("VmFlags:"))
      return line.contains(" hg");
  }
  return false;
}

TEST(HeapBurst, SmallAllocationsLieInHugePages) {
  const auto before = reinterpret_cast<uintptr_t>(::sbrk(0));
  const HeapBurst burst;
  if (reinterpret_cast<uintptr_t>(::sbrk(0)) == before) GTEST_SKIP() << "this heap does not grow by sbrk";
  if (!std::filesystem::exists("/sys/kernel/mm/transparent_hugepage")) GTEST_SKIP() << "this kernel has no huge pages";
  // 40 MB of them: the end of the heap as it was is behind.
  std::vector<std::string> strings;
  for (int i = 0; i < 400'000; ++i) strings.emplace_back(90, 'x');
  int huge = 0;
  for (size_t i = 0; i < strings.size(); i += strings.size() / 16) huge += huge_pages_at(strings[i].data());
  EXPECT_GE(huge, 12);
}

TEST(HeapBurst, OneAfterAnother) {
  for (int i = 0; i < 3; ++i) {
    const HeapBurst burst;
    std::vector<std::string> strings(1000, std::string(100, 'x'));
    EXPECT_EQ(strings.back().size(), 100u);
  }
}

}  // namespace
}  // namespace nestling
