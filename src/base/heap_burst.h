// A hint for the C library's heap.
#pragma once

namespace nestling {

// While it lives, many small allocations are made (SentencePiece makes 800,000): the heap has grown by 60 MB at once, and
// the kernel was asked for huge pages there, which it maps when they are touched. A heap that grows by steps of 128 KB gets
// pages of 4 KB, each with a fault and then its own address translation. What was freed meanwhile goes back to the
// kernel at the end. Without effect where the heap is another one (sanitizers, other C libraries, a second thread's) or
// the kernel has no huge pages. Linux, glibc.
class HeapBurst {
 public:
  HeapBurst();
  ~HeapBurst();
  HeapBurst(const HeapBurst&) = delete;
  HeapBurst& operator=(const HeapBurst&) = delete;
};

}  // namespace nestling
