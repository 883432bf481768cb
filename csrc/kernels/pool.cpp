#include <atomic>

#include "core/dtype.hpp"
#include "core/tiles.hpp"
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
      const std::int64_t row = tiles.row(tile);
      const std::int64_t rows = tiles.rows(tile);
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

void pool_max_grad(int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
                   const void* g, const std::int32_t* winner, void* to, int threads) {
  // whole cache lines, of which no two tasks write one; fewer columns where sums lie aside
  constexpr std::int64_t line = 16, most = 64;
  if (channels == 0) return;
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    constexpr bool same = sizeof(S) == sizeof(T);
    const std::int64_t share = (channels + threads - 1) / threads;
    const std::int64_t width = (std::min(share, same ? share : most) + line - 1) / line * line;
    std::atomic<bool> bad{false};
    prefer_large_pages(to, num_in * channels * std::int64_t(sizeof(S)));
    parallel_tasks((channels + width - 1) / width, threads, [&](std::int64_t task) {
      const std::int64_t first = task * width, n = std::min(width, channels - first);
      Buffer<T> aside(same ? 0 : num_in * n), row(n);
      T* sums = aside.data();
      std::int64_t ld = n;
      if constexpr (same) {
        sums = static_cast<T*>(to) + first;
        ld = channels;
      }
      for (std::int64_t r = 0; r < num_in; ++r) std::fill_n(sums + r * ld, n, T(0));
      bool wrong = false;
      for (std::int64_t o = 0; o < num_out; ++o) {
        const std::int32_t* who = winner + o * channels + first;
        loops.widen(static_cast<const S*>(g) + o * channels + first, row.data(), n);
        for (std::int64_t c = 0; c < n; ++c) {
          if (std::uint32_t(who[c]) < std::uint64_t(num_in))
            sums[who[c] * ld + c] += row[c];
          else
            wrong = wrong || who[c] != -1;
        }
      }
      if (wrong) bad = true;
      if constexpr (!same)
        for (std::int64_t r = 0; r < num_in; ++r)
          loops.narrow(sums + r * ld, static_cast<S*>(to) + r * channels + first, n);
    });
    if (bad)
      throw std::invalid_argument("winner: expected -1 or rows below " + std::to_string(num_in) +
                                  ", found others");
  });
}

}  // namespace sparseconv
