#include "kernels/aggregate.hpp"

#include "core/dtype.hpp"
#include "core/row_list.hpp"
#include "core/tiles.hpp"
#include "core/tiling.hpp"
#include "core/walk.hpp"

namespace sparseconv {
namespace {

// pairs of a piece, and the rows up to which a sum is cut in pieces
constexpr std::int64_t piece_pairs = 8192, few_rows = 64;
// a rulebook's pairs come tap by tap: output rows rise, fall back, rise again
constexpr std::size_t most_runs = 128;

// Segments in which output rows never fall; empty where there would be too many.
std::vector<std::int64_t> rising_runs(const Pairs& pairs) {
  std::vector<std::int64_t> begins{0};
  for (std::int64_t p = 1; p < pairs.count; ++p) {
    if (pairs.out[p] >= pairs.out[p - 1]) continue;
    if (begins.size() == most_runs) return {};
    begins.push_back(p);
  }
  begins.push_back(pairs.count);
  return begins;
}

// Sums over a whole scan: each piece of pairs has its own, added up in order.
template <class S, class T>
void sum_pieces(const Loops<S, T>& loops, std::int64_t num_out, std::int64_t channels, const S* x,
                const Pairs& pairs, const S* weights, S* y, int threads) {
  const std::int64_t pieces = (pairs.count + piece_pairs - 1) / piece_pairs;
  const std::int64_t size = num_out * channels;
  Buffer<T> sums(pieces * size);
  std::fill_n(sums.data(), sums.size(), T(0));
  parallel_ranges(pairs.count, piece_pairs, threads, [&](std::int64_t begin, std::int64_t end) {
    loops.add_rows(x, channels, channels, weights == nullptr ? nullptr : weights + begin,
                   pairs.in + begin, pairs.out + begin, end - begin, 0,
                   sums.data() + begin / piece_pairs * size, channels);
  });
  for (std::int64_t i = 1; i < pieces; ++i)
    for (std::int64_t c = 0; c < size; ++c) sums[c] += sums[i * size + c];
  loops.narrow(sums.data(), y, size);
}

// Sums of rows one after the other, in registers: every weight is one. Where counts are given each
// row is divided by its own.
template <class S, class T>
void sum_listed(const Loops<S, T>& loops, std::int64_t num_out, std::int64_t channels, const S* x,
                const RowList& list, const std::int64_t* counts, S* y, int threads) {
  Buffer<T> ones(channels);
  std::fill_n(ones.data(), channels, T(1));
  constexpr bool same = sizeof(S) == sizeof(T);
  const bool past = past_caches(num_out * channels * std::int64_t(sizeof(S)));
  const bool direct = same && counts == nullptr;
  const std::int64_t rows = task_rows(true, num_out, 64, threads);
  const std::int64_t block = direct ? rows : block_rows(channels * std::int64_t(sizeof(T)));
  parallel_ranges(num_out, rows, threads, [&](std::int64_t begin, std::int64_t end) {
    Buffer<T> sums(direct ? 0 : block * channels);
    for (std::int64_t first = begin; first < end; first += block) {
      const RowWalk walk = list.walk(first, std::min(block, end - first));
      S* to = y + first * channels;
      if constexpr (same)
        if (direct) {
          loops.scale_rows(x, channels, channels, ones.data(), 0, walk, nullptr, to, channels,
                           past);
          continue;
        }
      loops.scale_rows(x, channels, channels, ones.data(), 0, walk, nullptr, sums.data(), channels,
                       false);
      for (std::int64_t r = 0; counts != nullptr && r < walk.rows; ++r) {
        const T part = T(1) / T(counts[first + r]);
        T* row = sums.data() + r * channels;
        for (std::int64_t c = 0; c < channels; ++c) row[c] *= part;
      }
      loops.put_rows(sums.data(), channels, walk.rows, channels, to, past);
    }
  });
}

}  // namespace

void aggregate(int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
               const void* x, const Pairs& pairs, const void* weights, void* y, int threads) {
  const bool ordered = check_pairs(pairs, num_in, num_out, threads);
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    const S* scale = static_cast<const S*>(weights);
    prefer_large_pages(y, num_out * channels * std::int64_t(sizeof(S)));
    if (channels == 0) return;
    if (num_out <= few_rows && pairs.count >= 2 * piece_pairs)
      return sum_pieces(loops, num_out, channels, static_cast<const S*>(x), pairs, scale,
                        static_cast<S*>(y), threads);
    const std::vector<std::int64_t> runs =
        scale == nullptr && !ordered ? rising_runs(pairs) : std::vector<std::int64_t>{};
    if (!runs.empty()) {
      Buffer<std::int64_t> made(row_list_size(num_out, pairs.count));
      build_row_list(
          Pairs{pairs.in, pairs.out, runs.data(), std::int64_t(runs.size()) - 1, pairs.count}, true,
          num_out, pairs.count, made.data(), threads);
      return sum_listed(loops, num_out, channels, static_cast<const S*>(x),
                        RowList(made.data(), num_out), nullptr, static_cast<S*>(y), threads);
    }
    const Tiling tiling(num_out, channels, sizeof(T), threads);
    const Tiles tiles(pairs, ordered, num_out, tiling.rows, threads, weights != nullptr);
    Buffer<S> moved;
    if (scale != nullptr && tiles.source != nullptr) {
      moved = Buffer<S>(pairs.count);
      for (std::int64_t p = 0; p < pairs.count; ++p) moved[p] = scale[tiles.source[p]];
      scale = moved.data();
    }
    parallel_tasks(tiles.count * tiling.blocks, threads, [&](std::int64_t task) {
      const std::int64_t tile = task / tiling.blocks;
      const std::int64_t first = task % tiling.blocks * tiling.channels;
      const std::int64_t width = std::min(tiling.channels, channels - first);
      const std::int64_t row = tiles.row(tile);
      const std::int64_t rows = tiles.rows(tile);
      const std::int64_t begin = tiles.begin(tile, 0), n = tiles.end(tile, 0) - begin;
      S* to = static_cast<S*>(y) + row * channels + first;
      const auto add = [&](T* sums, std::int64_t ld) {
        for (std::int64_t r = 0; r < rows; ++r) std::fill_n(sums + r * ld, width, T(0));
        loops.add_rows(static_cast<const S*>(x) + first, channels, width,
                       scale == nullptr ? nullptr : scale + begin, tiles.in + begin,
                       tiles.out + begin, n, row, sums, ld);
      };
      if constexpr (sizeof(S) == sizeof(T)) {
        add(to, channels);
      } else {
        Buffer<T> sums(rows * width);
        add(sums.data(), width);
        for (std::int64_t r = 0; r < rows; ++r)
          loops.narrow(sums.data() + r * width, to + r * channels, width);
      }
    });
  });
}

