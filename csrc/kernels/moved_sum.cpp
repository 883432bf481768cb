#include "kernels/moved_sum.hpp"

#include <limits>

#include "core/dtype.hpp"
#include "kernels/scatter.hpp"

namespace sparseconv {
namespace {

// numbers predicted at a time, and the rows that makes
constexpr std::int64_t tile_numbers = 1 << 15, least_rows = 48, most_rows = 128;
constexpr std::int64_t task_rows = 256;
// numbers of a chunk of rows in the gradients
constexpr std::int64_t chunk_numbers = 1 << 19;
constexpr std::int64_t ahead = 4;

template <class S, class T>
struct Moved {
  const Loops<S, T>& loops;
  const BlockIndex& index;
  const MovedShape& shape;
  const Heads& heads;
  const Site* sites;
  const std::int64_t rows;
  const S* x;
  const S* query;
  const int threads;

  const Loops<T, T>& products = plain_loops<T>();
  const SampleLoops<T>& samples = sample_loops<T>();
  const std::int64_t channels = shape.channels, depth = shape.depth;
  const std::int64_t taps = shape.taps, n = shape.taps * shape.groups, predicted = 4 * n;
  const std::int64_t per_group = shape.channels / shape.groups;
  const std::int64_t pitch = products.padded(predicted);
  const std::int64_t tile_rows = std::clamp(tile_numbers / pitch, least_rows, most_rows);
  const std::int64_t outer_width = products.padded(std::min(depth, outer_limit));
  const std::int64_t strips = (depth + outer_limit - 1) / outer_limit;
  const T* const weight = static_cast<const T*>(heads.weight);
  const Buffer<T> grid = repeated();
  const Positions all = about(sites, nullptr, rows);
  const Buffer<std::int32_t> order = row_order(all, threads);
  const Buffer<std::int32_t> numbers = counted();
  const Buffer<T> ahead_weight = packed(false);
  const Buffer<T> start = padded_bias();

  std::int64_t row_at(std::int64_t i) const {
    return order.size() > 0 ? std::int64_t(order[i]) : i;
  }

  // The grid once for every group: positions are cells [groups, taps] of one group to the finder.
  Buffer<T> repeated() const {
    Buffer<T> made(3 * n);
    for (std::int64_t g = 0; g < shape.groups; ++g)
      std::copy_n(static_cast<const T*>(heads.grid), 3 * taps, made.data() + 3 * g * taps);
    return made;
  }
  Positions about(const Site* from, const T* values, std::int64_t count) const {
    return {index, reinterpret_cast<const std::int32_t*>(from), values, sizeof(T) == 8, count, n, 1,
            grid.data(), pitch};
  }
  Buffer<std::int32_t> counted() const {
    Buffer<std::int32_t> made(most_rows);
    for (std::int64_t i = 0; i < most_rows; ++i) made[i] = std::int32_t(i);
    return made;
  }
  Buffer<T> packed(bool turned) const {
    Buffer<T> made(turned ? predicted * products.padded(depth) : depth * pitch);
    if (turned)
      products.pack(weight, depth, 1, predicted, depth, made.data());
    else
      products.pack(weight, 1, depth, depth, predicted, made.data());
    return made;
  }
  Buffer<T> padded_bias() const {
    Buffer<T> made(pitch);
    std::fill_n(made.data(), pitch, T(0));
    std::copy_n(static_cast<const T*>(heads.bias), predicted, made.data());
    return made;
  }

  // Rows of the query in places `first` and after, side by side.
  void read_query(std::int64_t first, std::int64_t count, T* to) const {
    for (std::int64_t r = 0; r < count; ++r) {
      if (order.size() > 0 && first + r + ahead < rows)
        fetch(query + row_at(first + r + ahead) * depth, depth * std::int64_t(sizeof(S)));
      loops.widen(query + row_at(first + r) * depth, to + r * depth, depth);
    }
  }
  // The sites of those rows, and what they predict [count, pitch].
  void predict(std::int64_t first, std::int64_t count, T* room, Site* at, T* to) const {
    read_query(first, count, room);
    for (std::int64_t r = 0; r < count; ++r) at[r] = sites[row_at(first + r)];
    products.gather_gemm(room, depth, depth, ahead_weight.data(), predicted, numbers.data(),
                         numbers.data(), count, 0, to, pitch, start.data(), numbers.data(), 0,
                         {});
  }
  void weigh(const T* row, T* scale) const {
    if (shape.softmax)
      samples.softmax(row + 3 * n, scale, shape.groups, taps);
    else
      std::copy_n(row + 3 * n, n, scale);
  }
  // One over what of the weights fell on sites, 0 where nothing did.
  static T over_mass(const T* shares, std::int64_t count) {
    T mass = 0;
    for (std::int64_t p = 0; p < count; ++p) mass += shares[p];
    return mass >= std::numeric_limits<T>::min() ? 1 / mass : T(0);
  }

