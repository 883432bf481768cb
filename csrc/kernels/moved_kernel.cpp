#include "kernels/moved_kernel.hpp"

#include "core/dtype.hpp"
#include "kernels/mix.hpp"
#include "kernels/scatter.hpp"

namespace sparseconv {
namespace {

constexpr std::int64_t task_rows = 256;

template <class S, class T>
struct Moved {
  const Loops<S, T>& loops;
  const Positions& where;
  const MovedKernel& by;
  const S* x;
  const int threads;

  const SampleLoops<T>& samples = sample_loops<T>();
  const std::int64_t channels = by.channels, width = by.channels / by.groups;
  const std::int64_t n = where.cells(), taps = where.cells() / by.groups;
  const std::int64_t size = by.cells() * by.channels;
  const Widened<S, T> kernel{loops, static_cast<const S*>(by.kernel), size, threads};
  const Buffer<std::int32_t> order = row_order(where, threads);

  // The cells of the kernel that a row reads with cell i, tap t.
  void read(std::int64_t row, std::int64_t i, std::int64_t t, Mix<T>& mix) const {
    const T* moved = static_cast<const T*>(where.of(row)) + 3 * (n + i);
    const T* start = static_cast<const T*>(by.start) + 3 * t;
    const T place[3] = {start[0] + moved[0], start[1] + moved[1], start[2] + moved[2]};
    mix.read(place, by.scope);
  }

  void forward(S* y) const {
    const Widened<S, T> wide(loops, x, where.index.rows() * channels, threads);
    prefer_large_pages(y, where.rows * channels * std::int64_t(sizeof(S)));
    parallel_ranges(where.rows, task_rows, threads, [&](std::int64_t first, std::int64_t last) {
      const std::int32_t* list = where.index.list();
      const auto ids = [&](std::int32_t block) { return list + where.index.block(block).begin; };
      Corners<T, decltype(ids)> corners(where, ids);
      CornerMemory<T> memory(taps, false);
      Buffer<T> fraction(3 * n), read_there(width), sums(channels);
      Buffer<std::int32_t> begin(taps + 1);
      Mix<T> mix;
      for (std::int64_t i = first; i < last; ++i) {
        const std::int64_t row = order.size() > 0 ? std::int64_t(order[i]) : i;
        if (order.size() > 0 && i + 2 < last) fetch(where.of(order[i + 2]), where.bytes());
        const CellRow<T> cells = corners.row(row, nullptr, fraction.data());
        std::fill_n(sums.data(), channels, T(0));
        for (std::int64_t r = 0; r < by.groups; ++r) {
          const CornerList<T> near = memory.list();
          samples.corners(cells, r * taps, 1, taps, false, begin.data(), near, 0);
          for (std::int64_t t = 0; t < taps; ++t) {
            const std::int64_t at = begin[t], count = begin[t + 1] - at;
            if (count == 0) continue;
            read(row, r * taps + t, t, mix);
            if (mix.count == 0) continue;
            samples.sum_list(wide.data() + r * width, channels, width, near.rows + at,
                             near.shares + at, count, read_there.data());
            samples.mix_add(kernel.data() + r * width, channels, width, mix.cells, mix.shares,
                            mix.count, read_there.data(), sums.data() + r * width);
          }
        }
        loops.narrow(sums.data(), y + row * channels, channels);
      }
    });
  }

  void backward(const S* g, S* grad_x, T* grad_heads, S* grad_kernel) const {
    // so few chunks that their sums of the kernel take at most M C numbers
    const Chunks chunks(where, order.size() > 0 ? order.data() : nullptr, by.cells(),
                        Chunks::most_rows, threads);
    Buffer<T> parts(chunks.count() * size);
    prefer_large_pages(grad_heads, where.rows * where.bytes());
    SiteSums<S, T> total(grad_x, where.index.rows() * channels);
    chunks.scatter(channels, total.data(), [&](std::int64_t chunk, T* to) {
      T* mine = parts.data() + chunk * size;
      std::fill_n(mine, size, T(0));
      run_chunk(chunks, chunk, g, to, mine, grad_heads);
    });
    total.write(loops, threads);
    parallel_ranges(size, 1024, threads, [&](std::int64_t first, std::int64_t last) {
      Buffer<T> sums(last - first);
      std::fill_n(sums.data(), sums.size(), T(0));
      for (std::int64_t chunk = 0; chunk < chunks.count(); ++chunk)
        for (std::int64_t i = first; i < last; ++i) sums[i - first] += parts[chunk * size + i];
      loops.narrow(sums.data(), grad_kernel + first, last - first);
    });
  }

