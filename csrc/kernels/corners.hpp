// Where samples are read: the corners of the cells about the positions of a row.
#pragma once
#include <algorithm>
#include <cstdint>

#include "core/buffer.hpp"
#include "core/parallel.hpp"
#include "kernels/positions.hpp"
#include "simd/dispatch.hpp"

namespace sparseconv {

template <class T>
const SampleLoops<T>& sample_loops() {
  if constexpr (sizeof(T) == sizeof(float))
    return table().samples_f32;
  else
    return table().samples_f64;
}

// Loops without a storage type of its own.
template <class T>
const Loops<T, T>& plain_loops() {
  if constexpr (sizeof(T) == sizeof(float))
    return table().f32;
  else
    return table().f64;
}

// Numbers in the type of sums: as they lie, or widened to a buffer.
template <class S, class T>
class Widened {
 public:
  Widened(const Loops<S, T>& loops, const S* from, std::int64_t n, int threads) : from_(from) {
    if constexpr (sizeof(S) != sizeof(T)) {
      wide_ = Buffer<T>(n);
      parallel_ranges(n, 1 << 16, threads, [&](std::int64_t begin, std::int64_t end) {
        loops.widen(from + begin, wide_.data() + begin, end - begin);
      });
    }
  }
  const T* data() const {
    if constexpr (sizeof(S) == sizeof(T))
      return from_;
    else
      return wide_.data();
  }

 private:
  const S* from_;
  Buffer<T> wide_;
};

// Blocks that were looked up last, by the low bits of their place.
class NearBlocks {
 public:
  struct Found {
    Site at;
    std::int32_t block;       // -1 where there is none, -2 where nothing was looked up
    const std::int32_t* ids;  // numbers of its sites, in the order of their bits
  };

  explicit NearBlocks(const BlockIndex& index) : index_(index) {
    for (Found& one : found_) one.block = -2;
  }

  // ids(block) is asked for where a block is found anew.
  template <class Ids>
  const Found& find(const Site& at, Ids&& ids) {
    Found& one = found_[(at.x & 3) << 4 | (at.y & 3) << 2 | (at.z & 3)];
    if (one.block == -2 || !(one.at == at)) {
      const std::int32_t block = index_.find(at);
      one = {at, block, block < 0 ? nullptr : ids(block)};
    }
    return one;
  }

  static Site block_of(const Site& cell) {
    return {cell.b, cell.x >> block_shift, cell.y >> block_shift, cell.z >> block_shift};
  }
  // Bits 4, 2, 1 for x, y, z: whether the upper corners of a cell lie in the next block.
  static int across(const Site& cell) {
    return ((cell.x & 3) == 3) << 2 | ((cell.y & 3) == 3) << 1 | ((cell.z & 3) == 3);
  }
  // The next block in the directions of corner c: bits 4, 2, 1 for x, y, z.
  static Site above(const Site& block, int c) {
    return {block.b, block.x + (c >> 2), block.y + (c >> 1 & 1), block.z + (c & 1)};
  }

  // Call visit(found, cells) for every block that the eight corners of a cell lie in; corner c lies
  // in the one whose number is `c & cells`.
  template <class Ids, class Visit>
  static int about(const Site& cell, Ids&& find, Visit&& visit) {
    const int over = across(cell);
    for (int c = 0; c < 8; ++c) {
      if (c & ~over) continue;
      const auto up = [](std::int32_t v, int by) {
        return std::int32_t((std::int64_t(v) + by) >> block_shift);
      };
      visit(c, find(Site{cell.b, up(cell.x, c >> 2), up(cell.y, c >> 1 & 1), up(cell.z, c & 1)}));
    }
    return over;
  }

 private:
  const BlockIndex& index_;
  Found found_[64];
};

// A row's window of cells begins one block before that of its middle position.
struct Window {
  static constexpr std::int64_t least_cells = 8;  // fewer are looked up one by one

  // The block in the middle of a row's window; false where the row has none.
  static bool of(const Positions& where, std::int64_t row, Site& middle) {
    return where.cells() >= least_cells && block(where, row, middle);
  }

  // The block of the middle position, or of the site that taps are moved about; false where it is
  // nowhere or near an end of int32.
  static bool block(const Positions& where, std::int64_t row, Site& middle) {
    const Site base = where.base(row);
    std::int32_t at[3] = {base.x, base.y, base.z};
    // taps that are moved lie about their site: offsets are not read for this
    if (where.grid == nullptr &&
        !where.cell<float>(row, where.cells() / 2, at, static_cast<float*>(nullptr)))
      return false;
    middle = {base.b, at[0] >> block_shift, at[1] >> block_shift, at[2] >> block_shift};
    // at the ends of int32 a window would wrap around, and what is counted from a base far earlier
    if (where.grid == nullptr) return within(middle, (1 << 29) - 4);
    return within(middle, (1 << 28) - 4) && within(base, 1 << 30);
  }
  static bool within(const Site& at, std::int32_t end) {
    return at.x > -end && at.x < end && at.y > -end && at.y < end && at.z > -end && at.z < end;
  }

