#include <algorithm>
#include <numeric>
#include <vector>

#include "core/dtype.hpp"
#include "core/row_list.hpp"
#include "core/tiles.hpp"
#include "core/walk.hpp"
#include "kernels/conv.hpp"

namespace sparseconv {
namespace {

// pairs are walked tile by tile, all taps of a task in one, so that rows stay in the cache; a tile
// of this many output rows still has enough pairs a tap to outweigh adding them to the sums
constexpr std::int64_t tile_rows = 2048;
// a gradient that does not stay in the caches until somebody reads it is written past them: its lines
// need not be read first
constexpr std::int64_t large_bytes = std::int64_t(2) << 20;
// sums of one task
constexpr std::int64_t sums_bytes = 4 * 1024 * 1024;
// narrower blocks of channels leave too little to do for a gathered row
constexpr std::int64_t least_channels = 16;
// times its share that a thread may have to do before channels are cut
constexpr double most_uneven = 1.1;
// of its share that a thread is given in one task: the rest are small ones, for no two threads are as
// fast, nor begin at the same time
constexpr double most_at_once = 0.8;

// Part of the weight: some taps, channels [first_c, +channels) of a group times output columns
// [first_d, +width).
struct Item {
  const std::vector<std::int64_t>* taps;
  std::int64_t group, first_c, channels, first_d, width;
};

// Taps of each part, and how many times its share the largest has to do.
struct TapParts {
  std::vector<std::vector<std::int64_t>> parts;
  double uneven;
};

// Cut n in the fewest equal parts of at most `limit`.
std::int64_t part_size(std::int64_t n, std::int64_t limit) {
  const std::int64_t parts = (n + limit - 1) / limit;
  return parts > 0 ? (n + parts - 1) / parts : 1;
}

template <class S, class T>
struct GradWeight {
  const Loops<S, T>& loops;
  const ConvShape& shape;
  const S* x;
  const S* g;
  const Pairs& pairs;
  const std::int64_t* by_row;  // or null
  S* to;       // [taps, C / G, D]
  T* wide_to;  // instead of to, or null
  int threads;

  void store(const T* sums, std::int64_t at, std::int64_t n) const {
    if (wide_to != nullptr)
      std::copy_n(sums, n, wide_to + at);
    else
      loops.narrow(sums, to + at, n);
  }

  // Where the result has the type of sums; else null.
  T* wide_result() const {
    if constexpr (sizeof(S) == sizeof(T)) return to;
    return wide_to;
  }

  // Taps in parts of about equal numbers of pairs: the largest first, each to the smallest part. On
  // several threads the smallest taps are parts of their own, taken by whoever comes to an end first.
  TapParts tap_parts(std::int64_t count) const {
    std::vector<std::int64_t> order(pairs.taps), load(count);
    const auto size = [&](std::int64_t t) { return pairs.segments[t + 1] - pairs.segments[t]; };
    std::iota(order.begin(), order.end(), std::int64_t(0));
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int64_t a, std::int64_t b) { return size(a) > size(b); });
    const double room = double(pairs.count) / double(count) * (threads > 1 ? most_at_once : 1);
    TapParts made{std::vector<std::vector<std::int64_t>>(count), 1};
    for (const std::int64_t t : order) {
      const std::int64_t part = std::min_element(load.begin(), load.end()) - load.begin();
      if (threads > 1 && load[part] > 0 && double(load[part] + size(t)) > room) {
        made.parts.push_back({t});
        continue;
      }
      load[part] += size(t);
      made.parts[part].push_back(t);
    }
    for (std::vector<std::int64_t>& part : made.parts) std::sort(part.begin(), part.end());
    const std::int64_t most = *std::max_element(load.begin(), load.end());
    if (pairs.count > 0) made.uneven = double(most) * double(count) / double(pairs.count);
    return made;
  }

  // Every range of rows has sums of its own, added up in order: all taps of a row are multiplied
  // while it is in the cache, and no number of threads changes a bit. Where taps are many, ranges
  // are long, or their sums would take more than the gradients do.
  void depthwise(const RowList& list) const {
    const std::int64_t range = std::max<std::int64_t>(512, pairs.taps);
    const std::int64_t ld = loops.tap_width(shape.width, shape.width), size = pairs.taps * ld;
    const std::int64_t ranges = (shape.num_out + range - 1) / range;
    Buffer<T> sums(std::max<std::int64_t>(ranges, 1) * size);
    std::fill_n(sums.data(), sums.size(), T(0));
    parallel_ranges(shape.num_out, range, threads, [&](std::int64_t begin, std::int64_t end) {
      loops.multiply_rows(x, shape.width, g + begin * shape.width, shape.width, shape.width,
                          list.walk(begin, end - begin),
                          sums.data() + begin / range * size, ld);
    });
    parallel_tasks(pairs.taps, threads, [&](std::int64_t t) {
      T* total = sums.data() + t * ld;
      for (std::int64_t r = 1; r < ranges; ++r)
        for (std::int64_t c = 0; c < ld; ++c) total[c] += total[r * size + c];
      loops.settle_taps(shape.width, 1, total, ld);
      store(total, t * shape.width, shape.width);
    });
  }

