// A hint for the C library's heap.
#pragma once

namespace nestling {

// While it lives, many small allocations are made (SentencePiece makes several for each of 262,145 pieces): the heap has
// grown by 60 MB at once, and the kernel was asked for huge pages there, which it maps when they are touched. A heap that
// grows by steps of 128 KB gets pages of 4 KB, each with a fault and then its own address translation. What was freed
// meanwhile goes back to the kernel at the end. Without effect where the heap is another one (sanitizers, other C libraries, a
// second thread's) or the kernel has no huge pages. Linux, glibc.
//
// It leaves a mark: from then on glibc takes blocks of up to 31 MB from the heap and may keep 62 MB free at its end.
// AlignedBuffer, which holds all large memory of the model, maps its own.
class HeapBurst {
 public:
  HeapBurst();
  ~HeapBurst();
  HeapBurst(const HeapBurst&) = delete;
  HeapBurst& operator=(const HeapBurst&) = delete;
};

}  // namespace nestling