  // Places and fractions of a row in its window; whether all lie there. room [3, cells] of the type
  // of the positions.
  template <class T>
  static bool cells(const Positions& where, std::int64_t row, const Site& middle, void* room,
                    std::int32_t* place, T* fraction) {
    const SampleLoops<T>& loops = sample_loops<T>();
    const Site base = where.base(row);
    std::int32_t from[3];
    origin(middle, from);
    const std::int32_t counted[3] = {base.x, base.y, base.z};
    for (int a = 0; a < 3; ++a)
      from[a] = std::int32_t(std::uint32_t(from[a]) - std::uint32_t(counted[a]));
    if (where.wide)
      return loops.cells_f64(where.from_base(row, static_cast<double*>(room)), where.cells(), from,
                             place, fraction);
    return loops.cells_f32(where.from_base(row, static_cast<float*>(room)), where.cells(), from,
                           place, fraction);
  }

  // Call visit(block, first cell in the window) for each of the 27 blocks.
  template <class Visit>
  static void blocks(const Site& middle, Visit&& visit) {
    constexpr int step = 1 << block_shift;
    for (int x = 0; x < 3; ++x)
      for (int y = 0; y < 3; ++y)
        for (int z = 0; z < 3; ++z)
          visit(Site{middle.b, middle.x + x - 1, middle.y + y - 1, middle.z + z - 1},
                ((x * window_side + y) * window_side + z) * step);
  }
  static void origin(const Site& middle, std::int32_t* to) {
    constexpr std::int32_t step = 1 << block_shift;
    to[0] = (middle.x - 1) * step;
    to[1] = (middle.y - 1) * step;
    to[2] = (middle.z - 1) * step;
  }
};
static_assert(window_side == 3 << block_shift, "a window is three blocks wide");

// Finds the corners of one row after the other; for one task. `ids(block)` points at the numbers by
// which the task knows the sites of a block.
template <class T, class Ids>
class Corners {
 public:
  Corners(const Positions& where, Ids ids)
      : where_(where),
        ids_(ids),
        near_(where.index),
        place_(where.cells()),
        far_(8 * where.cells()),
        room_(3 * where.cells()),
        window_(window_side * window_side * window_side) {
    for (int bit = 0; bit < 64; ++bit) {
      const auto at = [&](int axis) { return (bit >> (5 - axis) & 1) << 1 | (bit >> (2 - axis) & 1); };
      cell_[bit] = std::int16_t((at(0) * window_side + at(1)) * window_side + at(2));
    }
  }

  // The cells of a row. scale [cells] or null is handed on; fractions [3, cells] are written.
  CellRow<T> row(std::int64_t row, const T* scale, T* fraction) {
    const std::int64_t n = where_.cells();
    if (n == 1) {
      only(row, fraction);
      return {n, place_.data(), fraction, scale, window_.data(), far_.data()};
    }
    Site middle;
    bool all = false;
    if (Window::of(where_, row, middle)) {
      if (!filled_ || !(middle == middle_)) fill(middle);
      all = Window::cells(where_, row, middle, room_.data(), place_.data(), fraction);
    } else {
      std::fill_n(place_.data(), n, -1);
    }
    if (!all)
      for (std::int64_t i = 0; i < n; ++i)
        if (place_[i] == -1) look_up(row, i, fraction);
    return {n, place_.data(), fraction, scale, window_.data(), far_.data()};
  }

 private:
  void fill(const Site& middle) {
    middle_ = middle;
    filled_ = true;
    std::fill_n(window_.data(), window_.size(), -1);
    Window::blocks(middle, [&](const Site& at, int first) {
      const NearBlocks::Found& found = near_.find(at, ids_);
      if (found.block < 0) return;
      const std::int32_t* id = found.ids;
      for (std::uint64_t mask = where_.index.block(found.block).mask(); mask; mask &= mask - 1)
        window_[first + cell_[lowest_bit(mask)]] = *id++;
    });
  }

