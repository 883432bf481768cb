// What the C library does with freed memory: torch's CPU tensors are its blocks.
#pragma once
#include <climits>
#include <cstddef>
#include <cstdlib>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace sparseconv {

// glibc maps large blocks afresh and unmaps them when they are freed, until one of nearly 32 MiB has
// been freed: from then on it keeps blocks up to that size, and up to 64 MiB at the end of its heap.
// A program of large tensors gets there by itself; one of small scans never does, and pays for fresh
// pages in every layer. So free one such block, untouched. Limits set by hand stay as they are.
inline void settle_allocator() {
#ifdef __GLIBC__
  void* volatile block = std::malloc((std::size_t(32) << 20) - 8192);
  std::free(block);
#endif
}

// Keep blocks below 1 GiB, and up to 2 GiB at the end of the heap; whether the C library can.
inline bool keep_freed_memory() {
#ifdef __GLIBC__
  if (mallopt(M_TRIM_THRESHOLD, INT_MAX) == 0) return false;
  // older versions refuse such a threshold, but can do without mapped blocks
  return mallopt(M_MMAP_THRESHOLD, 1 << 30) != 0 || mallopt(M_MMAP_MAX, 0) != 0;
#else
  return false;
#endif
}

}  // namespace sparseconv
