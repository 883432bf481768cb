#include "kernels/conv.hpp"

#include "core/dtype.hpp"
#include "core/row_list.hpp"
#include "core/tiles.hpp"
#include "core/walk.hpp"
#include "kernels/conv_weights.hpp"

namespace sparseconv {
namespace {

// sums of one tile take at most this, a quarter of a usual second-level cache
constexpr std::int64_t tile_bytes = 256 * 1024;
constexpr std::int64_t most_rows = 2048;
constexpr std::int64_t least_rows = 64;
// output columns of one task: more rows fit in a tile, and few tiles still make many tasks
constexpr std::int64_t block_width = 128;
// output rows that make one tile, of whose columns each task packs the weights it needs when it needs
// them: few rows use a weight too seldom to write all of them down and read them back
constexpr std::int64_t few_rows = 1024;
constexpr std::int64_t least_width = 32;

TileBounds tile_bounds(std::int64_t num_out, std::int64_t row_bytes, std::int64_t blocks,
                       int threads) {
  const std::int64_t rows = std::clamp(tile_bytes / row_bytes, least_rows, most_rows);
  const bool enough = num_out / (2 * least_rows) * blocks >= 4 * threads;
  return TileBounds::tapering(num_out, rows, enough ? 2 * least_rows : least_rows, threads);
}

// A block of output columns within one group.
struct Columns {
  std::int64_t group, first, width, packed;  // packed: where its weights of tap 0 begin
};

template <class S, class T>
struct Conv {
  const Loops<S, T>& loops;
  const ConvShape& shape;
  const S* x;
  ConvWeights<S, T> weights;
  const S* bias;
  const Pairs& pairs;
  const std::int64_t* by_row;  // or null
  const Norm& norm;
  const Residual& residual;
  bool relu;
  S* y;
  int threads;
  KeptWeights* kept;  // or null
  // of the norm: mean, scale and shift, side by side
  Buffer<T> columns{norm.mean == nullptr ? 0 : 3 * shape.width};

  static constexpr bool same_type = sizeof(S) == sizeof(T);

  // Set `width` columns of the sums to the bias; columns beyond it are never read.
  void start(T* sums, std::int64_t rows, std::int64_t ld, std::int64_t first,
             std::int64_t width) const {
    std::fill_n(sums, width, T(0));
    if (bias != nullptr) loops.widen(bias + first, sums, width);
    for (std::int64_t r = 1; r < rows; ++r) std::copy_n(sums, width, sums + r * ld);
  }

  // Whether sums are the result.
  bool plain() const { return norm.mean == nullptr && residual.rows == nullptr && !relu; }

  void fill_columns() {
    if (norm.mean == nullptr) return;
    T* const mean = columns.data();
    for (std::int64_t c = 0; c < shape.width; ++c) {
      mean[c] = norm.mean_of<T>(c);
      mean[shape.width + c] = norm.scale_of<T>(c);
      mean[2 * shape.width + c] = norm.shift_of<T>(c);
    }
  }

  // Normalise sums from a row and a column on, add residuals, take the ReLU and round.
  void finish(T* sums, std::int64_t ld, std::int64_t row, std::int64_t rows, std::int64_t first,
              std::int64_t width, S* to, std::int64_t ldt) const {
    const bool normed = norm.mean != nullptr, lifts = residual.from != nullptr;
    const T* const mean = normed ? columns.data() + first : nullptr;
    const S* const others = lifts ? nullptr : static_cast<const S*>(residual.rows);
    loops.finish_rows(sums, ld, mean, normed ? mean + shape.width : nullptr,
                      normed ? mean + 2 * shape.width : nullptr,
                      others == nullptr ? nullptr : others + row * residual.ld + first, residual.ld,
                      rows, width, relu, to, ldt);
  }

  // Hand each task its sums: in place where y has their type and whole vectors, else aside. They
  // begin with the bias where `begun` is not set: then the task writes every row itself.
  template <class Fill>
  void tile_task(const Tiles& tiles, std::int64_t tile, std::int64_t first, std::int64_t width,
                 std::int64_t wide, bool begun, Fill&& fill) const {
    const std::int64_t row = tiles.row(tile), rows = tiles.rows(tile);
    const std::int64_t ld = shape.ldy;
    S* to = y + row * ld + first;
    const auto lift = [&](T* sums, std::int64_t pitch) {
      const bool last = first + width == shape.width;
      loops.lift_rows(static_cast<const S*>(residual.rows) + first, residual.ld,
                      residual.from + row, residual.counts, rows, width,
                      last ? residual.width - shape.width : 0, sums, pitch, to + width, ld);
    };
    const bool lifts = residual.from != nullptr;
    if constexpr (same_type) {
      if (wide == width) {
        if (!begun) start(to, rows, ld, first, width);
        fill(to, ld, row);
        if (lifts) lift(to, ld);
        if (!lifts && !plain()) finish(to, ld, row, rows, first, width, to, ld);
        return;
      }
    }
    Buffer<T> sums(rows * wide);
    if (!begun) start(sums.data(), rows, wide, first, width);
    fill(sums.data(), wide, row);
    if (lifts) lift(sums.data(), wide);
    finish(sums.data(), wide, row, rows, first, width, to, ld);
  }

