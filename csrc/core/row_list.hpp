// The pairs of a rulebook by output row: a row's sums then stay in registers.
#pragma once
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <utility>
#include <vector>

#include "core/buffer.hpp"
#include "core/parallel.hpp"
#include "core/tiles.hpp"
#include "simd/table.hpp"

namespace sparseconv {

// One block of 64-bit numbers, opaque to Python: output rows M, pairs, taps, input rows that the highest
// one read needs; M + 1 starts; then the pairs, those of row o being [starts[o], starts[o + 1]): the
// low half an input row, the high half a tap, by tap and then as in the rulebook; zeros behind them,
// as many as make the block row_list_size long.
struct RowList {
  static constexpr std::int64_t head = 4;
  const std::int64_t* block;
  const std::int64_t* starts;
  const std::uint64_t* pairs;

  RowList(const std::int64_t* block, std::int64_t num_out)
      : block(block),
        starts(block + head),
        pairs(reinterpret_cast<const std::uint64_t*>(starts + num_out + 1)) {}

  RowWalk walk(std::int64_t first, std::int64_t rows) const {
    return {starts + first, pairs, rows};
  }
};

inline std::int64_t row_list_size(std::int64_t num_out, std::int64_t count) {
  return RowList::head + num_out + 1 + count + row_list_spare;
}

// Fill `block` with the list of checked pairs, `count` of them or fewer.
inline void build_row_list(const Pairs& pairs, bool ordered, std::int64_t num_out,
                           std::int64_t count, std::int64_t* block, int threads) {
  constexpr std::int64_t rows = 2048;
  const Tiles tiles(pairs, ordered, num_out, rows, threads);
  prefer_large_pages(block, row_list_size(num_out, count) * std::int64_t(sizeof(std::int64_t)));
  std::int64_t* starts = block + RowList::head;
  auto* list = reinterpret_cast<std::uint64_t*>(starts + num_out + 1);
  std::vector<std::int32_t> highest(tiles.count, -1);
  parallel_tasks(tiles.count, worth_sharing(pairs.count * 2, threads), [&](std::int64_t tile) {
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
      starts[first + r] = place;
      place += std::exchange(at[r], place);
    }
    std::int32_t high = -1;
    for (std::int64_t t = 0; t < pairs.taps; ++t)
      for (std::int64_t p = tiles.begin(tile, t); p < tiles.end(tile, t); ++p) {
        high = std::max(high, tiles.in[p]);
        list[at[tiles.out[p] - first]++] = std::uint64_t(t) << 32 | std::uint32_t(tiles.in[p]);
      }
    highest[tile] = high;
  });
  starts[num_out] = pairs.count;
  std::fill_n(list + pairs.count, count - pairs.count + row_list_spare, 0);
  std::int64_t high = -1;
  for (const std::int32_t row : highest) high = std::max<std::int64_t>(high, row);
  const std::int64_t head[RowList::head] = {num_out, pairs.count, pairs.taps, high + 1};
  std::copy_n(head, RowList::head, block);
}

// Throw std::invalid_argument unless a list is one of these pairs and reads rows below num_in.
inline RowList check_row_list(const std::int64_t* block, const Pairs& pairs, std::int64_t num_in,
                              std::int64_t num_out) {
  if (block[0] != num_out || block[1] != pairs.count || block[2] != pairs.taps || block[3] > num_in)
    throw std::invalid_argument(
        "by_row: expected the pairs of this rulebook by output row, found those of another; use "
        "pairs_by_row");
  return RowList(block, num_out);
}

}  // namespace sparseconv