  // A row of one cell reads its block and, where it lies at an upper side, the faces of those above,
  // with which the window begins; what rows of the block before found is there already.
  void only(std::int64_t row, T* fraction) {
    constexpr int side = 1 << block_shift;
    std::int32_t at[3];
    if (!where_.cell(row, 0, at, fraction)) {
      std::fill_n(fraction, 3, T(0));
      std::fill_n(far_.data(), 8, -1);
      place_[0] = -2;
      return;
    }
    const Site cell{where_.base(row).b, at[0], at[1], at[2]}, block = NearBlocks::block_of(cell);
    if (!filled_ || !(block == middle_)) {
      middle_ = block;
      filled_ = true;
      known_ = 0;
      for (int x = 0; x <= side; ++x)
        for (int y = 0; y <= side; ++y)
          std::fill_n(window_.data() + (x * window_side + y) * window_side, side + 1, -1);
    }
    const int across = NearBlocks::across(cell);
    for (int c = 0; c < 8; ++c)
      if (!(c & ~across) && !(known_ >> c & 1)) fill_above(c);
    place_[0] = ((at[0] & 3) * window_side + (at[1] & 3)) * window_side + (at[2] & 3);
  }

  // Those of the next block in the directions of corner c that touch the middle one.
  void fill_above(int c) {
    known_ |= 1 << c;
    const int dx = c >> 2, dy = c >> 1 & 1, dz = c & 1;
    const NearBlocks::Found& found = near_.find(NearBlocks::above(middle_, c), ids_);
    if (found.block < 0) return;
    std::int32_t* to = window_.data() + (((dx * window_side + dy) * window_side + dz) << block_shift);
    const std::uint64_t mask = where_.index.block(found.block).mask();
    for (std::uint64_t left = mask & lowest_cells(dx, dy, dz); left; left &= left - 1) {
      const int bit = lowest_bit(left);
      to[cell_[bit]] = found.ids[count_bits(mask & ((std::uint64_t(1) << bit) - 1))];
    }
  }

  void look_up(std::int64_t row, std::int64_t i, T* fraction) {
    const std::int64_t n = where_.cells();
    std::int32_t at[3], *rows = far_.data() + 8 * i;
    T part[3] = {};
    place_[i] = std::int32_t(-2 - i);
    const bool inside = where_.cell(row, i, at, part);
    for (int a = 0; a < 3; ++a) fraction[a * n + i] = inside ? part[a] : T(0);
    if (!inside) {
      std::fill_n(rows, 8, -1);
      return;
    }
    const NearBlocks::Found* found[8];
    const int across = NearBlocks::about(
        {where_.base(row).b, at[0], at[1], at[2]},
        [&](const Site& block) -> const NearBlocks::Found& { return near_.find(block, ids_); },
        [&](int c, const NearBlocks::Found& one) { found[c] = &one; });
    for (int c = 0; c < 8; ++c) {
      const NearBlocks::Found& one = *found[c & across];
      rows[c] = -1;
      if (one.block < 0) continue;
      const std::uint64_t bit = std::uint64_t(1)
                                << cell_bit((at[0] & 3) + (c >> 2), (at[1] & 3) + (c >> 1 & 1),
                                            (at[2] & 3) + (c & 1));
      const std::uint64_t mask = where_.index.block(one.block).mask();
      if (mask & bit) rows[c] = one.ids[count_bits(mask & (bit - 1))];
    }
  }

  const Positions& where_;
  Ids ids_;
  NearBlocks near_;
  Buffer<std::int32_t> place_, far_;
  Buffer<double> room_;
  Buffer<std::int32_t> window_;
  std::int16_t cell_[64];
  Site middle_{};
  bool filled_ = false;
  int known_ = 0;  // bit c: whether the block above in the directions of corner c has been looked up
};

// Fetch memory that will be read soon: rows that are sorted by place lie anywhere.
inline void fetch(const void* from, std::int64_t bytes) {
  const char* first = static_cast<const char*>(from);
  for (std::int64_t b = 0; b < bytes; b += 64) SPARSECONV_PREFETCH(first + b);
}

// Lists of corners with the memory they take.
template <class T>
struct CornerMemory {
  CornerMemory(std::int64_t cells, bool every)
      : rows(8 * cells + 8), shares(8 * cells + 8), codes(every ? 8 * cells + 8 : 0) {}
  CornerList<T> list() { return {rows.data(), shares.data(), codes.data()}; }

  Buffer<std::int32_t> rows;
  Buffer<T> shares;
  Buffer<std::int32_t> codes;
};

// Rows in the Z-order of the blocks their windows lie about, so that neighbours follow one another;
// empty where they come so.
Buffer<std::int32_t> row_order(const Positions& where, int threads);

}  // namespace sparseconv