  // Normalise, add residuals, take the ReLU and write a block of rows.
  void finish_block(T* sums, std::int64_t first, std::int64_t rows, bool past) const {
    const std::int64_t width = shape.width;
    S* const to = y + first * width;
    if (!plain() && !(same_type && past))
      return finish(sums, width, first, rows, 0, width, to, width);
    if constexpr (same_type)
      if (!plain()) finish(sums, width, first, rows, 0, width, sums, width);
    loops.put_rows(sums, width, rows, width, to, past);
  }

  // Groups of a few channels that become one, or the reverse: as for depthwise layers.
  void narrow(bool ordered, int per_group) const {
    const bool join = shape.width == shape.groups;
    const std::int64_t* const strides = weights.strides;
    const std::int64_t many = per_group * shape.groups;
    Buffer<T> wide(pairs.taps * many);
    for (std::int64_t t = 0; t < pairs.taps; ++t)
      for (std::int64_t c = 0; c < many; ++c)
        wide[t * many + c] =
            weights.at(t * strides[0] + (join ? c % per_group * strides[1] + c / per_group * strides[2]
                                              : c * strides[2]));
    Buffer<T> starts(shape.width);
    start(starts.data(), 1, shape.width, 0, shape.width);
    const std::int64_t block = block_rows(many * std::int64_t(sizeof(T)));
    const bool past = past_caches(shape.num_out * shape.width * std::int64_t(sizeof(S)));
    walk_rows<T>(pairs, ordered, shape.num_out, block,
                 task_rows(ordered, shape.num_out, block, threads), block * shape.width, threads,
                 [&](const TapWalk& walk, std::int64_t, T* sums) {
                   for (std::int64_t r = 0; r < walk.rows; ++r)
                     std::copy_n(starts.data(), shape.width, sums + r * shape.width);
                   loops.narrow_taps(x, shape.groups, per_group, join, wide.data(), walk, sums);
                   finish_block(sums, walk.first, walk.rows, past);
                 });
  }

  // The sums of a row in registers, and from there to the result where nothing is left to do.
  void depthwise(const RowList& list) const {
    const std::int64_t width = shape.width;
    Buffer<T> wide(pairs.taps * width);
    weights.widen_channels(pairs.taps, width, wide.data());
    Buffer<T> starts(width);
    start(starts.data(), 1, width, 0, width);
    const bool past = past_caches(shape.num_out * width * std::int64_t(sizeof(S)));
    const bool direct = same_type && plain();
    const std::int64_t rows = task_rows(true, shape.num_out, 64, threads);
    const std::int64_t block = direct ? rows : block_rows(width * std::int64_t(sizeof(T)));
    parallel_ranges(shape.num_out, rows, threads, [&](std::int64_t begin, std::int64_t end) {
      Buffer<T> sums(direct ? 0 : block * width);
      for (std::int64_t first = begin; first < end; first += block) {
        const RowWalk walk = list.walk(first, std::min(block, end - first));
        const std::int64_t at = first * width;
        if constexpr (same_type)
          if (direct) {
            loops.scale_rows(x, width, width, wide.data(), width, walk, starts.data(), y + at, width,
                             past);
            continue;
          }
        loops.scale_rows(x, width, width, wide.data(), width, walk, starts.data(), sums.data(),
                         width, false);
        finish_block(sums.data(), first, walk.rows, past);
      }
    });
  }

  // Whether the centre tap has one pair for every output row, in order, as in a submanifold layer:
  // it then goes first and writes the rows. Asked of all rows at once, so that the order of a sum
  // does not depend on tiles.
  bool centre_covers() const {
    const std::int64_t centre = pairs.taps / 2;
    if (pairs.taps == 0 || pairs.segments[centre + 1] - pairs.segments[centre] != shape.num_out)
      return false;
    const std::int32_t* out = pairs.out + pairs.segments[centre];
    std::int64_t others = 0;
    for (std::int64_t row = 0; row < shape.num_out; ++row) others += out[row] != row;
    return others == 0;
  }

  // Taps in order, or the centre before the others.
  std::int64_t tap_at(std::int64_t i, bool centre_first) const {
    const std::int64_t centre = pairs.taps / 2;
    if (!centre_first || i > centre) return i;
    return i == 0 ? centre : i - 1;
  }

