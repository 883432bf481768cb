#include "kernels/taps.hpp"

#include <algorithm>

#include "core/dtype.hpp"
#include "core/walk.hpp"

namespace sparseconv {

void tap_sum(int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
             std::int64_t groups, const void* x, const void* w, const Pairs& pairs, bool transposed,
             void* y, int threads) {
  // as the result sees them: in transposed sums the sites that read a row are its inputs
  const Pairs seen = transposed
                         ? Pairs{pairs.out, pairs.in, pairs.segments, pairs.taps, pairs.count}
                         : pairs;
  const std::int64_t rows_in = transposed ? num_out : num_in;
  const std::int64_t rows_out = transposed ? num_in : num_out;
  const bool ordered = check_pairs(seen, rows_in, rows_out, threads, transposed);
  if (channels == 0) return;
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    const std::int64_t width = loops.tap_width(channels, groups);
    const std::int64_t block = block_rows(width * std::int64_t(sizeof(T)));
    const std::int64_t bytes = rows_out * channels * std::int64_t(sizeof(S));
    const bool past = past_caches(bytes);
    prefer_large_pages(y, bytes);
    walk_rows<T>(seen, ordered, rows_out, block, task_rows(ordered, rows_out, block, threads),
                 block * width, threads, [&](const TapWalk& walk, std::int64_t, T* sums) {
                   loops.weigh_taps(static_cast<const S*>(x), channels, channels, groups,
                                    static_cast<const S*>(w), transposed ? walk.in : walk.out, walk,
                                    sums, width);
                   loops.put_rows(sums, width, walk.rows, channels,
                                  static_cast<S*>(y) + walk.first * channels, past);
                 });
  });
}

void tap_dot(int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
             std::int64_t groups, const void* a, const void* b, const Pairs& pairs, void* e,
             int threads) {
  const bool ordered = check_pairs(pairs, num_in, num_out, threads);
  const std::int64_t row = pairs.taps * groups;
  if (row == 0) return;
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    constexpr bool same = sizeof(S) == sizeof(T);
    const std::int64_t block =
        block_rows(std::max<std::int64_t>(channels, same ? 0 : row / 8) * std::int64_t(sizeof(T)));
    prefer_large_pages(e, num_out * row * std::int64_t(sizeof(S)));
    walk_rows<T>(pairs, ordered, num_out, block, task_rows(ordered, num_out, block, threads),
                 same ? 0 : block * row, threads,
                 [&](const TapWalk& walk, std::int64_t, T* scratch) {
                   const auto add = [&](T* to) {
                     std::fill_n(to, walk.rows * row, T(0));
                     if (channels > 0)
                       loops.dot_taps(static_cast<const S*>(a), static_cast<const S*>(b), channels,
                                      groups, walk, to);
                   };
                   S* to = static_cast<S*>(e) + walk.first * row;
                   if constexpr (same) {
                     add(to);
                   } else {
                     add(scratch);
                     loops.narrow(scratch, to, walk.rows * row);
                   }
                 });
  });
}

}  // namespace sparseconv
