// One 64-bit key a site, linear in its coordinates, relative to the smallest box that holds the
// sites.
#pragma once
#include <algorithm>
#include <cstdint>

#include "core/site_index.hpp"

namespace sparseconv {

// An inclusive box of sites in 64-bit coordinates.
struct Box {
  std::int64_t low[4] = {INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX};
  std::int64_t high[4] = {INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN};

  bool empty() const { return low[0] > high[0]; }
  void add(const Box& other) {
    for (int a = 0; a < 4; ++a) {
      low[a] = std::min(low[a], other.low[a]);
      high[a] = std::max(high[a], other.high[a]);
    }
  }
};

inline Box box_of(const Site* sites, std::int64_t n) {
  std::int32_t low[4] = {INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX};
  std::int32_t high[4] = {INT32_MIN, INT32_MIN, INT32_MIN, INT32_MIN};
  const std::int32_t* values = reinterpret_cast<const std::int32_t*>(sites);
  for (std::int64_t i = 0; i < n; ++i)
    for (int a = 0; a < 4; ++a) {
      low[a] = std::min(low[a], values[4 * i + a]);
      high[a] = std::max(high[a], values[4 * i + a]);
    }
  Box box;
  if (n > 0)
    for (int a = 0; a < 4; ++a) {
      box.low[a] = low[a];
      box.high[a] = high[a];
    }
  return box;
}

// key = ((b - b0) X + (x - x0)) Y + ...: linear, so the key of a moved site is the key plus a
// constant as long as the move stays in the box.
struct Key {
  bool fits = false;  // the box has fewer than 2^62 sites
  std::int64_t step[4] = {};
  std::int64_t base = 0;
  std::uint64_t most = 0;  // the largest key

  explicit Key(const Box& box) {
    if (box.empty()) {
      fits = true;
      return;
    }
    constexpr std::uint64_t limit = std::uint64_t(1) << 62;
    std::uint64_t size = 1;
    for (int a = 3; a >= 0; --a) {
      step[a] = std::int64_t(size);
      const std::uint64_t extent = std::uint64_t(box.high[a]) - std::uint64_t(box.low[a]) + 1;
      if (extent == 0 || extent > limit / size) return;
      size *= extent;
    }
    fits = true;
    most = size - 1;
    // wraps, as do the sums below: only the difference matters
    std::uint64_t sum = 0;
    for (int a = 0; a < 4; ++a) sum += std::uint64_t(step[a]) * std::uint64_t(box.low[a]);
    base = std::int64_t(sum);
  }

  std::int64_t of(std::int64_t b, std::int64_t x, std::int64_t y, std::int64_t z) const {
    return std::int64_t(std::uint64_t(step[0]) * std::uint64_t(b) +
                        std::uint64_t(step[1]) * std::uint64_t(x) +
                        std::uint64_t(step[2]) * std::uint64_t(y) +
                        std::uint64_t(step[3]) * std::uint64_t(z) - std::uint64_t(base));
  }
  std::int64_t of(const Site& s) const { return of(s.b, s.x, s.y, s.z); }
  std::int64_t move(const std::int64_t* offset) const {
    return std::int64_t(std::uint64_t(step[1]) * std::uint64_t(offset[0]) +
                        std::uint64_t(step[2]) * std::uint64_t(offset[1]) +
                        std::uint64_t(step[3]) * std::uint64_t(offset[2]));
  }
};

}  // namespace sparseconv
