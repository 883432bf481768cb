#include "core/dtype.hpp"
#include "core/tiling.hpp"
#include "kernels/aggregate.hpp"

namespace sparseconv {

void pool_max(int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
              const void* x, const Pairs& pairs, void* y, std::int32_t* winner, int threads) {
  const bool ordered = check_pairs(pairs, num_in, num_out, threads);
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    const Tiling tiling(num_out, channels, sizeof(T), threads);
    const Tiles tiles(pairs, ordered, num_out, tiling.rows, threads);
    prefer_large_pages(y, num_out * channels * std::int64_t(sizeof(S)));
    prefer_large_pages(winner, num_out * channels * std::int64_t(sizeof(std::int32_t)));
    parallel_tasks(tiles.count * tiling.blocks, threads, [&](std::int64_t task) {
      const std::int64_t tile = task / tiling.blocks;
      const std::int64_t first = task % tiling.blocks * tiling.channels;
      const std::int64_t width = std::min(tiling.channels, channels - first);
      const std::int64_t row = tile * tiles.rows;
      const std::int64_t rows = std::min(tiles.rows, num_out - row);
      const std::int64_t begin = tiles.begin(tile, 0), n = tiles.end(tile, 0) - begin;
      S* to = static_cast<S*>(y) + row * channels + first;
      std::int32_t* who = winner + row * channels + first;
      for (std::int64_t r = 0; width > 0 && r < rows; ++r) who[r * channels] = -1;
      const auto raise = [&](T* best, std::int64_t ld) {
        if (width == 0) return;
        loops.max_rows(static_cast<const S*>(x) + first, channels, width, tiles.in + begin,
                       tiles.out + begin, n, row, best, ld, who, channels);
        // rows that nothing reached
        for (std::int64_t r = 0; r < rows; ++r) {
          if (who[r * channels] >= 0) continue;
          std::fill_n(best + r * ld, width, T(0));
          std::fill_n(who + r * channels, width, -1);
        }
      };
      if constexpr (sizeof(S) == sizeof(T)) {
        raise(to, channels);
      } else {
        // every storage value survives the way to the sums' type and back
        Buffer<T> best(rows * width);
        raise(best.data(), width);
        for (std::int64_t r = 0; r < rows; ++r)
          loops.narrow(best.data() + r * width, to + r * channels, width);
      }
    });
  });
}

}  // namespace sparseconv
