#include "core/dtype.hpp"
#include "kernels/sample.hpp"
#include "kernels/scatter.hpp"

namespace sparseconv {
namespace {

// rows whose samples of a tap are multiplied at a time, fewer where rows have many cells
constexpr std::int64_t most_rows = 128, least_rows = 8, tile_cells = 16384;
constexpr std::int64_t task_tiles = 4;

// A block of the weight of one tap that fits an outer product, and where it lies among those.
struct Part {
  std::int64_t group, first_c, channels, first_d, width, at;
};

template <class S, class T>
struct Deform {
  const Loops<S, T>& loops;
  const Positions& where;
  const DeformShape& shape;
  const S* x;
  const S* weight;
  int threads;

  const Loops<T, T>& products = plain_loops<T>();
  const SampleLoops<T>& samples = sample_loops<T>();
  const std::int64_t n = where.cells();
  const bool masked = where.pitch > 3 * n;
  const std::int64_t tile_rows = std::clamp(tile_cells / n, least_rows, most_rows);
  const std::int64_t channels = shape.channels, width = shape.width;
  const std::int64_t per_group = shape.channels / shape.groups;
  const std::int64_t group_width = shape.width / shape.groups;
  const std::int64_t per_part = shape.channels / where.groups;
  const Buffer<std::int32_t> order = row_order(where, threads);

  // Weights of every tap and group for products of samples (turned: of gradients).
  Buffer<T> packed(bool turned) const {
    const Widened<S, T> wide(loops, weight, where.taps * per_group * width, threads);
    const std::int64_t size = packed_size(turned);
    Buffer<T> made(where.taps * shape.groups * size);
    parallel_tasks(where.taps * shape.groups, threads, [&](std::int64_t task) {
      const std::int64_t t = task / shape.groups, g = task % shape.groups;
      const T* from = wide.data() + t * per_group * width + g * group_width;
      if (turned)
        products.pack(from, 1, width, group_width, per_group, made.data() + task * size);
      else
        products.pack(from, width, 1, per_group, group_width, made.data() + task * size);
    });
    return made;
  }
  std::int64_t packed_size(bool turned) const {
    return turned ? group_width * products.padded(per_group)
                  : per_group * products.padded(group_width);
  }

  // The corners of a tile's rows, and of every tap the rows that have some.
  struct Tile {
    Tile(const Deform& of, bool every)
        : room(8 * of.n + 8),
          memory(of.tile_rows * room, every),
          begin(of.tile_rows * (of.n + 1)),
          some(of.where.taps * of.tile_rows),
          counts(of.where.taps),
          logits(of.n),
          fraction(3 * of.n * (every ? of.tile_rows : 1)),
          scale(of.n * (every ? of.tile_rows : 1)),
          read(of.tile_rows * of.channels) {}

    const std::int64_t room;     // corners of a row, and eight that may be overwritten
    CornerMemory<T> memory;      // [row, tap, part]
    Buffer<std::int32_t> begin;  // [row, tap, part], a last one each row
    Buffer<std::int32_t> some;   // [tap, .], rows with a sample
    Buffer<std::int32_t> counts;
    Buffer<T> logits, fraction, scale, read;
    std::int64_t rows = 0;
  };

  // row_at(i) is the row in place i
  template <class Corners, class RowAt>
  void find(Tile& tile, Corners& corners, bool every, std::int64_t rows, RowAt&& row_at) const {
    tile.rows = rows;
    std::fill_n(tile.counts.data(), tile.counts.size(), 0);
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t row = row_at(r), keep = every ? r : 0;
      if (order.size() > 0 && r + 2 < rows) fetch(where.of(row_at(r + 2)), where.bytes());
      T* scale = tile.scale.data() + keep * n;
      if (masked && where.wide) masks<double>(row, tile.logits.data(), scale);
      if (masked && !where.wide) masks<float>(row, tile.logits.data(), scale);
      const CellRow<T> cells =
          corners.row(row, masked ? scale : nullptr, tile.fraction.data() + 3 * keep * n);
      std::int32_t* begin = tile.begin.data() + r * (n + 1);
      samples.corners(cells, 0, 1, n, every, begin, tile.memory.list(), r * tile.room);
      for (std::int64_t t = 0; t < where.taps; ++t) {
        // written in any case, which no branch has to guess
        std::int32_t& count = tile.counts[t];
        tile.some[t * tile_rows + count] = std::int32_t(r);
        count += begin[(t + 1) * where.groups] > begin[t * where.groups];
      }
    }
  }