  // Groups of a few channels on one side and one on the other, by ranges too.
  void narrow(bool ordered, int per_group) const {
    const bool join = shape.width == shape.groups;
    const std::int64_t many = per_group * shape.groups, size = pairs.taps * many;
    // as many ranges as their sums stay below those of a depthwise layer of as many rows
    const std::int64_t range =
        std::max<std::int64_t>(512, (pairs.taps * per_group * 16 + 511) / 512 * 512);
    const std::int64_t ranges = (shape.num_out + range - 1) / range;
    Buffer<T> sums(std::max<std::int64_t>(ranges, 1) * size);
    std::fill_n(sums.data(), sums.size(), T(0));
    walk_rows<T>(pairs, ordered, shape.num_out,
                 ordered ? block_rows(many * std::int64_t(sizeof(T))) : range, range, 0, threads,
                 [&](const TapWalk& walk, std::int64_t at, T*) {
                   loops.multiply_narrow(x, g, shape.groups, per_group, join, walk,
                                         sums.data() + at * size);
                 });
    parallel_tasks(pairs.taps, threads, [&](std::int64_t t) {
      T* total = sums.data() + t * many;
      for (std::int64_t r = 1; r < ranges; ++r)
        for (std::int64_t c = 0; c < many; ++c) total[c] += total[r * size + c];
      if (!join) return store(total, t * many, many);
      Buffer<T> turned(many);
      for (std::int64_t c = 0; c < many; ++c)
        turned[c % per_group * shape.groups + c / per_group] = total[c];
      store(turned.data(), t * many, many);
    });
  }

  // A block takes all taps where their sums fit the cache, so that a tile of rows is fetched once.
  // For more threads than blocks the taps are parted, for that does no work twice; channels only
  // where a single tap, such as the centre of a sparse scan, has more than a thread's share. No
  // cut changes an element.
  std::vector<Item> items(TapParts& taps) const {
    const std::int64_t per_group = shape.channels / shape.groups;
    const std::int64_t group_width = shape.width / shape.groups;
    const std::int64_t whole = pairs.taps * std::int64_t(sizeof(T));
    std::int64_t step_c = part_size(per_group, outer_limit);
    std::int64_t step_d = part_size(group_width, outer_limit);
    const auto blocks = [&] {
      return shape.groups * ((per_group + step_c - 1) / step_c) *
             ((group_width + step_d - 1) / step_d);
    };
    while (step_c * step_d * whole > sums_bytes && std::max(step_c, step_d) > least_channels)
      (step_c >= step_d ? step_c : step_d) = (std::max(step_c, step_d) + 1) / 2;
    for (;; step_c = (step_c + 1) / 2) {
      const bool enough = blocks() % threads == 0 || blocks() >= 4 * threads;
      const std::int64_t wanted = enough ? 1 : parts_for(blocks());
      taps = tap_parts(std::min(pairs.taps, wanted));
      const double idle = double(wanted) / double(std::min(pairs.taps, wanted));
      if (taps.uneven * idle <= most_uneven || step_c <= least_channels) break;
    }
    std::vector<Item> list;
    for (const std::vector<std::int64_t>& part : taps.parts)
      for (std::int64_t group = 0; group < shape.groups; ++group)
        for (std::int64_t c = 0; c < per_group; c += step_c)
          for (std::int64_t d = 0; d < group_width; d += step_d)
            list.push_back({&part, group, c, std::min(step_c, per_group - c),
                            group * group_width + d, std::min(step_d, group_width - d)});
    return list;
  }

  // The fewest parts of the taps that give every thread as many tasks as the others.
  std::int64_t parts_for(std::int64_t blocks) const {
    return threads / std::gcd(blocks, std::int64_t(threads));
  }

