// Pairs of a rulebook, and their split by output tile.
#pragma once
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/buffer.hpp"
#include "core/parallel.hpp"

namespace sparseconv {

struct Pairs {
  const std::int32_t* in;        // [P]
  const std::int32_t* out;       // [P]
  const std::int64_t* segments;  // [taps + 1], pairs of tap t are segments[t] .. segments[t + 1]
  std::int64_t taps;
  std::int64_t count;  // P
};

// Throw std::invalid_argument unless segments go from 0 to P without falling and every row is in
// range; return whether output rows never fall within a segment. `swapped`: the caller's inputs are
// outputs here, which errors say.
inline bool check_pairs(const Pairs& pairs, std::int64_t num_in, std::int64_t num_out, int threads,
                        bool swapped = false) {
  bool ordered = pairs.segments[0] == 0 && pairs.segments[pairs.taps] == pairs.count;
  for (std::int64_t t = 0; t < pairs.taps; ++t)
    ordered = ordered && pairs.segments[t] <= pairs.segments[t + 1];
  if (!ordered)
    throw std::invalid_argument("segments: expected numbers that never fall, from 0 to " +
                                std::to_string(pairs.count));
  constexpr std::int64_t piece = 1 << 15;
  const std::int64_t pieces = (pairs.count + piece - 1) / piece;
  std::vector<std::int64_t> falls(pieces), bad(pieces);
  const auto last = [](std::int64_t rows) {
    return std::uint32_t(std::min<std::int64_t>(rows, std::int64_t(1) << 31) - 1);
  };
  const std::uint32_t last_in = last(num_in), last_out = last(num_out);
  const int team = worth_sharing(pairs.count / 3, threads);
  parallel_ranges(pairs.count, piece, team, [&](std::int64_t begin, std::int64_t end) {
    // the sign of a number or of its distance to the last row shows what is out of range
    std::uint32_t signs_in = 0, signs_out = 0;
    std::int32_t fallen = 0;
    const std::int64_t second = std::max<std::int64_t>(begin, 1);
    for (std::int64_t p = begin; p < second; ++p) {
      const std::uint32_t i = std::uint32_t(pairs.in[p]), o = std::uint32_t(pairs.out[p]);
      signs_in |= i | (last_in - i);
      signs_out |= o | (last_out - o);
    }
    for (std::int64_t p = second; p < end; ++p) {
      const std::uint32_t i = std::uint32_t(pairs.in[p]), o = std::uint32_t(pairs.out[p]);
      signs_in |= i | (last_in - i);
      signs_out |= o | (last_out - o);
      fallen += pairs.out[p] < pairs.out[p - 1];
    }
    falls[begin / piece] = fallen;
    bad[begin / piece] = signs_in >> 31 ? 1 : (signs_out >> 31 ? 2 : 0);
  });
  std::int64_t fallen = 0;
  for (std::int64_t i = 0; i < pieces; ++i) {
    fallen += falls[i];
    if (bad[i] == 0) continue;
    const std::int64_t rows = bad[i] == 1 ? num_in : num_out;
    throw std::invalid_argument(
        (bad[i] == 1) != swapped
            ? "in_rows: expected rows below " + std::to_string(rows) +
                  ", found others; use the rulebook of these features' sites"
            : "out_rows: expected rows below " + std::to_string(rows) +
                  ", found others; use the rulebook of these output sites");
  }
  // a fall from one segment to the next is none, with or without empty ones between
  for (std::int64_t t = 1; t < pairs.taps; ++t) {
    const std::int64_t p = pairs.segments[t];
    if (p > pairs.segments[t - 1] && p < pairs.count) fallen -= pairs.out[p] < pairs.out[p - 1];
  }
  return fallen == 0;
}

// The pairs of every (tile of `rows` output rows, tap), in their order.
//
// Where output rows never fall within a tap the pairs are used in place and only boundaries are
// found; else they are moved by a stable counting sort, which takes 8 P bytes. Boundaries take
// 16 bytes a tile and tap.
class Tiles {
 public:
  // keep_source: remember where moved pairs came from (8 P bytes more).
  Tiles(const Pairs& pairs, bool ordered, std::int64_t num_out, std::int64_t rows, int threads,
        bool keep_source = false)
      : in(pairs.in),
        out(pairs.out),
        rows(rows),
        count((num_out + rows - 1) / rows),
        taps_(pairs.taps),
        shift_(shift_of(rows)),
        begin_(count * pairs.taps),
        end_(count * pairs.taps) {
    if (ordered)
      split(pairs, threads);
    else
      sort(pairs, threads, keep_source);
  }