  void forward(S* y) const {
    const Widened<S, T> wide(loops, x, index.rows() * channels, threads);
    prefer_large_pages(y, rows * channels * std::int64_t(sizeof(S)));
    parallel_ranges(rows, task_rows, threads, [&](std::int64_t first, std::int64_t last) {
      Buffer<Site> at(tile_rows);
      Buffer<T> room(tile_rows * depth), found(tile_rows * pitch);
      const Positions where = about(at.data(), found.data(), tile_rows);
      const std::int32_t* list = index.list();
      const auto ids = [&](std::int32_t block) { return list + index.block(block).begin; };
      Corners<T, decltype(ids)> corners(where, ids);
      CornerMemory<T> memory(taps, false);
      Buffer<T> fraction(3 * n), scale(n), sums(channels);
      Buffer<std::int32_t> begin(taps + 1);
      const Ready ready(products);
      for (std::int64_t i = first; i < last; i += tile_rows) {
        const std::int64_t count = std::min(tile_rows, last - i);
        predict(i, count, room.data(), at.data(), found.data());
        for (std::int64_t r = 0; r < count; ++r) {
          weigh(found.data() + r * pitch, scale.data());
          const CellRow<T> cells = corners.row(r, scale.data(), fraction.data());
          for (std::int64_t g = 0; g < shape.groups; ++g) {
            const CornerList<T> near = memory.list();
            const std::int64_t used =
                samples.corners(cells, g * taps, 1, taps, false, begin.data(), near, 0);
            T* to = sums.data() + g * per_group;
            samples.sum_list(wide.data() + g * per_group, channels, per_group, near.rows,
                             near.shares, used, to);
            if (!shape.renormalize) continue;
            const T by = over_mass(near.shares, used);
            for (std::int64_t c = 0; c < per_group; ++c) to[c] *= by;
          }
          loops.narrow(sums.data(), y + row_at(i + r) * channels, channels);
        }
      }
    });
  }

  void backward(const S* g, S* grad_x, S* grad_query, T* grad_weight, T* grad_bias) const {
    const Buffer<T> back = packed(true);
    Buffer<T> zeros(products.padded(depth));
    std::fill_n(zeros.data(), zeros.size(), T(0));
    const Chunks chunks(all, order.size() > 0 ? order.data() : nullptr, 1,
                        std::min(Chunks::most_rows, chunk_numbers / pitch), threads,
                        Chunks::Find::later);
    SiteSums<S, T> total(grad_x, index.rows() * channels);
    std::fill_n(grad_weight, predicted * depth, T(0));
    std::fill_n(grad_bias, predicted, T(0));
    const auto run = [&](std::int64_t chunk) {
      return run_chunk(chunks, chunk, back.data(), zeros.data(), g, grad_query);
    };
    chunks.scatter_as_found<T>(channels, total.data(), run, [&](const auto& made) {
      parallel_ranges(predicted, 16, threads, [&](std::int64_t first, std::int64_t last) {
        for (const Chunks::Made<T>& one : made)
          for (std::int64_t j = first; j < last; ++j) {
            grad_bias[j] += one.more[strips * predicted * outer_width + j];
            for (std::int64_t c = 0; c < depth; ++c)
              grad_weight[j * depth + c] +=
                  one.more[(c / outer_limit * predicted + j) * outer_width + c % outer_limit];
          }
      });
    });
    total.write(loops, threads);
  }