  // The masks of a row, [taps, groups]: behind the offsets, group by group.
  template <class P>
  void masks(std::int64_t row, T* room, T* to) const {
    const P* from = static_cast<const P*>(where.of(row)) + 3 * n;
    for (std::int64_t h = 0; h < where.groups; ++h)
      for (std::int64_t t = 0; t < where.taps; ++t)
        room[t * where.groups + h] = T(from[h * where.taps + t]);
    if (shape.squash)
      samples.squash(room, to, n);
    else
      std::copy_n(room, n, to);
  }

  // Write the derivatives of a row's heads from those of its positions and of their scales.
  template <class P>
  void write_heads(std::int64_t row, const P* slopes, const T* by_scale, const T* scale,
                   void* grad_heads) const {
    P* to = static_cast<P*>(grad_heads) + row * where.pitch;
    for (std::int64_t h = 0; h < where.groups; ++h)
      for (std::int64_t t = 0; t < where.taps; ++t) {
        const std::int64_t i = t * where.groups + h, j = h * where.taps + t;
        for (int a = 0; a < 3; ++a) to[3 * j + a] = slopes[3 * i + a];
        if (masked)
          to[3 * n + j] = P(shape.squash ? by_scale[i] * scale[i] * (1 - scale[i]) : by_scale[i]);
      }
  }

  // Rows that have a sample of tap t; their samples [., C] follow one another.
  std::int64_t read(Tile& tile, std::int64_t t, const T* from, const std::int32_t*& some) const {
    some = tile.some.data() + t * tile_rows;
    const std::int64_t count = tile.counts[t];
    for (std::int64_t h = 0; h < where.groups && count > 0; ++h)
      samples.sum_lists(from + h * per_part, channels, per_part, tile.memory.list(),
                        tile.begin.data() + t * where.groups + h, n + 1, some, count,
                        tile.read.data() + h * per_part, channels);
    return count;
  }

  void forward(const S* bias, S* y) const {
    const Widened<S, T> wide(loops, x, where.index.rows() * channels, threads);
    const Buffer<T> weights = packed(false);
    const std::int64_t size = packed_size(false), pitch = products.padded(group_width);
    const std::int64_t ld = shape.groups * pitch;
    Buffer<T> start(width);
    std::fill_n(start.data(), width, T(0));
    if (bias != nullptr) loops.widen(bias, start.data(), width);
    Buffer<std::int32_t> numbers(tile_rows);
    for (std::int64_t i = 0; i < tile_rows; ++i) numbers[i] = std::int32_t(i);
    prefer_large_pages(y, where.rows * width * std::int64_t(sizeof(S)));
    parallel_ranges(where.rows, tile_rows * task_tiles, threads,
                    [&](std::int64_t first, std::int64_t last) {
      const std::int32_t* list = where.index.list();
      const auto ids = [&](std::int32_t block) { return list + where.index.block(block).begin; };
      Corners<T, decltype(ids)> corners(where, ids);
      Tile tile(*this, false);
      Buffer<T> sums(tile_rows * ld);
      const Ready ready(products);
      for (std::int64_t at = first; at < last; at += tile_rows) {
        const auto row_at = [&](std::int64_t r) {
          return order.size() > 0 ? std::int64_t(order[at + r]) : at + r;
        };
        const std::int64_t rows = std::min(tile_rows, last - at);
        find(tile, corners, false, rows, row_at);
        for (std::int64_t r = 0; r < rows; ++r)
          for (std::int64_t g = 0; g < shape.groups; ++g)
            std::copy_n(start.data() + g * group_width, group_width,
                        sums.data() + r * ld + g * pitch);
        for (std::int64_t t = 0; t < where.taps; ++t) {
          const std::int32_t* some;
          const std::int64_t count = read(tile, t, wide.data(), some);
          for (std::int64_t g = 0; g < shape.groups && count > 0; ++g)
            products.gather_gemm(tile.read.data() + g * per_group, channels, per_group,
                                 weights.data() + (t * shape.groups + g) * size, group_width,
                                 numbers.data(), some, count, 0,
                                 sums.data() + g * pitch, ld, nullptr, numbers.data(), 0, {});
        }
        for (std::int64_t r = 0; r < rows; ++r)
          for (std::int64_t g = 0; g < shape.groups; ++g)
            loops.narrow(sums.data() + r * ld + g * pitch,
                         y + row_at(r) * width + g * group_width, group_width);
      }
    });
  }