  std::int64_t begin(std::int64_t tile, std::int64_t tap) const {
    return begin_[tile * taps_ + tap];
  }
  std::int64_t end(std::int64_t tile, std::int64_t tap) const { return end_[tile * taps_ + tap]; }

  const std::int32_t* in;                // bucketed pairs
  const std::int32_t* out;               // bucketed pairs
  const std::int64_t* source = nullptr;  // where moved pairs were; null: not moved, or not kept
  const std::int64_t rows;
  const std::int64_t count;  // tiles

 private:
  // rows where they are a power of 2, which is the usual case, as a shift; -1: not
  static int shift_of(std::int64_t rows) {
    int shift = 0;
    while ((std::int64_t(1) << shift) < rows) ++shift;
    return (std::int64_t(1) << shift) == rows ? shift : -1;
  }
  std::int64_t tile_of(std::int32_t row) const { return shift_ >= 0 ? row >> shift_ : row / rows; }

  void split(const Pairs& pairs, int threads) {
    const int team = worth_sharing(count * pairs.taps * 40, threads);
    parallel_tasks(pairs.taps, team, [&](std::int64_t t) {
      const std::int32_t* stop = pairs.out + pairs.segments[t + 1];
      const std::int32_t* from = pairs.out + pairs.segments[t];
      for (std::int64_t tile = 0; tile < count; ++tile) {
        const std::int64_t bound = (tile + 1) * rows;
        // the boundary is near: search in growing steps first
        std::int64_t step = 8;
        while (step < stop - from && from[step] < bound) step *= 2;
        const std::int32_t* to =
            std::lower_bound(from + (step > 8 ? step / 2 : 0), std::min(from + step, stop), bound);
        begin_[tile * taps_ + t] = from - pairs.out;
        end_[tile * taps_ + t] = to - pairs.out;
        from = to;
      }
    });
  }

  // each task writes the counters and the places of one tap alone
  void sort(const Pairs& pairs, int threads, bool keep_source) {
    moved_in_ = Buffer<std::int32_t>(pairs.count);
    moved_out_ = Buffer<std::int32_t>(pairs.count);
    if (keep_source) source_ = Buffer<std::int64_t>(pairs.count);
    std::fill(end_.begin(), end_.end(), 0);
    const int team = worth_sharing(pairs.count, threads);
    parallel_tasks(pairs.taps, team, [&](std::int64_t t) {
      for (std::int64_t p = pairs.segments[t]; p < pairs.segments[t + 1]; ++p)
        ++end_[tile_of(pairs.out[p]) * taps_ + t];
    });
    std::int64_t place = 0;
    for (std::size_t b = 0; b < end_.size(); ++b) {
      begin_[b] = place;
      place += end_[b];
      end_[b] = begin_[b];
    }
    parallel_tasks(pairs.taps, team, [&](std::int64_t t) {
      for (std::int64_t p = pairs.segments[t]; p < pairs.segments[t + 1]; ++p) {
        const std::int64_t to = end_[tile_of(pairs.out[p]) * taps_ + t]++;
        moved_in_[to] = pairs.in[p];
        moved_out_[to] = pairs.out[p];
        if (keep_source) source_[to] = p;
      }
    });
    in = moved_in_.data();
    out = moved_out_.data();
    if (keep_source) source = source_.data();
  }

  std::int64_t taps_;
  int shift_;
  std::vector<std::int64_t> begin_, end_;  // [count, taps]
  Buffer<std::int32_t> moved_in_, moved_out_;
  Buffer<std::int64_t> source_;
};

}  // namespace sparseconv