void sum_rows(int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
              const void* x, const std::int64_t* list, std::int64_t count,
              const std::int64_t* counts, void* y, int threads) {
  if (list[0] != num_out || list[1] != count || list[3] > num_in)
    throw std::invalid_argument("children: expected " + std::to_string(count) + " pairs of " +
                                std::to_string(num_out) + " rows, found others; use pairs_by_row");
  visit_dtype(dtype, [&](const auto& loops, auto s, auto) {
    using S = decltype(s);
    prefer_large_pages(y, num_out * channels * std::int64_t(sizeof(S)));
    if (channels > 0)
      sum_listed(loops, num_out, channels, static_cast<const S*>(x), RowList(list, num_out), counts,
                 static_cast<S*>(y), threads);
  });
}

void pair_dot(int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
              const void* a, const void* b, const Pairs& pairs, void* dots, int threads) {
  check_pairs(pairs, num_in, num_out, threads);
  visit_dtype(dtype, [&](const auto& loops, auto s, auto) {
    using S = decltype(s);
    parallel_ranges(pairs.count, 4096, threads, [&](std::int64_t begin, std::int64_t end) {
      loops.dot_rows(static_cast<const S*>(a), static_cast<const S*>(b), channels, pairs.in + begin,
                     pairs.out + begin, end - begin, static_cast<S*>(dots) + begin);
    });
  });
}

}  // namespace sparseconv
