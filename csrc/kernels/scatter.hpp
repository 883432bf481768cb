// Sums over the sites that chunks of rows touch: every chunk has sums of its own for the blocks it
// touches, which are then added chunk after chunk. No threads and no atomics change them.
#pragma once
#include <algorithm>
#include <vector>

#include "core/parallel.hpp"
#include "kernels/corners.hpp"

namespace sparseconv {

class Chunks {
 public:
  // Whether what chunks touch is found at once, or by who runs them: their places may not be known.
  enum class Find { now, later };

  // Rows in order (null: as they come), at least `least` a chunk and usually at most `most`.
  Chunks(const Positions& where, const std::int32_t* order, std::int64_t least, std::int64_t most,
         int threads, Find find = Find::now);
  static constexpr std::int64_t most_rows = 4096;

  // The blocks of a chunk, ascending, and where the sites of each begin among those of the chunk.
  struct Touched {
    std::vector<std::int32_t> blocks, begin;
    std::int64_t sites = 0;

    std::int32_t begin_of(std::int32_t block) const {
      return begin[std::size_t(std::lower_bound(blocks.begin(), blocks.end(), block) -
                               blocks.begin())];
    }
  };

  // Sums of a chunk, [sites touched, channels], and what else it made.
  template <class T>
  struct Made {
    Touched touched;
    Buffer<T> sums, more;
  };

  // What rows touch, in order (null: as they come).
  static Touched touched_by(const Positions& where, const std::int32_t* order, std::int64_t first,
                            std::int64_t last);

  std::int64_t count() const { return count_; }
  const Touched& touched(std::int64_t chunk) const { return touched_[std::size_t(chunk)]; }
  std::int64_t first(std::int64_t chunk) const { return chunk * rows_; }
  std::int64_t last(std::int64_t chunk) const { return std::min((chunk + 1) * rows_, where_.rows); }
  std::int64_t row(std::int64_t i) const { return order_ == nullptr ? i : order_[i]; }
  // Fetch the row of `n` numbers some places after the i-th.
  template <class V>
  void fetch_after(std::int64_t i, const V* values, std::int64_t n) const {
    constexpr std::int64_t ahead = 2;
    if (order_ != nullptr && i + ahead < where_.rows)
      fetch(values + row(i + ahead) * n, n * std::int64_t(sizeof(V)));
  }
  // 0, 1, 2, ... for the sites of any chunk
  const std::int32_t* numbers() const { return numbers_.data(); }

  // total[site][c] += sums of all chunks. fill(chunk, sums) adds to sums [sites of the chunk,
  // channels], zero before. Takes three quarters of a number a site and channel, or those of one
  // chunk: as many chunks run at a time.
  template <class T, class Fill>
  void scatter(std::int64_t channels, T* total, Fill&& fill) const {
    const std::int64_t most = 3 * where_.index.sites() / 4;
    for (std::int64_t begin = 0, end; begin < count(); begin = end) {
      std::int64_t sites = 0;
      std::vector<std::int64_t> at;
      for (end = begin; end < count() && (end == begin || sites + touched(end).sites <= most);
           ++end) {
        at.push_back(sites);
        sites += touched(end).sites;
      }
      // as many for each thread, unless they are the last
      if (end < count() && end - begin > threads_) end -= (end - begin) % threads_;
      Buffer<T> sums(sites * channels);
      parallel_tasks(end - begin, threads_, [&](std::int64_t i) {
        T* mine = sums.data() + at[std::size_t(i)] * channels;
        std::fill_n(mine, touched(begin + i).sites * channels, T(0));
        fill(begin + i, mine);
      });
      std::vector<Part<T>> parts;
      for (std::int64_t i = begin; i < end; ++i)
        parts.push_back({&touched(i), sums.data() + at[std::size_t(i - begin)] * channels});
      add(parts, channels, total);
    }
  }

  // The same where run(chunk) finds what it touches itself and returns that with its sums. Chunks
  // are added in order, however many run at a time: some for each thread. done(chunks) sees them.
  template <class T, class Run, class Done>
  void scatter_as_found(std::int64_t channels, T* total, Run&& run, Done&& done) const {
    constexpr std::int64_t fewest = 4;
    const std::int64_t at_once = std::max(fewest, std::int64_t(2) * threads_);
    for (std::int64_t begin = 0; begin < count(); begin += at_once) {
      std::vector<Made<T>> made(std::size_t(std::min(at_once, count() - begin)));
      parallel_tasks(std::int64_t(made.size()), threads_,
                     [&](std::int64_t i) { made[std::size_t(i)] = run(begin + i); });
      std::vector<Part<T>> parts;
      for (const Made<T>& one : made) parts.push_back({&one.touched, one.sums.data()});
      add(parts, channels, total);
      done(made);
    }
  }

