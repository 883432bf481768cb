#include "kernels/aggregate.hpp"

#include "core/dtype.hpp"
#include "core/tiling.hpp"

namespace sparseconv {

void aggregate(int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
               const void* x, const Pairs& pairs, const void* weights, void* y, int threads) {
  const bool ordered = check_pairs(pairs, num_in, num_out, threads);
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    const Tiling tiling(num_out, channels, sizeof(T), threads);
    const Tiles tiles(pairs, ordered, num_out, tiling.rows, threads, weights != nullptr);
    const S* scale = static_cast<const S*>(weights);
    Buffer<S> moved;
    if (scale != nullptr && tiles.source != nullptr) {
      moved = Buffer<S>(pairs.count);
      for (std::int64_t p = 0; p < pairs.count; ++p) moved[p] = scale[tiles.source[p]];
      scale = moved.data();
    }
    prefer_large_pages(y, num_out * channels * std::int64_t(sizeof(S)));
    parallel_tasks(tiles.count * tiling.blocks, threads, [&](std::int64_t task) {
      const std::int64_t tile = task / tiling.blocks;
      const std::int64_t first = task % tiling.blocks * tiling.channels;
      const std::int64_t width = std::min(tiling.channels, channels - first);
      const std::int64_t row = tile * tiles.rows;
      const std::int64_t rows = std::min(tiles.rows, num_out - row);
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
