// Where the rows of a result read an index of sites.
#pragma once
#include <cstdint>

#include "core/block_index.hpp"

namespace sparseconv {

// Positions [rows, taps, groups, 3]; or, with a grid, heads [rows, pitch] that begin with offsets
// [groups, taps, 3] from where the taps of each row lie.
struct Positions {
  BlockIndex index;
  const std::int32_t* items;  // [rows]; with a grid the sites [rows, 4] that taps lie about
  const void* values;
  bool wide;  // double, else float
  std::int64_t rows, taps, groups;
  const void* grid = nullptr;  // [taps, 3], in the type of the values
  std::int64_t pitch = 0;

  std::int64_t cells() const { return taps * groups; }
  std::int64_t numbers() const { return grid != nullptr ? pitch : 3 * cells(); }
  std::int64_t bytes() const { return numbers() * (wide ? 8 : 4); }
  const void* of(std::int64_t row) const {
    return static_cast<const char*>(values) + row * bytes();
  }

  // What the positions of a row are counted from.
  Site base(std::int64_t row) const {
    if (grid == nullptr) return {items[row], 0, 0, 0};
    return reinterpret_cast<const Site*>(items)[row];
  }
  // Positions [taps, groups, 3] of a row, from its base on: as they lie, or put together in `room`.
  template <class P>
  const P* from_base(std::int64_t row, P* room) const {
    const P* from = static_cast<const P*>(of(row));
    const P* about = static_cast<const P*>(grid);
    if (grid == nullptr) return from;
    if (groups == 1) {
      for (std::int64_t i = 0; i < 3 * taps; ++i) room[i] = from[i] + about[i];
      return room;
    }
    for (std::int64_t g = 0; g < groups; ++g)
      for (std::int64_t t = 0; t < taps; ++t)
        for (int a = 0; a < 3; ++a)
          room[3 * (t * groups + g) + a] = from[3 * (g * taps + t) + a] + about[3 * t + a];
    return room;
  }

  // Whether no position is further than `reach` below its base, nor as far above.
  bool within(std::int64_t row, int reach, void* room) const {
    return wide ? within_of(row, double(reach), static_cast<double*>(room))
                : within_of(row, float(reach), static_cast<float*>(room));
  }

  // The cell of position i of a row and, where wanted, the fractions of the way to the next; false
  // for what is no number or beyond int32. At an integer the cell above it.
  template <class T>
  bool cell(std::int64_t row, std::int64_t i, std::int32_t* at, T* fraction) const {
    return wide ? cell_of<double>(row, i, at, fraction) : cell_of<float>(row, i, at, fraction);
  }

 private:
  template <class P>
  bool within_of(std::int64_t row, P reach, P* room) const {
    const P* from = from_base(row, room);
    int outside = 0;
    for (std::int64_t i = 0; i < 3 * cells(); ++i)
      outside |= !(from[i] >= -reach) | !(from[i] < reach);
    return outside == 0;
  }

  template <class P, class T>
  bool cell_of(std::int64_t row, std::int64_t i, std::int32_t* at, T* fraction) const {
    const Site site = base(row);
    const std::int32_t from[3] = {site.x, site.y, site.z};
    const std::int64_t place = grid == nullptr ? i : i % groups * taps + i / groups;
    const P* p = static_cast<const P*>(of(row)) + 3 * place;
    const P* about = grid == nullptr ? nullptr : static_cast<const P*>(grid) + 3 * (i / groups);
    for (int a = 0; a < 3; ++a) {
      const P value = about == nullptr ? p[a] : p[a] + about[a];
      if (!(value >= P(-2147483648.0) && value < P(2147483648.0))) return false;
      // the floor: a machine without an instruction for it would call a function
      const std::int64_t near = std::int64_t(value), lower = near - (P(near) > value);
      const std::int64_t whole = from[a] + lower;
      if (whole != std::int32_t(whole)) return false;
      at[a] = std::int32_t(whole);
      if (fraction == nullptr) continue;
      if constexpr (sizeof(T) > sizeof(P))
        fraction[a] = T(value) - T(lower);
      else
        fraction[a] = T(value - P(lower));
    }
    return true;
  }
};

}  // namespace sparseconv
