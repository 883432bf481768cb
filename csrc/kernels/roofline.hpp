// What a machine can do at most, to hold measured rates against.
#pragma once
#include <cstdint>

namespace sparseconv {

// Do at least `flops` multiply-adds (two operations each) that never leave the registers, shared out
// over the threads; return how many operations were done. `dtype` as in core/dtype.hpp; float16 has
// none of its own.
std::int64_t multiply_adds(int dtype, std::int64_t flops, int threads);

// Copy `bytes` bytes, shared out over the threads in pieces of whole pages.
void copy_bytes(const void* from, void* to, std::int64_t bytes, int threads);

}  // namespace sparseconv
