// Pairs of a rulebook, split by output tile.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/buffer.hpp"
#include "core/pairs.hpp"
#include "core/parallel.hpp"

namespace sparseconv {

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
    if (!ordered) {
      sort(pairs, threads, keep_source);
      return;
    }
    const int team = worth_sharing(count * pairs.taps * 40, threads);
    parallel_tasks(pairs.taps, team, [&](std::int64_t t) { split(pairs, t); });
  }

  // Of pairs in order, but not yet split: every tap must be, before it is asked for.
  Tiles(const Pairs& pairs, std::int64_t num_out, std::int64_t rows)
      : in(pairs.in),
        out(pairs.out),
        rows(rows),
        count((num_out + rows - 1) / rows),
        taps_(pairs.taps),
        shift_(shift_of(rows)),
        begin_(count * pairs.taps),
        end_(count * pairs.taps) {}

  // Find the boundaries of a tap; in pairs that are not in order it finds nothing of use.
  void split(const Pairs& pairs, std::int64_t t) {
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

// Run run(tiles, task) for task in [0, tasks) over tiles of pairs nobody has checked, once make(i) has been run
// for i in [0, makes): in one parallel region where output rows never fall within a tap.
template <class Make, class Run>
void over_tiles(const Pairs& pairs, std::int64_t num_in, std::int64_t num_out, std::int64_t rows,
                std::int64_t makes, std::int64_t tasks, int threads, Make&& make, Run&& run) {
  PairCheck check(pairs, num_in, num_out);
  Tiles split(pairs, num_out, rows);
  const std::int64_t pieces = check.pieces(), before = pieces + pairs.taps;
  bool ordered = false;
  parallel_stages(
      before + makes, tasks, threads,
      [&](std::int64_t i) {
        if (i < pieces)
          check.check(i);
        else if (i < before)
          split.split(pairs, i - pieces);
        else
          make(i - before);
      },
      [&] { return ordered = check.finish(); }, [&](std::int64_t task) { run(split, task); });
  if (ordered) return;
  const Tiles moved(pairs, false, num_out, rows, threads);
  parallel_tasks(tasks, threads, [&](std::int64_t task) { run(moved, task); });
}

}  // namespace sparseconv
