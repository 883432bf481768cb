#include "kernels/sample.hpp"

#include <type_traits>

#include "core/dtype.hpp"
#include "kernels/scatter.hpp"

namespace sparseconv {
namespace {

// rows of one task that makes sums
constexpr std::int64_t task_rows = 256;
// how many rows ahead their positions are fetched
constexpr std::int64_t ahead = 4;

// Divide the shares of every position by their sum, which is kept; none where it is 0. A quotient of
// the smallest numbers is right where their inverse would be infinite.
template <class T>
void normalize_shares(std::int64_t taps, const std::int32_t* begin, T* shares, T* totals) {
  for (std::int64_t t = 0; t < taps; ++t) {
    T total = 0;
    for (std::int32_t p = begin[t]; p < begin[t + 1]; ++p) total += shares[p];
    totals[t] = total;
    for (std::int32_t p = begin[t]; total > 0 && p < begin[t + 1]; ++p) shares[p] /= total;
  }
}

// Multiply the shares of every position by its weight, where there are weights.
template <class T>
void weigh_shares(std::int64_t taps, const std::int32_t* begin, const T* scale, std::int64_t step,
                  T* shares) {
  for (std::int64_t t = 0; scale != nullptr && t < taps; ++t)
    for (std::int32_t p = begin[t]; p < begin[t + 1]; ++p) shares[p] *= scale[t * step];
}

// Make of dot products with the corners of positions what moves their mean by normalised shares:
// (dot - mean) / total. The mean is the derivative of the position's weight.
template <class T>
void centre_dots(std::int64_t taps, const std::int32_t* begin, const T* shares, const T* totals,
                 std::int64_t step, T* dots, T* means) {
  for (std::int64_t t = 0; t < taps; ++t) {
    T mean = 0;
    for (std::int32_t p = begin[t]; p < begin[t + 1]; ++p) mean += shares[p] * dots[p];
    means[t * step] = mean;
    for (std::int32_t p = begin[t]; p < begin[t + 1]; ++p)
      dots[p] = totals[t] > 0 ? (dots[p] - mean) / totals[t] : T(0);
  }
}

}  // namespace

void sample_sum(int dtype, const Positions& where, std::int64_t channels, const void* x,
                const void* weights, bool normalize, void* y, int threads) {
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    const Widened<S, T> wide(loops, static_cast<const S*>(x), where.index.rows() * channels,
                             threads);
    const Buffer<std::int32_t> order = row_order(where, threads);
    const SampleLoops<T>& samples = sample_loops<T>();
    const std::int64_t n = where.cells(), width = channels / where.groups;
    // rows that read little are listed some at a time, while what they read is fetched
    const std::int64_t batch = n < Window::least_cells ? 16 : 1;
    prefer_large_pages(y, where.rows * channels * std::int64_t(sizeof(S)));
    parallel_ranges(where.rows, task_rows, threads, [&](std::int64_t first, std::int64_t last) {
      const std::int32_t* list = where.index.list();
      const auto ids = [&](std::int32_t block) { return list + where.index.block(block).begin; };
      Corners<T, decltype(ids)> corners(where, ids);
      const std::int64_t lists = batch * where.groups;
      CornerMemory<T> memory(batch * n, false);
      Buffer<T> fraction(3 * n), scale(n), totals(where.taps), sums(channels);
      Buffer<std::int32_t> begin(where.taps + 1), starts(lists + 1);
      const auto row_at = [&](std::int64_t i) {
        return order.size() > 0 ? std::int64_t(order[i]) : i;
      };
      for (std::int64_t i = first; i < last; i += batch) {
        const std::int64_t rows = std::min(batch, last - i);
        std::int64_t used = 0;
        for (std::int64_t r = 0; r < rows; ++r) {
          const std::int64_t row = row_at(i + r);
          if (order.size() > 0 && i + r + ahead < last) {
            const std::int64_t soon = order[i + r + ahead];
            fetch(where.items + soon, 1);
            fetch(where.of(soon), where.bytes());
            if (weights != nullptr)
              fetch(static_cast<const S*>(weights) + soon * n, n * std::int64_t(sizeof(S)));
          }
          if (weights != nullptr)
            loops.widen(static_cast<const S*>(weights) + row * n, scale.data(), n);
          const T* scales = weights == nullptr ? nullptr : scale.data();
          const CellRow<T> cells = corners.row(row, normalize ? nullptr : scales, fraction.data());
          for (std::int64_t g = 0; g < where.groups; ++g) {
            const std::int64_t from = used;
            starts[r * where.groups + g] = std::int32_t(from);
            used = samples.corners(cells, g, where.groups, where.taps, false, begin.data(),
                                   memory.list(), from);
            if (normalize) {
              normalize_shares(where.taps, begin.data(), memory.shares.data(), totals.data());
              weigh_shares(where.taps, begin.data(), scales == nullptr ? nullptr : scales + g,
                           where.groups, memory.shares.data());
            }
            for (std::int64_t p = from; batch > 1 && p < used; ++p)
              fetch(wide.data() + memory.rows[p] * channels + g * width,
                    width * std::int64_t(sizeof(T)));
          }
        }
        starts[rows * where.groups] = std::int32_t(used);
        for (std::int64_t r = 0; r < rows; ++r) {
          S* const to = static_cast<S*>(y) + row_at(i + r) * channels;
          T* sum = sums.data();
          if constexpr (std::is_same_v<S, T>) sum = to;
          for (std::int64_t g = 0; g < where.groups; ++g) {
            const std::int32_t* at = starts.data() + r * where.groups + g;
            samples.sum_list(wide.data() + g * width, channels, width, memory.rows.data() + at[0],
                             memory.shares.data() + at[0], at[1] - at[0], sum + g * width);
          }
          if constexpr (!std::is_same_v<S, T>) loops.narrow(sum, to, channels);
        }
      }
    });
  });
}

