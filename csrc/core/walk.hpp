// Output rows in blocks whose sums stay in the first-level cache, their pairs tap by tap.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/parallel.hpp"
#include "core/tiles.hpp"
#include "simd/table.hpp"

namespace sparseconv {

// Rows of a block whose sums take `row_bytes` each: a power of 2.
inline std::int64_t block_rows(std::int64_t row_bytes) {
  std::int64_t rows = 64;
  while (rows > 8 && rows * row_bytes > 16 * 1024) rows /= 2;
  return rows;
}

// Whether a result is so large that it would leave the caches before it is read: writing past them
// spares reading what is overwritten.
inline bool past_caches(std::int64_t bytes) { return bytes >= std::int64_t(16) << 20; }

// Rows of a task: many blocks where their pairs lie in order, for boundaries are looked up once a
// task; else one, to which the pairs are moved.
inline std::int64_t task_rows(bool ordered, std::int64_t num_out, std::int64_t block, int threads) {
  std::int64_t rows = ordered ? 16 * block : block;
  while (threads > 1 && rows > block && (num_out + rows - 1) / rows < 4 * threads) rows /= 2;
  return rows;
}

// Call visit(walk, task, scratch) for every block of `block` output rows, in tasks of `rows` rows;
// scratch is `size` numbers of the task's own.
template <class T, class Visit>
void walk_rows(const Pairs& pairs, bool ordered, std::int64_t num_out, std::int64_t block,
               std::int64_t rows, std::int64_t size, int threads, Visit&& visit) {
  const Tiles tiles(pairs, ordered, num_out, rows, threads);
  // the tap with most pairs, in a submanifold layer the centre, reads nearly all rows there are
  std::int64_t main = 0;
  for (std::int64_t t = 1; t < pairs.taps; ++t)
    if (pairs.segments[t + 1] - pairs.segments[t] > pairs.segments[main + 1] - pairs.segments[main])
      main = t;
  parallel_tasks(tiles.count, threads, [&](std::int64_t tile) {
    Buffer<T> scratch(size);
    std::vector<std::int64_t> from(pairs.taps), end(pairs.taps), next(pairs.taps);
    for (std::int64_t t = 0; t < pairs.taps; ++t) {
      from[t] = tiles.begin(tile, t);
      end[t] = tiles.end(tile, t);
    }
    const std::int64_t stop = std::min(num_out, (tile + 1) * rows);
    for (std::int64_t first = tile * rows; first < stop; first += block) {
      std::int64_t soon = 0, last = 0;
      if (pairs.taps == 0) {
        // nothing is fetched ahead of a block
      } else if (first + block < stop) {
        soon = from[main];
        while (soon < end[main] && tiles.out[soon] < first + block) ++soon;
        last = end[main];
      } else if (tile + 1 < tiles.count) {
        soon = tiles.begin(tile + 1, main);
        last = tiles.end(tile + 1, main);
      }
      visit(TapWalk{tiles.in, tiles.out, from.data(), end.data(), next.data(), pairs.taps, first,
                    std::min(block, stop - first), soon, std::min(last - soon, block), pairs.count},
            tile, scratch.data());
      from.swap(next);
    }
  });
}

}  // namespace sparseconv
