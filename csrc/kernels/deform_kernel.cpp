#include "kernels/deform_kernel.hpp"

#include <algorithm>
#include <cstring>

#include "core/dtype.hpp"
#include "core/walk.hpp"
#include "kernels/corners.hpp"
#include "kernels/mix.hpp"

namespace sparseconv {
namespace {

template <class T>
void read(const KernelPlaces& places, std::int64_t i, Mix<T>& mix) {
  if (places.wide)
    mix.read(static_cast<const double*>(places.values) + 3 * i, places.scope);
  else
    mix.read(static_cast<const float*>(places.values) + 3 * i, places.scope);
}

// Call visit(tap, pair) for the pairs of a block of output rows, tap by tap.
template <class Visit>
void visit_pairs(const TapWalk& walk, Visit&& visit) {
  const std::int64_t stop = walk.first + walk.rows;
  for (std::int64_t t = 0; t < walk.taps; ++t) {
    std::int64_t p = walk.from[t];
    for (; p < walk.end[t] && walk.out[p] < stop; ++p) visit(t, p);
    walk.next[t] = p;
  }
}

}  // namespace

void deform_kernel(int dtype, std::int64_t num_in, std::int64_t channels, const KernelPlaces& places,
                   const void* x, const void* kernel, const Pairs& pairs, bool transposed, void* y,
                   int threads) {
  // as the result sees them: in transposed sums the rows that hold places are its inputs
  const Pairs seen = transposed
                         ? Pairs{pairs.out, pairs.in, pairs.segments, pairs.taps, pairs.count}
                         : pairs;
  const std::int64_t rows_in = transposed ? places.rows : num_in;
  const std::int64_t rows_out = transposed ? num_in : places.rows;
  const bool ordered = check_pairs(seen, rows_in, rows_out, threads, transposed);
  if (channels == 0) return;
  const std::int64_t groups = places.groups, width = channels / groups;
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    const SampleLoops<T>& samples = sample_loops<T>();
    const Widened<S, T> values(loops, static_cast<const S*>(x), rows_in * channels, threads);
    const Widened<S, T> grid(loops, static_cast<const S*>(kernel), places.cells() * channels, threads);
    const std::int64_t block = block_rows(channels * std::int64_t(sizeof(T)));
    prefer_large_pages(y, rows_out * channels * std::int64_t(sizeof(S)));
    walk_rows<T>(seen, ordered, rows_out, block, task_rows(ordered, rows_out, block, threads),
                 block * channels, threads, [&](const TapWalk& walk, std::int64_t, T* sums) {
                   std::fill_n(sums, walk.rows * channels, T(0));
                   Mix<T> mix;
                   visit_pairs(walk, [&](std::int64_t t, std::int64_t p) {
                     const std::int64_t holder = transposed ? walk.in[p] : walk.out[p];
                     T* to = sums + (walk.out[p] - walk.first) * channels;
                     const T* from = values.data() + walk.in[p] * channels;
                     for (std::int64_t r = 0; r < groups; ++r) {
                       read(places, (holder * places.taps + t) * groups + r, mix);
                       if (mix.count > 0)
                         samples.mix_add(grid.data() + r * width, channels, width, mix.cells,
                                         mix.shares, mix.count, from + r * width, to + r * width);
                     }
                   });
                   loops.narrow(sums, static_cast<S*>(y) + walk.first * channels,
                                walk.rows * channels);
                 });
  });
}

void deform_kernel_grad(int dtype, std::int64_t num_in, std::int64_t channels,
                        const KernelPlaces& places, const void* x, const void* kernel,
                        const Pairs& pairs, const void* g, void* grad_kernel, void* grad_places,
                        int threads) {
  const bool ordered = check_pairs(pairs, num_in, places.rows, threads);
  const std::int64_t groups = places.groups, size = places.cells() * channels;
  const std::int64_t bytes = 3 * (places.wide ? 8 : 4), row = places.taps * groups * bytes;
  prefer_large_pages(grad_places, places.rows * row);
  parallel_ranges(places.rows, 256, threads, [&](std::int64_t begin, std::int64_t end) {
    std::memset(static_cast<char*>(grad_places) + begin * row, 0, std::size_t((end - begin) * row));
  });
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    const std::int64_t width = channels / groups;
    const SampleLoops<T>& samples = sample_loops<T>();
    const Widened<S, T> values(loops, static_cast<const S*>(x), num_in * channels, threads);
    const Widened<S, T> from(loops, static_cast<const S*>(g), places.rows * channels, threads);
    const Widened<S, T> grid(loops, static_cast<const S*>(kernel), size, threads);
    // rows of a task depend on the problem alone: each has sums of its own
    const std::int64_t block = 64;
    const std::int64_t rows =
        std::max<std::int64_t>(1024, (places.rows / 32 + block - 1) / block * block);
    const std::int64_t tasks = (places.rows + rows - 1) / rows;
    Buffer<T> parts(tasks * size);
    std::fill_n(parts.data(), parts.size(), T(0));
    walk_rows<T>(
        pairs, ordered, places.rows, block, rows, channels, threads,
        [&](const TapWalk& walk, std::int64_t task, T* product) {
          T* to = parts.data() + task * size;
          const std::int32_t with[8] = {};
          Mix<T> mix;
          visit_pairs(walk, [&](std::int64_t t, std::int64_t p) {
            const T* a = values.data() + walk.in[p] * channels;
            const T* b = from.data() + walk.out[p] * channels;
            for (std::int64_t c = 0; c < channels; ++c) product[c] = a[c] * b[c];
            for (std::int64_t r = 0; r < groups; ++r) {
              const std::int64_t i = (walk.out[p] * places.taps + t) * groups + r;
              read(places, i, mix);
              if (mix.count == 0) continue;
              T found[8], dots[8] = {}, unused;
              samples.dot_list(grid.data() + r * width, channels, product + r * width, 0, width,
                               mix.cells, with, mix.count, found);
              for (int k = 0; k < mix.count; ++k) dots[mix.corners[k]] = found[k];
              samples.add_list(to + r * width, channels, product + r * width, 0, width, mix.cells,
                               mix.shares, with, mix.count);
              if (places.wide)
                samples.slopes_f64(dots, mix.fraction, nullptr, 1,
                                   static_cast<double*>(grad_places) + 3 * i, &unused);
              else
                samples.slopes_f32(dots, mix.fraction, nullptr, 1,
                                   static_cast<float*>(grad_places) + 3 * i, &unused);
            }
          });
        });
    parallel_ranges(size, 1024, threads, [&](std::int64_t begin, std::int64_t end) {
      Buffer<T> sums(end - begin);
      std::fill_n(sums.data(), sums.size(), T(0));
      for (std::int64_t task = 0; task < tasks; ++task)
        for (std::int64_t i = begin; i < end; ++i) sums[i - begin] += parts[task * size + i];
      loops.narrow(sums.data(), static_cast<S*>(grad_kernel) + begin, end - begin);
    });
  });
}

}  // namespace sparseconv