  // Columns of a task where all rows make one tile: as many as give every thread as much to do, for wide
  // ones read weights faster; 0 where there are too many rows or too few columns.
  std::int64_t width_of_few() const {
    if (shape.num_out > few_rows) return 0;
    const std::int64_t group_width = shape.width / shape.groups;
    std::int64_t parts = (group_width + block_width - 1) / block_width;
    const auto even = [&] {
      return parts * shape.groups % threads == 0 || parts * shape.groups >= 4 * threads;
    };
    while (!even()) ++parts;
    const std::int64_t width = loops.padded((group_width + parts - 1) / parts);
    return width >= least_width || parts == 1 ? width : 0;
  }

  void general() const {
    const std::int64_t per_group = shape.channels / shape.groups;
    const std::int64_t group_width = shape.width / shape.groups;
    const std::int64_t few = width_of_few(), step = few > 0 ? few : block_width;
    const std::int64_t rows = (per_group + loops.shared_by - 1) / loops.shared_by;
    std::vector<Columns> blocks;
    std::int64_t tap_size = 0;
    for (std::int64_t group = 0; group < shape.groups; ++group)
      for (std::int64_t d = 0; d < group_width; d += step) {
        const std::int64_t width = std::min(step, group_width - d);
        blocks.push_back({group, group * group_width + d, width, tap_size});
        tap_size += rows * loops.padded(width);
      }
    const std::int64_t kinds = std::int64_t(blocks.size());
    const std::int64_t widest = loops.padded(blocks[0].width);
    TileBounds bounds =
        few > 0 ? TileBounds::even(shape.num_out, few_rows)
                : tile_bounds(shape.num_out, widest * std::int64_t(sizeof(T)), kinds, threads);
    const std::int64_t tiles = std::int64_t(bounds.begin.size()) - 1;
    Buffer<T> starts(kinds * widest);
    std::fill_n(starts.data(), starts.size(), T(0));
    for (std::int64_t kind = 0; kind < kinds; ++kind)
      start(starts.data() + kind * widest, 1, widest, blocks[kind].first, blocks[kind].width);
    const std::int64_t* const strides = weights.strides;
    const KeptWeights::Cut cut{weights.data(),
                               reinterpret_cast<const void*>(loops.gather_gemm),
                               strides[0],
                               strides[1],
                               strides[2],
                               pairs.taps,
                               per_group,
                               group_width,
                               shape.groups,
                               step,
                               weights.wide != nullptr};
    // worth it where less is read then: else the weight itself is as near
    KeptWeights* const keeper = weights.wide != nullptr && loops.shared_by > 1 ? kept : nullptr;
    const std::shared_ptr<const void> found = keeper == nullptr ? nullptr : keeper->find(cut);
    // whether each task packs what it needs when it needs it
    const bool by_task = few > 0 && keeper == nullptr;
    const auto made = std::make_shared<Buffer<T>>(
        by_task || found != nullptr ? 0 : pairs.taps * tap_size);
    const T* const packed = found != nullptr
                                ? static_cast<const Buffer<T>*>(found.get())->data()
                                : made->data();
    const auto pack_block = [&](const Columns& block, std::int64_t t, T* to) {
      weights.pack(t * strides[0] + block.first * strides[2], per_group, block.width, to);
    };
    // what few rows read of a tap in a block of columns
    const auto weights_of = [&](const Columns& block, std::int64_t t) -> Later {
      if (!by_task) {
        const T* const from = packed + t * tap_size + block.packed;
        const std::int64_t size = rows * loops.padded(block.width) * std::int64_t(sizeof(T));
        return {reinterpret_cast<const char*>(from), 0, size, 1};
      }
      const std::int64_t size = weights.wide != nullptr ? sizeof(T) : sizeof(S);
      const char* const all = static_cast<const char*>(weights.data());
      const char* const from = all + (t * strides[0] + block.first * strides[2]) * size;
      if (strides[2] == 1) return {from, strides[1] * size, block.width * size, per_group};
      if (strides[1] == 1) return {from, strides[2] * size, per_group * size, block.width};
      return {};
    };
    bool begun = false;
    const auto make = [&](std::int64_t i) {
      if (i == 0) {
        begun = per_group > 0 && centre_covers();
        return;
      }
      const Columns& block = blocks[(i - 1) % kinds];
      const std::int64_t t = (i - 1) / kinds;
      pack_block(block, t, made->data() + t * tap_size + block.packed);
    };
    const auto run_task = [&](const Tiles& tiles, std::int64_t task) {
      // neighbouring tasks share a block's weights, or, with groups, a tile's rows
      const std::int64_t kind = shape.groups > 1 ? task % kinds : task / tiles.count;
      const std::int64_t tile = shape.groups > 1 ? task / kinds : task % tiles.count;
      const Columns& block = blocks[kind];
      const Ready ready(loops);
      Buffer<T> own(by_task ? rows * loops.padded(block.width) : 0);
      tile_task(
          tiles, tile, block.first, block.width, loops.padded(block.width), begun,
          [&](T* sums, std::int64_t ld, std::int64_t row) {
            for (std::int64_t i = 0; i < pairs.taps; ++i) {
              const std::int64_t t = tap_at(i, begun), soon = tap_at(i + 1, begun);
              const std::int64_t begin = tiles.begin(tile, t), count = tiles.end(tile, t) - begin;
              const bool more = i + 1 < pairs.taps;
              const std::int64_t next = more ? tiles.begin(tile, soon) : begin;
              const std::int64_t ahead = more ? tiles.end(tile, soon) - next : 0;
              if (by_task && count > 0) pack_block(block, t, own.data());
              loops.gather_gemm(x + block.group * per_group, shape.ldx, per_group,
                                by_task ? own.data() : packed + t * tap_size + block.packed,
                                block.width, tiles.in + begin, tiles.out + begin, count, row, sums,
                                ld, begun && i == 0 ? starts.data() + kind * widest : nullptr,
                                tiles.in + next, ahead,
                                few > 0 && ahead > 0 ? weights_of(block, soon) : Later{});
            }
          });
    };
    // a hundred multiply-adds a nanosecond, half a nanosecond a packed weight
    const std::int64_t work = pairs.count * per_group * shape.width / 64 + made->size() / 2;
    const std::int64_t packs = made->size() > 0 ? pairs.taps * kinds : 0;
    over_tiles(pairs, shape.num_in, shape.num_out, std::move(bounds), 1 + packs, tiles * kinds,
               worth_sharing(work, threads), make, run_task);
    if (keeper != nullptr && made->size() > 0)
      keeper->keep(cut, made, made->size() * std::int64_t(sizeof(T)));
  }