  void general() const {
    const std::int64_t per_group = shape.channels / shape.groups;
    TapParts parts;
    const std::vector<Item> list = items(parts);
    const std::int64_t bytes = pairs.taps * per_group * shape.width * std::int64_t(sizeof(T));
    const auto run_task = [&](const Tiles& tiles, std::int64_t i) {
      const Item& item = list[i];
      const std::int64_t wide = loops.padded(item.width);
      const std::int64_t size = item.channels * wide;
      const std::vector<std::int64_t>& taps = *item.taps;
      const std::int64_t count = std::int64_t(taps.size());
      const auto place = [&](std::int64_t t, std::int64_t c) {
        return (t * per_group + item.first_c + c) * shape.width + item.first_d;
      };
      // sums where the result will be, or aside: then those of a tap are done with where all rows are
      // one tile, and need not leave the cache
      T* result = wide_result();
      const bool direct = result != nullptr && wide == item.width, once = tiles.count == 1;
      const bool past = direct && once && bytes >= large_bytes;
      Buffer<T> sums(direct ? 0 : once ? size : count * size);
      const auto write = [&](const T* from, std::int64_t t) {
        for (std::int64_t c = 0; c < item.channels; ++c)
          store(from + c * wide, place(t, c), item.width);
      };
      const Ready ready(loops);
      for (std::int64_t tile = 0; tile < tiles.count; ++tile)
        for (std::int64_t k = 0; k < count; ++k) {
          const std::int64_t begin = tiles.begin(tile, taps[k]);
          const std::int64_t n = tiles.end(tile, taps[k]) - begin;
          const bool same = k + 1 < count, more = same || tile + 1 < tiles.count;
          const std::int64_t next_tile = same ? tile : tile + 1, next_t = taps[same ? k + 1 : 0];
          const std::int64_t next = more ? tiles.begin(next_tile, next_t) : begin;
          T* to = direct ? result + place(taps[k], 0) : sums.data() + (once ? 0 : k * size);
          loops.gather_outer(x + item.group * per_group + item.first_c, shape.ldx,
                             item.channels, g + item.first_d, shape.ldy, item.width,
                             tiles.in + begin, tiles.out + begin, n, tiles.in + next,
                             tiles.out + next, more ? tiles.end(next_tile, next_t) - next : 0,
                             tile > 0, to, direct ? shape.width : wide, past);
          if (once && !direct) write(to, taps[k]);
        }
      for (std::int64_t k = 0; !once && !direct && k < count; ++k)
        write(sums.data() + k * size, taps[k]);
    };
    // a hundred multiply-adds a nanosecond, and as much for a weight as for one of its pairs
    const std::int64_t work = (pairs.count + pairs.taps * 64) * per_group * shape.width / 64;
    over_tiles(pairs, shape.num_in, shape.num_out, TileBounds::even(shape.num_out, tile_rows), 0,
               std::int64_t(list.size()),
               worth_sharing(work, threads), [](std::int64_t) {}, run_task);
  }

  void nothing() const {
    Buffer<T> zeros(shape.width);
    std::fill_n(zeros.data(), shape.width, T(0));
    const std::int64_t rows = pairs.taps * shape.channels / shape.groups;
    for (std::int64_t row = 0; row < rows; ++row) store(zeros.data(), row * shape.width, shape.width);
  }

  void run() const {
    const bool by_channel =
        shape.groups > 1 && shape.channels == shape.groups && shape.width == shape.groups;
    const bool listed = by_channel && by_row != nullptr;
    const bool empty = shape.width == 0 || shape.channels == 0 || pairs.taps == 0;
    const int per_group = by_channel ? 0 : narrow_groups(shape, loops.lanes);
    if (!empty)
      prefer_large_pages(wide_to != nullptr ? static_cast<void*>(wide_to) : to,
                         pairs.taps * shape.channels / shape.groups * shape.width *
                             std::int64_t(wide_to != nullptr ? sizeof(T) : sizeof(S)));
    const bool none = shape.num_out == 0;
    if (!empty && !none && !by_channel && per_group == 0) return general();
    const bool ordered = listed || check_pairs(pairs, shape.num_in, shape.num_out, threads);
    if (empty) return;
    if (none) return nothing();
    if (listed) return depthwise(check_row_list(by_row, pairs, shape.num_in, shape.num_out));
    if (per_group > 0) return narrow(ordered, per_group);
    Buffer<std::int64_t> made(row_list_size(shape.num_out, pairs.count));
    build_row_list(pairs, ordered, shape.num_out, pairs.count, made.data(), threads);
    depthwise(RowList(made.data(), shape.num_out));
  }
};

}  // namespace

void conv_grad_weight(int dtype, const ConvShape& shape, const void* x, const void* g,
                      const Pairs& pairs, const std::int64_t* by_row, void* grad_weight, bool wide,
                      int threads) {
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    GradWeight<S, T>{loops,
                     shape,
                     static_cast<const S*>(x),
                     static_cast<const S*>(g),
                     pairs,
                     by_row,
                     wide ? nullptr : static_cast<S*>(grad_weight),
                     wide ? static_cast<T*>(grad_weight) : nullptr,
                     threads}
        .run();
  });
}

}  // namespace sparseconv
