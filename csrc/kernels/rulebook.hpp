// The rulebook: which input row each tap of each output row reads.
#pragma once
#include <cstdint>
#include <vector>

#include "core/buffer.hpp"
#include "kernels/coords.hpp"

namespace sparseconv {

struct Book {
  Buffer<std::int32_t> in, out;    // [P], sorted by (tap, out)
  Buffer<std::int64_t> segments;  // [taps + 1]
};

// Pairs (i, o) of tap t: same batch item and in[i] == out[o] * stride + offset[t].
//
// Rows in lexicographic order are merged: a tap moves every site by the same amount, so one pointer
// walks the input while the output is scanned. Other rows are looked up in the index. With
// same_sites, stride 1 and offsets symmetric about zero the taps of one half are found, the centre
// is the identity and the other half has the same pairs exchanged.
//
// Memory beyond the result: keys, 8 (N + M) bytes; found pairs once more, 8 P bytes (half of it
// where symmetric); 4 N bytes a thread where exchanged pairs must be put in order.
Book rulebook(const Site* in_sites, std::int64_t n, std::int64_t* slots, std::int64_t capacity,
              const Site* out_sites, std::int64_t m, const std::vector<Offset>& offsets,
              const Offset& stride, bool same_sites, int threads);

}  // namespace sparseconv