  void check_rows_of_others() const {
    const bool dense = shape.ldx == shape.channels && shape.ldy == shape.width;
    if (shape.groups > 1 && (!dense || residual.from != nullptr))
      throw std::invalid_argument("groups: expected 1 where rows are apart or lifted");
    if ((relu || norm.mean != nullptr) && residual.from != nullptr)
      throw std::invalid_argument("relu, norm: expected none where rows are lifted");
    if (residual.from == nullptr) return;
    std::int64_t bad = 0;
    for (std::int64_t r = 0; r < shape.num_out; ++r)
      bad += std::uint32_t(residual.from[r]) >= std::uint64_t(residual.count);
    if (bad > 0)
      throw std::invalid_argument("parents: expected rows below " + std::to_string(residual.count) +
                                  ", found others");
  }

  void run() {
    fill_columns();
    const bool by_channel =
        shape.groups > 1 && shape.channels == shape.groups && shape.width == shape.groups;
    const bool listed = by_channel && by_row != nullptr;
    const bool empty = shape.num_out == 0 || shape.width == 0;
    const int per_group = by_channel ? 0 : narrow_groups(shape, loops.lanes);
    check_rows_of_others();
    const std::int64_t span = (shape.num_out - 1) * shape.ldy + shape.width;
    if (!empty) prefer_large_pages(y, span * std::int64_t(sizeof(S)));
    if (!empty && !by_channel && per_group == 0) return general();
    const bool ordered = listed || check_pairs(pairs, shape.num_in, shape.num_out, threads);
    if (empty) return;
    if (listed) return depthwise(check_row_list(by_row, pairs, shape.num_in, shape.num_out));
    if (per_group > 0) return narrow(ordered, per_group);
    Buffer<std::int64_t> made(row_list_size(shape.num_out, pairs.count));
    build_row_list(pairs, ordered, shape.num_out, pairs.count, made.data(), threads);
    depthwise(RowList(made.data(), shape.num_out));
  }
};

}  // namespace

void conv(int dtype, const ConvShape& shape, const void* x, const void* weight, bool wide_weight,
          const std::int64_t weight_strides[3], const void* bias, const Pairs& pairs,
          const std::int64_t* by_row, const Norm& norm, const Residual& residual, bool relu, void* y,
          int threads, KeptWeights* kept) {
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    Conv<S, T>{loops,
               shape,
               static_cast<const S*>(x),
               {loops, wide_weight ? nullptr : static_cast<const S*>(weight),
                wide_weight ? static_cast<const T*>(weight) : nullptr, weight_strides},
               static_cast<const S*>(bias),
               pairs,
               by_row,
               norm,
               residual,
               relu,
               static_cast<S*>(y),
               threads,
               kept}
        .run();
  });
}

}  // namespace sparseconv