  // Copy the rows of the sites of a chunk, in their order.
  template <class S, class T>
  void gather(std::int64_t chunk, const Loops<S, T>& loops, const S* x, std::int64_t channels,
              T* to) const {
    gather(touched(chunk), loops, x, channels, to);
  }
  template <class S, class T>
  void gather(const Touched& touched, const Loops<S, T>& loops, const S* x, std::int64_t channels,
              T* to) const {
    constexpr std::int64_t ahead = 8;
    const std::int32_t* list = where_.index.list();
    for (const std::int32_t block : touched.blocks) {
      const std::int64_t end = where_.index.end(block);
      for (std::int64_t u = where_.index.block(block).begin; u < end; ++u) {
        if (u + ahead < where_.index.sites())
          fetch(x + list[u + ahead] * channels, channels * std::int64_t(sizeof(S)));
        loops.widen(x + list[u] * channels, to, channels);
        to += channels;
      }
    }
  }

 private:
  template <class T>
  struct Part {
    const Touched* touched;
    const T* sums;
  };

  template <class T>
  void add(const std::vector<Part<T>>& parts, std::int64_t channels, T* total) const {
    // the parts that touch a block, in order
    const std::int64_t blocks = where_.index.size();
    std::vector<std::int64_t> starts(std::size_t(blocks) + 2, 0);
    for (const Part<T>& part : parts)
      for (const std::int32_t block : part.touched->blocks) ++starts[std::size_t(block) + 2];
    for (std::int64_t b = 1; b <= blocks + 1; ++b)
      starts[std::size_t(b)] += starts[std::size_t(b) - 1];
    std::vector<const T*> from;
    from.resize(std::size_t(starts[std::size_t(blocks) + 1]));
    for (const Part<T>& part : parts) {
      const Touched& mine = *part.touched;
      for (std::size_t i = 0; i < mine.blocks.size(); ++i)
        from[std::size_t(starts[std::size_t(mine.blocks[i]) + 1]++)] =
            part.sums + mine.begin[i] * channels;
    }
    parallel_ranges(blocks, 64, threads_, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t b = first; b < last; ++b) {
        const std::int64_t site = where_.index.block(b).begin;
        const std::int64_t size = where_.index.end(b) - site;
        for (std::int64_t i = starts[std::size_t(b)]; i < starts[std::size_t(b) + 1]; ++i)
          for (std::int64_t u = 0; u < size; ++u) {
            T* to = total + where_.index.list()[site + u] * channels;
            const T* part = from[std::size_t(i)] + u * channels;
            for (std::int64_t c = 0; c < channels; ++c) to[c] += part[c];
          }
      }
    });
  }

  const Positions& where_;
  const std::int32_t* order_;
  int threads_;
  std::int64_t rows_, count_;
  std::vector<Touched> touched_;
  Buffer<std::int32_t> numbers_;
};

// Sums for every site, in the result itself where it has their type.
template <class S, class T>
class SiteSums {
 public:
  SiteSums(S* result, std::int64_t n) : result_(result), n_(n) {
    if constexpr (sizeof(S) != sizeof(T)) sums_ = Buffer<T>(n);
    prefer_large_pages(data(), n * std::int64_t(sizeof(T)));
    std::fill_n(data(), n, T(0));
  }
  T* data() {
    if constexpr (sizeof(S) == sizeof(T))
      return result_;
    else
      return sums_.data();
  }
  void write(const Loops<S, T>& loops, int threads) {
    if constexpr (sizeof(S) != sizeof(T))
      parallel_ranges(n_, 1 << 16, threads, [&](std::int64_t begin, std::int64_t end) {
        loops.narrow(sums_.data() + begin, result_ + begin, end - begin);
      });
  }

 private:
  S* result_;
  std::int64_t n_;
  Buffer<T> sums_;
};

// Write the derivatives of a row's positions [cells, 3], of their type, and those of the scales of
// its cells to `to_scale`, from those of their corners.
template <class T>
void write_slopes(const Positions& where, const T* dots, const T* fraction, const T* scale,
                  void* to_positions, T* to_scale) {
  const std::int64_t n = where.cells();
  const SampleLoops<T>& loops = sample_loops<T>();
  if (where.wide)
    loops.slopes_f64(dots, fraction, scale, n, static_cast<double*>(to_positions), to_scale);
  else
    loops.slopes_f32(dots, fraction, scale, n, static_cast<float*>(to_positions), to_scale);
}

}  // namespace sparseconv