  std::vector<Part> parts() const {
    std::vector<Part> list;
    std::int64_t at = 0;
    for (std::int64_t g = 0; g < shape.groups; ++g)
      for (std::int64_t c = 0; c < per_group; c += outer_limit)
        for (std::int64_t d = 0; d < group_width; d += outer_limit) {
          const std::int64_t high = std::min(outer_limit, per_group - c);
          const std::int64_t wide = std::min(outer_limit, group_width - d);
          list.push_back({g, g * per_group + c, high, g * group_width + d, wide, at});
          at += high * products.padded(wide);
        }
    return list;
  }

  void backward(const S* g, S* grad_x, void* grad_heads, S* grad_weight) const {
    const Buffer<T> weights = packed(true);
    const std::vector<Part> blocks = parts();
    const Part& end = blocks.back();
    const std::int64_t tap_size = end.at + end.channels * products.padded(end.width);
    // so few chunks that their sums of the weight take at most 2 M C numbers
    const Chunks chunks(where, order.size() > 0 ? order.data() : nullptr,
                        where.taps * tap_size / (2 * channels), Chunks::most_rows,
                        threads);
    Buffer<T> outer(chunks.count() * where.taps * tap_size);
    prefer_large_pages(grad_heads, where.rows * where.bytes());
    SiteSums<S, T> total(grad_x, where.index.rows() * channels);
    Buffer<T> zeros(products.padded(per_group));
    std::fill_n(zeros.data(), zeros.size(), T(0));
    chunks.scatter(channels, total.data(), [&](std::int64_t chunk, T* to) {
      T* mine = outer.data() + chunk * where.taps * tap_size;
      std::fill_n(mine, where.taps * tap_size, T(0));
      run_chunk(chunks, chunk, blocks, tap_size, weights.data(), zeros.data(), g, to, mine,
                grad_heads);
    });
    total.write(loops, threads);
    parallel_tasks(where.taps * std::int64_t(blocks.size()), threads, [&](std::int64_t task) {
      const std::int64_t t = task / std::int64_t(blocks.size());
      const Part& part = blocks[std::size_t(task % std::int64_t(blocks.size()))];
      const std::int64_t size = part.channels * products.padded(part.width);
      Buffer<T> sum(size);
      std::fill_n(sum.data(), size, T(0));
      for (std::int64_t chunk = 0; chunk < chunks.count(); ++chunk) {
        const T* from = outer.data() + (chunk * where.taps + t) * tap_size + part.at;
        for (std::int64_t i = 0; i < size; ++i) sum[i] += from[i];
      }
      for (std::int64_t c = 0; c < part.channels; ++c)
        loops.narrow(sum.data() + c * products.padded(part.width),
                     grad_weight + (t * per_group + part.first_c % per_group + c) * width +
                         part.first_d,
                     part.width);
    });
  }