void sample_sum_grad(int dtype, const Positions& where, std::int64_t channels, const void* x,
                     const void* weights, bool normalize, const void* g, void* grad_x,
                     void* grad_positions, void* grad_weights, int threads) {
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    const Buffer<std::int32_t> order = row_order(where, threads);
    const Chunks chunks(where, order.size() > 0 ? order.data() : nullptr, 1, Chunks::most_rows, threads);
    const SampleLoops<T>& samples = sample_loops<T>();
    const std::int64_t n = where.cells(), width = channels / where.groups;
    const bool moved = grad_positions != nullptr;
    if (moved) prefer_large_pages(grad_positions, where.rows * where.bytes());
    if (moved && weights != nullptr)
      prefer_large_pages(grad_weights, where.rows * n * std::int64_t(sizeof(S)));
    SiteSums<S, T> total(static_cast<S*>(grad_x), where.index.rows() * channels);
    chunks.scatter(channels, total.data(), [&](std::int64_t chunk, T* to) {
      const Chunks::Touched& touched = chunks.touched(chunk);
      Buffer<T> near(moved ? touched.sites * channels : 0);
      if (moved) chunks.gather(chunk, loops, static_cast<const S*>(x), channels, near.data());
      const auto ids = [&](std::int32_t block) {
        return chunks.numbers() + touched.begin_of(block);
      };
      Corners<T, decltype(ids)> corners(where, ids);
      CornerMemory<T> memory(where.taps, true);
      Buffer<T> fraction(3 * n), scale(n), grad(channels), dots(8 * n),
          found(8 * where.taps + 8), to_scale(n), means(n), totals(where.taps);
      Buffer<std::int32_t> begin(where.taps + 1), with(8 * where.taps + 8);
      std::fill_n(with.data(), with.size(), 0);
      for (std::int64_t i = chunks.first(chunk); i < chunks.last(chunk); ++i) {
        const std::int64_t row = chunks.row(i);
        chunks.fetch_after(i, static_cast<const char*>(where.values), where.bytes());
        chunks.fetch_after(i, static_cast<const S*>(g), channels);
        if (weights != nullptr) chunks.fetch_after(i, static_cast<const S*>(weights), n);
        loops.widen(static_cast<const S*>(g) + row * channels, grad.data(), channels);
        if (weights != nullptr)
          loops.widen(static_cast<const S*>(weights) + row * n, scale.data(), n);
        const T* scales = weights == nullptr ? nullptr : scale.data();
        const CellRow<T> cells = corners.row(row, normalize ? nullptr : scales, fraction.data());
        std::fill_n(dots.data(), moved ? 8 * n : 0, T(0));
        for (std::int64_t group = 0; group < where.groups; ++group) {
          const CornerList<T> list = memory.list();
          const std::int64_t count =
              samples.corners(cells, group, where.groups, where.taps, true, begin.data(), list, 0);
          const T* mine = grad.data() + group * width;
          if (normalize)
            normalize_shares(where.taps, begin.data(), list.shares, totals.data());
          if (moved) {
            samples.dot_list(near.data() + group * width, channels, mine, 0, width, list.rows,
                             with.data(), count, found.data());
            if (normalize)
              centre_dots(where.taps, begin.data(), list.shares, totals.data(), where.groups,
                          found.data(), means.data() + group);
            for (std::int64_t p = 0; p < count; ++p) dots[list.codes[p]] = found[p];
          }
          if (normalize)
            weigh_shares(where.taps, begin.data(), scales == nullptr ? nullptr : scales + group,
                         where.groups, list.shares);
          samples.add_list(to + group * width, channels, mine, 0, width, list.rows, list.shares,
                           with.data(), count);
        }
        if (!moved) continue;
        write_slopes(where, dots.data(), fraction.data(), scales,
                     static_cast<char*>(grad_positions) + row * where.bytes(), to_scale.data());
        if (weights != nullptr)
          loops.narrow(normalize ? means.data() : to_scale.data(),
                       static_cast<S*>(grad_weights) + row * n, n);
      }
    });
    total.write(loops, threads);
  });
}

}  // namespace sparseconv
