#include "base/heap_burst.h"

#include <cstddef>
#include <cstdint>
#include <new>

#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

namespace nestling {

HeapBurst::HeapBurst() {
  // glibc maps what is larger than its threshold and takes the rest from the heap. Giving back something mapped raises the
  // threshold to its size, 32 MB at most, and what the heap keeps free at its end to twice that.
  constexpr size_t kBlock = 30u << 20;
  constexpr uintptr_t kHugePage = 2u << 20;
  // Calls of the functions: the compiler may leave out a new-expression whose memory nobody uses.
  ::operator delete(::operator new(kBlock + (1u << 20)));
  const auto before = reinterpret_cast<uintptr_t>(::sbrk(0));
  void* const first = ::operator new(kBlock);
  void* const second = ::operator new(kBlock);
  const auto after = reinterpret_cast<uintptr_t>(::sbrk(0));
  const uintptr_t begin = (before + kHugePage - 1) / kHugePage * kHugePage;
  if (after > begin) ::madvise(reinterpret_cast<void*>(begin), after - begin, MADV_HUGEPAGE);
  ::operator delete(second);
  ::operator delete(first);
}

HeapBurst::~HeapBurst() {
#if defined(__GLIBC__)
  ::malloc_trim(0);
#endif
}

}  // namespace nestling
