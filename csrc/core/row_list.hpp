// The pairs of a rulebook by output row: a row's sums then stay in registers.
#pragma once
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <utility>

#include "core/buffer.hpp"
#include "core/pairs.hpp"
#include "core/parallel.hpp"
#include "simd/table.hpp"

namespace sparseconv {

// One block of 64-bit numbers: num_out + 1 starts, then the pairs, those of row o being
// [starts[o], starts[o + 1]): the low half an input row, the high half a tap, by tap and then as in
// the rulebook. Behind them zeros, as many as make it row_list_size long.
struct RowList {
  const std::int64_t* starts;
  const std::uint64_t* pairs;

  RowList(const std::int64_t* block, std::int64_t num_out)
      : starts(block), pairs(reinterpret_cast<const std::uint64_t*>(block + num_out + 1)) {}
};

inline std::int64_t row_list_size(std::int64_t num_out, std::int64_t count) {
  return num_out + 1 + count + row_list_spare;
}

// Fill `block` with the list of checked pairs, `count` of them or fewer.
inline void build_row_list(const Pairs& pairs, bool ordered, std::int64_t num_out,
                           std::int64_t count, std::int64_t* block, int threads) {
  constexpr std::int64_t rows = 2048;
  const Tiles tiles(pairs, ordered, num_out, rows, threads);
  prefer_large_pages(block, row_list_size(num_out, count) * std::int64_t(sizeof(std::int64_t)));
  auto* list = reinterpret_cast<std::uint64_t*>(block + num_out + 1);
  parallel_tasks(tiles.count, threads, [&](std::int64_t tile) {
    const std::int64_t first = tile * rows, here = std::min(rows, num_out - first);
    // pairs of the tiles before
    std::int64_t place = 0;
    if (ordered)
      for (std::int64_t t = 0; t < pairs.taps; ++t) place += tiles.begin(tile, t) - pairs.segments[t];
    else if (pairs.taps > 0)
      place = tiles.begin(tile, 0);
    std::int64_t at[rows];
    std::fill_n(at, here, 0);
    for (std::int64_t t = 0; t < pairs.taps; ++t)
      for (std::int64_t p = tiles.begin(tile, t); p < tiles.end(tile, t); ++p)
        ++at[tiles.out[p] - first];
    for (std::int64_t r = 0; r < here; ++r) {
      block[first + r] = place;
      place += std::exchange(at[r], place);
    }
    for (std::int64_t t = 0; t < pairs.taps; ++t)
      for (std::int64_t p = tiles.begin(tile, t); p < tiles.end(tile, t); ++p)
        list[at[tiles.out[p] - first]++] = std::uint64_t(t) << 32 | std::uint32_t(tiles.in[p]);
  });
  block[num_out] = pairs.count;
  std::fill_n(list + pairs.count, count - pairs.count + row_list_spare, 0);
}

// Throw std::invalid_argument unless rows [first, first + rows) of a list of `count` pairs name
// input rows below num_in and taps below `taps`.
inline void check_row_list(const RowList& list, std::int64_t first, std::int64_t rows,
                           std::int64_t count, std::int64_t num_in, std::int64_t taps) {
  const std::int64_t* starts = list.starts + first;
  bool right = starts[0] >= 0 && starts[rows] <= count;
  for (std::int64_t r = 0; r < rows; ++r) right &= starts[r] <= starts[r + 1];
  if (right) {
    std::int64_t others = 0;
    for (std::int64_t p = starts[0]; p < starts[rows]; ++p) {
      const std::uint64_t pair = list.pairs[p];
      others += (std::int64_t(pair & 0xffffffffu) >= num_in) | (std::int64_t(pair >> 32) >= taps);
    }
    right = others == 0;
  }
  if (!right)
    throw std::invalid_argument(
        "by_row: expected the pairs of this rulebook by output row, found others; use pairs_by_row");
}

}  // namespace sparseconv
