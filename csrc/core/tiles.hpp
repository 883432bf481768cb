// Pairs of a rulebook, split by output tile.
#pragma once
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/buffer.hpp"
#include "core/pairs.hpp"
#include "core/parallel.hpp"

namespace sparseconv {

// Where tiles of output rows begin, and behind the last where it ends: whole units, but for that end.
struct TileBounds {
  std::int64_t unit;                // rows
  std::vector<std::int64_t> begin;  // [tiles + 1]

  // Tiles of `rows` each.
  static TileBounds even(std::int64_t num_out, std::int64_t rows) {
    TileBounds made{rows, {}};
    made.begin.reserve(num_out / rows + 2);
    for (std::int64_t row = 0; row < num_out; row += rows) made.begin.push_back(row);
    made.begin.push_back(num_out);
    return made;
  }

  // Tiles of `most` rows that get smaller towards the end, down to a unit: what threads wait for the last
  // one at work is the smaller for it.
  static TileBounds tapering(std::int64_t num_out, std::int64_t most, std::int64_t unit,
                             int threads) {
    if (threads == 1 || most <= unit) return even(num_out, most);
    TileBounds made{unit, {0}};
    for (std::int64_t row = 0; row < num_out;) {
      const std::int64_t share = (num_out - row) / (2 * threads) / unit * unit;
      row = std::min(num_out, row + std::clamp(share, unit, most / unit * unit));
      made.begin.push_back(row);
    }
    return made;
  }
};

// The pairs of every (tile of output rows, tap), in their order.
//
// Where output rows never fall within a tap the pairs are used in place and only boundaries are
// found; else they are moved by a stable counting sort, which takes 8 P bytes. Boundaries take
// 16 bytes a tile and tap.
class Tiles {
 public:
  // keep_source: remember where moved pairs came from (8 P bytes more).
  Tiles(const Pairs& pairs, bool ordered, std::int64_t num_out, std::int64_t rows, int threads,
        bool keep_source = false)
      : Tiles(pairs, TileBounds::even(num_out, rows)) {
    if (!ordered) {
      sort(pairs, threads, keep_source);
      return;
    }
    const int team = worth_sharing(count * pairs.taps * 40, threads);
    parallel_tasks(pairs.taps, team, [&](std::int64_t t) { split(pairs, t); });
  }

  // Not yet split, as pairs in order are tap by tap, nor sorted: must be before a pair is asked for.
  Tiles(const Pairs& pairs, TileBounds bounds)
      : in(pairs.in),
        out(pairs.out),
        count(std::int64_t(bounds.begin.size()) - 1),
        bounds_(std::move(bounds)),
        taps_(pairs.taps),
        begin_(count * pairs.taps),
        end_(count * pairs.taps) {}

  // Find the boundaries of a tap; in pairs that are not in order it finds nothing of use.
  void split(const Pairs& pairs, std::int64_t t) {
    const std::int32_t* stop = pairs.out + pairs.segments[t + 1];
    const std::int32_t* from = pairs.out + pairs.segments[t];
    for (std::int64_t tile = 0; tile < count; ++tile) {
      const std::int64_t bound = bounds_.begin[tile + 1];
      // the boundary is near: search in growing steps first
      std::int64_t step = 8;
      while (step < stop - from && from[step] < bound) step *= 2;
      const std::int32_t* to =
          std::lower_bound(from + (step > 8 ? step / 2 : 0), std::min(from + step, stop), bound);
      begin_[tile * taps_ + t] = from - pairs.out;
      end_[tile * taps_ + t] = to - pairs.out;
      from = to;
    }
  }

  std::int64_t begin(std::int64_t tile, std::int64_t tap) const {
    return begin_[tile * taps_ + tap];
  }
  std::int64_t end(std::int64_t tile, std::int64_t tap) const { return end_[tile * taps_ + tap]; }

  // The first output row of a tile, and how many it has.
  std::int64_t row(std::int64_t tile) const { return bounds_.begin[tile]; }
  std::int64_t rows(std::int64_t tile) const { return bounds_.begin[tile + 1] - row(tile); }

  const std::int32_t* in;                // bucketed pairs
  const std::int32_t* out;               // bucketed pairs
  const std::int64_t* source = nullptr;  // where moved pairs were; null: not moved, or not kept
  const std::int64_t count;  // tiles

  // Move pairs whose output rows fall to where their tile begins. Each task writes the counters and the
  // places of one tap alone.
  void sort(const Pairs& pairs, int threads, bool keep_source) {
    // the tile of a row, by the unit it lies in
    const std::int64_t unit = bounds_.unit;
    int shift = 0;  // of the unit, which mostly is a power of 2
    while ((std::int64_t(1) << shift) < unit) ++shift;
    const bool shifted = (std::int64_t(1) << shift) == unit;
    std::vector<std::int32_t> tile_of_unit;
    for (std::int64_t tile = 0; tile < count; ++tile)
      tile_of_unit.insert(tile_of_unit.end(), (rows(tile) + unit - 1) / unit, std::int32_t(tile));
    const auto tile_of = [&](std::int32_t row) {
      return std::int64_t(tile_of_unit[shifted ? row >> shift : row / unit]);
    };
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

 private:
  TileBounds bounds_;
  std::int64_t taps_;
  std::vector<std::int64_t> begin_, end_;  // [count, taps]
  Buffer<std::int32_t> moved_in_, moved_out_;
  Buffer<std::int64_t> source_;
};

// Run run(tiles, task) for task in [0, tasks) over tiles of pairs nobody has checked, once make(i) has
// been run for i in [0, makes): in one parallel region where output rows never fall within a tap.
template <class Make, class Run>
void over_tiles(const Pairs& pairs, std::int64_t num_in, std::int64_t num_out, TileBounds bounds,
                std::int64_t makes, std::int64_t tasks, int threads, Make&& make, Run&& run) {
  PairCheck check(pairs, num_in, num_out);
  Tiles tiles(pairs, std::move(bounds));
  const std::int64_t pieces = check.pieces(), before = pieces + pairs.taps;
  bool ordered = false;
  parallel_stages(
      before + makes, tasks, threads,
      [&](std::int64_t i) {
        if (i < pieces)
          check.check(i);
        else if (i < before)
          tiles.split(pairs, i - pieces);
        else
          make(i - before);
      },
      [&] { return ordered = check.finish(); }, [&](std::int64_t task) { run(tiles, task); });
  if (ordered) return;
  tiles.sort(pairs, threads, false);
  parallel_tasks(tasks, threads, [&](std::int64_t task) { run(tiles, task); });
}

}  // namespace sparseconv
