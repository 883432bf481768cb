// Active sites: look-up, deduplication, output sites.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/buffer.hpp"
#include "core/site_index.hpp"

namespace sparseconv {

struct Offset {
  std::int64_t v[3];
};

struct Unique {
  Buffer<std::int32_t> sites;    // [U, 4], in Z-order
  Buffer<std::int64_t> inverse;  // [N]
  Buffer<std::int64_t> counts;   // [U]
  Buffer<std::int64_t> first;    // [U], lowest row
};

// Rows of queries among indexed sites, -1 where absent.
void lookup(const Site* sites, std::int64_t n, std::int64_t* slots, std::int64_t capacity,
            const Site* queries, std::int64_t count, std::int32_t* rows, int threads);

// Deduplicate. Keys, rows and two sort buffers take 24 N bytes, 44 where a
// key has more than 32 bits; sites whose box no key holds (see ZKey)
// are sorted by comparison.
Unique unique_sites(const Site* sites, std::int64_t n, int threads);

// A coordinate that does not fit int32.
struct Overflow : std::overflow_error {
  explicit Overflow(std::int64_t value) : std::overflow_error(std::to_string(value)) {}
};

// Sites o with o * stride + offset = q for an active q (or o * stride + offset for an active o) and
// low <= site < high where given, in Z-order: int32 [U, 4]. Takes 64 N + 16 MiB or 64 U
// bytes beside the result; where no key holds the box of results, 16 bytes a candidate.
Buffer<std::int32_t> output_sites(const Site* sites, std::int64_t n,
                                  const std::vector<Offset>& offsets, const Offset& stride,
                                  const Offset* low, const Offset* high, bool transposed);

}  // namespace sparseconv