  void run_chunk(const Chunks& chunks, std::int64_t chunk, const std::vector<Part>& blocks,
                 std::int64_t tap_size, const T* weights, const T* zeros, const S* g, T* to,
                 T* outer, void* grad_heads) const {
    const Chunks::Touched& touched = chunks.touched(chunk);
    Buffer<T> near(touched.sites * channels);
    chunks.gather(chunk, loops, x, channels, near.data());
    const auto ids = [&](std::int32_t block) { return chunks.numbers() + touched.begin_of(block); };
    Corners<T, decltype(ids)> corners(where, ids);
    Tile tile(*this, true);
    // products of the last group may write whole vectors
    const std::int64_t ld = channels + products.padded(1);
    Buffer<T> grad(tile_rows * width), back(tile_rows * ld), dots(8 * n), to_scale(n);
    const std::int64_t most = 8 * tile_rows + 8;
    Buffer<double> slopes(3 * n);
    Buffer<std::int32_t> numbers(tile_rows), rows(most), with(most);
    Buffer<T> shares(most), found(most), parts(tile_rows * tile.room);
    for (std::int64_t i = 0; i < tile_rows; ++i) numbers[i] = std::int32_t(i);
    const Ready ready(products);
    for (std::int64_t at = chunks.first(chunk); at < chunks.last(chunk); at += tile_rows) {
      const std::int64_t size = std::min(tile_rows, chunks.last(chunk) - at);
      find(tile, corners, true, size, [&](std::int64_t r) { return chunks.row(at + r); });
      for (std::int64_t r = 0; r < size; ++r) {
        chunks.fetch_after(at + r, g, width);
        loops.widen(g + chunks.row(at + r) * width, grad.data() + r * width, width);
      }
      for (std::int64_t t = 0; t < where.taps; ++t) {
        const std::int32_t* some;
        const std::int64_t count = read(tile, t, near.data(), some);
        if (count == 0) continue;
        for (const Part& part : blocks)
          products.gather_outer(tile.read.data() + part.first_c, channels, part.channels,
                                grad.data() + part.first_d, width, part.width, numbers.data(),
                                some, count, numbers.data(), numbers.data(), 0, true,
                                outer + t * tap_size + part.at, products.padded(part.width), false);
        // groups in order: what one writes beyond its columns the next writes over
        for (std::int64_t k = 0; k < shape.groups; ++k)
          products.gather_gemm(grad.data() + k * group_width, width, group_width,
                               weights + (t * shape.groups + k) * packed_size(true), per_group,
                               some, numbers.data(), count, 0,
                               back.data() + k * per_group, ld, zeros, numbers.data(), 0, {});
        for (std::int64_t h = 0; h < where.groups; ++h) {
          const std::int32_t* begin = tile.begin.data() + t * where.groups + h;
          const std::int64_t listed =
              samples.join_lists(tile.memory.list(), begin, n + 1, some, count, rows.data(),
                                 shares.data(), with.data());
          samples.dot_list(near.data() + h * per_part, channels, back.data() + h * per_part, ld,
                           per_part, rows.data(), with.data(), listed, found.data());
          samples.part_lists(found.data(), begin, n + 1, some, count, parts.data());
          samples.add_list(to + h * per_part, channels, back.data() + h * per_part, ld, per_part,
                           rows.data(), shares.data(), with.data(), listed);
        }
      }
      for (std::int64_t r = 0; r < size; ++r) {
        const std::int64_t row = chunks.row(at + r);
        std::fill_n(dots.data(), 8 * n, T(0));
        const std::int32_t* begin = tile.begin.data() + r * (n + 1);
        for (std::int32_t p = begin[0]; p < begin[n]; ++p)
          dots[tile.memory.codes[p]] = parts[p];
        const T* scale = masked ? tile.scale.data() + r * n : nullptr;
        write_slopes(where, dots.data(), tile.fraction.data() + 3 * r * n, scale, slopes.data(),
                     to_scale.data());
        if (where.wide)
          write_heads<double>(row, slopes.data(), to_scale.data(), scale, grad_heads);
        else
          write_heads<float>(row, reinterpret_cast<const float*>(slopes.data()), to_scale.data(),
                             scale, grad_heads);
      }
    }
  }
};

}  // namespace

void deform_conv(int dtype, const Positions& where, const DeformShape& shape, const void* x,
                 const void* weight, const void* bias, void* y, int threads) {
  if (where.rows == 0 || shape.width == 0) return;
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    Deform<S, T>{loops, where, shape, static_cast<const S*>(x), static_cast<const S*>(weight),
                 threads}
        .forward(static_cast<const S*>(bias), static_cast<S*>(y));
  });
}

void deform_conv_grad(int dtype, const Positions& where, const DeformShape& shape, const void* x,
                      const void* weight, const void* g, void* grad_x, void* grad_heads,
                      void* grad_weight, int threads) {
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    Deform<S, T>{loops, where, shape, static_cast<const S*>(x), static_cast<const S*>(weight),
                 threads}
        .backward(static_cast<const S*>(g), static_cast<S*>(grad_x), grad_heads,
                  static_cast<S*>(grad_weight));
  });
}

}  // namespace sparseconv