  // The sums of a chunk for the sites it touches.
  Chunks::Made<T> run_chunk(const Chunks& chunks, std::int64_t chunk, const T* back, const T* zeros,
                            const S* g, S* grad_query) const {
    // derivatives of the weight, strip by strip of its columns, then those of the bias
    Buffer<T> more((strips * outer_width + 1) * predicted);
    std::fill_n(more.data(), more.size(), T(0));
    T* bias = more.data() + strips * outer_width * predicted;
    const std::int64_t first = chunks.first(chunk), count = chunks.last(chunk) - first;
    const Ready ready(products);
    Buffer<Site> at(count);
    // of every row what it predicts, and later the derivatives of that
    Buffer<T> found(count * pitch), room(tile_rows * depth);
    for (std::int64_t r = 0; r < count; r += tile_rows)
      predict(first + r, std::min(tile_rows, count - r), room.data(), at.data() + r,
              found.data() + r * pitch);
    const Positions where = about(at.data(), found.data(), count);
    const Chunks::Touched touched = Chunks::touched_by(where, nullptr, 0, count);
    Buffer<T> sums(touched.sites * channels), near(touched.sites * channels);
    std::fill_n(sums.data(), sums.size(), T(0));
    chunks.gather(touched, loops, x, channels, near.data());
    const auto ids = [&](std::int32_t block) { return chunks.numbers() + touched.begin_of(block); };
    Corners<T, decltype(ids)> corners(where, ids);
    CornerMemory<T> memory(taps, true);
    const std::int64_t ld = products.padded(depth), most = 8 * taps + 8;
    Buffer<T> fraction(3 * n), scale(n), to_scale(n), grad(channels), dots(8 * n), by(most),
        to_query(tile_rows * ld);
    Buffer<std::int32_t> begin(taps + 1), with(most);
    std::fill_n(with.data(), with.size(), 0);
    for (std::int64_t tile = 0; tile < count; tile += tile_rows) {
      const std::int64_t size = std::min(tile_rows, count - tile);
      for (std::int64_t r = tile; r < tile + size; ++r) {
        chunks.fetch_after(first + r, g, channels);
        loops.widen(g + chunks.row(first + r) * channels, grad.data(), channels);
        T* row = found.data() + r * pitch;
        weigh(row, scale.data());
        const CellRow<T> cells = corners.row(r, scale.data(), fraction.data());
        std::fill_n(dots.data(), 8 * n, T(0));
        for (std::int64_t k = 0; k < shape.groups; ++k) {
          const CornerList<T> list = memory.list();
          const std::int64_t used =
              samples.corners(cells, k * taps, 1, taps, true, begin.data(), list, 0);
          const T* mine = grad.data() + k * per_group;
          samples.dot_list(near.data() + k * per_group, channels, mine, 0, per_group, list.rows,
                           with.data(), used, by.data());
          if (shape.renormalize) over_shares(list.shares, used, by.data());
          for (std::int64_t p = 0; p < used; ++p) dots[list.codes[p]] = by[p];
          samples.add_list(sums.data() + k * per_group, channels, mine, 0, per_group, list.rows,
                           list.shares, with.data(), used);
        }
        write_slopes(where, dots.data(), fraction.data(), scale.data(), row, to_scale.data());
        write_masks(scale.data(), to_scale.data(), row + 3 * n);
        for (std::int64_t j = 0; j < predicted; ++j) bias[j] += row[j];
      }
      const T* slopes = found.data() + tile * pitch;
      read_query(first + tile, size, room.data());
      for (std::int64_t c = 0; c < depth; c += outer_limit)
        for (std::int64_t j = 0; j < predicted; j += outer_limit)
          outer_strip(slopes + j, std::min(outer_limit, predicted - j), room.data() + c,
                      std::min(outer_limit, depth - c), size,
                      more.data() + (c / outer_limit * predicted + j) * outer_width);
      products.gather_gemm(slopes, pitch, predicted, back, depth, numbers.data(), numbers.data(),
                           size, 0, to_query.data(), ld, zeros, numbers.data(), 0, {});
      for (std::int64_t r = 0; r < size; ++r)
        loops.narrow(to_query.data() + r * ld, grad_query + chunks.row(first + tile + r) * depth,
                     depth);
    }
    return {touched, std::move(sums), std::move(more)};
  }

  // acc [high, outer_width] += of rows of slopes and queries; a last strip is narrower than the others
  void outer_strip(const T* slopes, std::int64_t high, const T* from, std::int64_t wide,
                   std::int64_t count, T* acc) const {
    products.gather_outer(slopes, pitch, high, from, depth, wide, numbers.data(), numbers.data(),
                          count, numbers.data(), numbers.data(), 0, true, acc, outer_width,
                          false);
  }

  // Of a sum divided by its mass: shares, and the derivatives by them.
  static void over_shares(T* shares, std::int64_t used, T* by) {
    const T over = over_mass(shares, used);
    T mean = 0;
    for (std::int64_t p = 0; p < used; ++p) {
      shares[p] *= over;
      mean += shares[p] * by[p];
    }
    for (std::int64_t p = 0; p < used; ++p) by[p] = (by[p] - mean) * over;
  }
  void write_masks(const T* scale, const T* by, T* to) const {
    if (!shape.softmax) {
      std::copy_n(by, n, to);
      return;
    }
    for (std::int64_t first = 0; first < n; first += taps) {
      T mean = 0;
      for (std::int64_t t = first; t < first + taps; ++t) mean += scale[t] * by[t];
      for (std::int64_t t = first; t < first + taps; ++t) to[t] = scale[t] * (by[t] - mean);
    }
  }
};

}  // namespace

void moved_sum(int dtype, const BlockIndex& index, const MovedShape& shape, const Heads& heads,
               const Site* sites, std::int64_t rows, const void* x, const void* query, void* y,
               int threads) {
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    Moved<S, T>{loops, index, shape, heads, sites, rows, static_cast<const S*>(x),
                static_cast<const S*>(query), threads}
        .forward(static_cast<S*>(y));
  });
}

void moved_sum_grad(int dtype, const BlockIndex& index, const MovedShape& shape,
                    const Heads& heads, const Site* sites, std::int64_t rows, const void* x,
                    const void* query, const void* g, void* grad_x, void* grad_query,
                    void* grad_weight, void* grad_bias, int threads) {
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    Moved<S, T>{loops, index, shape, heads, sites, rows, static_cast<const S*>(x),
                static_cast<const S*>(query), threads}
        .backward(static_cast<const S*>(g), static_cast<S*>(grad_x), static_cast<S*>(grad_query),
                  static_cast<T*>(grad_weight), static_cast<T*>(grad_bias));
  });
}

}  // namespace sparseconv