  void run_chunk(const Chunks& chunks, std::int64_t chunk, const S* g, T* to, T* to_kernel,
                 T* grad_heads) const {
    const Chunks::Touched& touched = chunks.touched(chunk);
    Buffer<T> near(touched.sites * channels);
    chunks.gather(chunk, loops, x, channels, near.data());
    const auto ids = [&](std::int32_t block) { return chunks.numbers() + touched.begin_of(block); };
    Corners<T, decltype(ids)> corners(where, ids);
    CornerMemory<T> memory(taps, true);
    Buffer<T> fraction(3 * n), grad(channels), dots(8 * n), unused(n), found(16), there(width),
        weight(width), by_there(width), by_weight(width);
    Buffer<std::int32_t> begin(taps + 1);
    const std::int32_t with[16] = {};
    Mix<T> mix;
    for (std::int64_t i = chunks.first(chunk); i < chunks.last(chunk); ++i) {
      const std::int64_t row = chunks.row(i);
      chunks.fetch_after(i, static_cast<const char*>(where.values), where.bytes());
      chunks.fetch_after(i, g, channels);
      loops.widen(g + row * channels, grad.data(), channels);
      const CellRow<T> cells = corners.row(row, nullptr, fraction.data());
      T* slopes = grad_heads + row * where.pitch;
      std::fill_n(slopes + 3 * n, 3 * n, T(0));
      std::fill_n(dots.data(), 8 * n, T(0));
      for (std::int64_t r = 0; r < by.groups; ++r) {
        const CornerList<T> list = memory.list();
        samples.corners(cells, r * taps, 1, taps, true, begin.data(), list, 0);
        const T* from = near.data() + r * width;
        const T* mine = grad.data() + r * width;
        for (std::int64_t t = 0; t < taps; ++t) {
          const std::int64_t at = begin[t], count = begin[t + 1] - at;
          if (count == 0) continue;
          read(row, r * taps + t, t, mix);
          if (mix.count == 0) continue;
          samples.sum_list(from, channels, width, list.rows + at, list.shares + at, count,
                           there.data());
          samples.sum_list(kernel.data() + r * width, channels, width, mix.cells, mix.shares,
                           mix.count, weight.data());
          for (std::int64_t c = 0; c < width; ++c) {
            by_weight[c] = mine[c] * there[c];
            by_there[c] = mine[c] * weight[c];
          }
          samples.dot_list(from, channels, by_there.data(), 0, width, list.rows + at, with, count,
                           found.data());
          for (std::int64_t p = 0; p < count; ++p) dots[list.codes[at + p]] = found[p];
          samples.add_list(to + r * width, channels, by_there.data(), 0, width, list.rows + at,
                           list.shares + at, with, count);
          samples.dot_list(kernel.data() + r * width, channels, by_weight.data(), 0, width,
                           mix.cells, with, mix.count, found.data());
          T corner[8] = {}, none;
          for (int k = 0; k < mix.count; ++k) corner[mix.corners[k]] = found[k];
          samples.add_list(to_kernel + r * width, channels, by_weight.data(), 0, width, mix.cells,
                           mix.shares, with, mix.count);
          slope(corner, mix.fraction, 1, slopes + 3 * (n + r * taps + t), &none);
        }
      }
      slope(dots.data(), fraction.data(), n, slopes, unused.data());
    }
  }

  void slope(const T* dots, const T* fraction, std::int64_t count, T* to, T* unused) const {
    if constexpr (sizeof(T) == sizeof(double))
      samples.slopes_f64(dots, fraction, nullptr, count, to, unused);
    else
      samples.slopes_f32(dots, fraction, nullptr, count, to, unused);
  }
};

}  // namespace

void moved_kernel(int dtype, const Positions& where, const MovedKernel& by, const void* x, void* y,
                  int threads) {
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    Moved<S, T>{loops, where, by, static_cast<const S*>(x), threads}.forward(static_cast<S*>(y));
  });
}

void moved_kernel_grad(int dtype, const Positions& where, const MovedKernel& by, const void* x,
                       const void* g, void* grad_x, void* grad_heads, void* grad_kernel,
                       int threads) {
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    Moved<S, T>{loops, where, by, static_cast<const S*>(x), threads}
        .backward(static_cast<const S*>(g), static_cast<S*>(grad_x), static_cast<T*>(grad_heads),
                  static_cast<S*>(grad_kernel));
  });
}

}  // namespace sparseconv
