// The rulebook: which input row each tap of each output row reads.
#pragma once
#include <cstdint>
#include <vector>

#include "core/buffer.hpp"
#include "kernels/coords.hpp"

namespace sparseconv {

struct Book {
  Buffer<std::int32_t> in, out;   // [P], sorted by (tap, out)
  Buffer<std::int64_t> segments;  // [taps + 1]
};

// Pairs (i, o) of tap t: same batch item and in[i] == out[o] * stride + offset[t].
//
// Sites are merged as ascending keys: a tap moves every site by the same amount, so one pointer
// walks the inputs while the outputs are scanned. Rows in lexicographic order are ascending
// already, others are sorted first. Where a site has no 64-bit key (see Key) the index is asked
// instead. With same_sites, stride 1 and offsets symmetric about zero the taps of one half are
// found, the centre is the identity and the other half has the same pairs exchanged. Of equal
// inputs the lowest row is paired.
//
// Memory beyond the result: keys, 12 (N + M) bytes, and 32 a row while sorting; found pairs once
// more, 8 P bytes (half of it where symmetric); 4 M bytes a thread where pairs must be put in
// order.
Book rulebook(const Site* in_sites, std::int64_t n, std::int64_t* slots, std::int64_t capacity,
              const Site* out_sites, std::int64_t m, const std::vector<Offset>& offsets,
              const Offset& stride, bool same_sites, int threads);

}  // namespace sparseconv
