#include "kernels/relation.hpp"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "core/dtype.hpp"
#include "core/walk.hpp"

namespace sparseconv {
namespace {

// The taps of every row of a block, side by side: a row is known to no more than a few of them.
struct BlockTaps {
  std::int64_t taps;
  std::vector<std::int32_t> count, tap, other;

  explicit BlockTaps(const TapWalk& walk)
      : taps(walk.taps),
        count(walk.rows),
        tap(walk.rows * walk.taps),
        other(walk.rows * walk.taps) {
    for (std::int64_t t = 0; t < taps; ++t)
      for (std::int64_t p = walk.from[t]; p < walk.end[t]; ++p) {
        const std::int64_t row = walk.out[p] - walk.first;
        if (row >= walk.rows) break;
        const std::int64_t at = row * taps + count[row];
        if (count[row] > 0 && tap[at - 1] == t)
          throw std::invalid_argument(
              "segments: expected taps that pair a row with one other, found two pairs of a row");
        tap[at] = std::int32_t(t);
        other[at] = walk.in[p];
        ++count[row];
      }
  }
  RowTaps row(std::int64_t r) const {
    return {tap.data() + r * taps, other.data() + r * taps, count[r]};
  }
};

// Numbers [count][groups] move to the places of their taps, last ones first: no place is before.
template <class T>
void spread(const RowTaps& row, std::int64_t groups, T* v) {
  for (std::int64_t s = row.count - 1; s >= 0; --s)
    if (row.tap[s] != s)
      std::copy_n(v + s * groups, groups, v + row.tap[s] * groups);
}

template <class S, class T>
struct Pass {
  const Loops<S, T>& loops;
  const Related& of;
  const Pairs& pairs;
  int threads;

  std::int64_t size() const { return pairs.taps * of.groups; }  // of a row's weights
  std::int64_t width() const { return loops.tap_width(of.channels, of.groups); }
  std::int64_t block() const {
    return block_rows(std::max(width(), size()) * std::int64_t(sizeof(T)));
  }
  Relation<T> relation() const {
    return {static_cast<const T*>(of.prior), of.groups, of.kind};
  }
  const T* query(std::int64_t row = 0) const {
    return static_cast<const T*>(of.query) + row * of.groups;
  }
  const T* key(std::int64_t row = 0) const {
    return static_cast<const T*>(of.key) + row * of.groups;
  }

  // y's rows of the block <- sums of x weighed by v [rows][taps][groups]. `spare` has room for v.
  void weigh(const S* x, const TapWalk& walk, const T* v, T* spare, T* sums, S* y,
             bool past) const {
    if (of.channels == 0) return;
    const S* weights;
    if constexpr (std::is_same_v<S, T>) {
      weights = v;
      (void)spare;
    } else {
      S* narrowed = reinterpret_cast<S*>(spare);
      loops.narrow(v, narrowed, walk.rows * size());
      weights = narrowed;
    }
    loops.weigh_taps(x, of.channels, of.channels, of.groups, weights - walk.first * size(),
                     walk.out, walk, sums, width());
    loops.put_rows(sums, width(), walk.rows, of.channels, y + walk.first * of.channels, past);
  }

  // e [rows][taps][groups] <- the products of the block's rows of b with their neighbours in a.
  void dots_of(const S* a, const S* b, const TapWalk& walk, T* e) const {
    std::fill_n(e, walk.rows * size(), T(0));
    if (of.channels > 0) loops.dot_taps(a, b, of.channels, of.groups, walk, e);
  }

  void forward(const S* x, S* y, T* log_total) const {
    const bool ordered = check_pairs(pairs, of.num_in, of.num_out, threads);
    const std::int64_t rows = block(), room = rows * size();
    const Relation<T> relation = this->relation();
    const std::int64_t bytes = of.num_out * of.channels * std::int64_t(sizeof(S));
    const bool past = past_caches(bytes);
    prefer_large_pages(y, bytes);
    walk_rows<T>(pairs, ordered, of.num_out, rows, task_rows(ordered, of.num_out, rows, threads),
                 2 * room + rows * width() + 2 * of.groups, threads,
                 [&](const TapWalk& walk, std::int64_t, T* scratch) {
                   const BlockTaps list(walk);
                   T* v = scratch;
                   T* sums = v + 2 * room;
                   T* top = sums + rows * width();
                   T* total = top + of.groups;
                   // numbers of absent taps are read by nothing but a conversion
                   if constexpr (!std::is_same_v<S, T>) std::fill_n(v, walk.rows * size(), T(0));
                   for (std::int64_t r = 0; r < walk.rows; ++r) {
                     const RowTaps row = list.row(r);
                     T* to = log_total + (walk.first + r) * of.groups;
                     if (row.count == 0) {
                       std::fill_n(to, of.groups, T(0));
                       continue;
                     }
                     T* own = v + r * size();
                     loops.relate_row(relation, query(walk.first + r), key(), row, own);
                     loops.softmax_row(row.count, of.groups, own, top, total);
                     for (std::int64_t g = 0; g < of.groups; ++g)
                       to[g] = top[g] + std::log(total[g]);
                     spread(row, of.groups, own);
                   }
                   weigh(x, walk, v, v + room, sums, y, past);
                 });
  }

  // The sites' side: gradients of query and prior, and the means of each row.
  void from_sites(const S* x, const T* log_total, const S* grad, T* means, T* grad_query,
                  T* grad_prior) const {
    constexpr std::int64_t range = 512;
    const bool ordered = check_pairs(pairs, of.num_in, of.num_out, threads);
    const std::int64_t ranges = (of.num_out + range - 1) / range;
    const std::int64_t rows = ordered ? block() : range, room = rows * size();
    const Relation<T> relation = this->relation();
    Buffer<T> sums(ranges * size());
    std::fill_n(sums.data(), sums.size(), T(0));
    walk_rows<T>(pairs, ordered, of.num_out, rows, range, 2 * room, threads,
                 [&](const TapWalk& walk, std::int64_t at, T* scratch) {
                   const BlockTaps list(walk);
                   T* e = scratch + room;
                   dots_of(x, grad, walk, e);
                   for (std::int64_t r = 0; r < walk.rows; ++r) {
                     const RowTaps row = list.row(r);
                     const std::int64_t o = walk.first + r;
                     T* mean = means + o * of.groups;
                     const T* dots = e + r * size();
                     loops.relate_row(relation, query(o), key(), row, scratch);
                     loops.exp_row(row, of.groups, log_total + o * of.groups, false, scratch);
                     loops.mean_row(row, of.groups, scratch, dots, mean);
                     loops.slope_row(relation, query(o), key(), row, scratch, dots, mean, false,
                                     grad_query + o * of.groups, sums.data() + at * size());
                   }
                 });
    std::fill_n(grad_prior, size(), T(0));
    for (std::int64_t r = 0; r < ranges; ++r)
      for (std::int64_t i = 0; i < size(); ++i) grad_prior[i] += sums[r * size() + i];
  }

  // The neighbours' side: gradients of x and key. Sites and neighbours are exchanged.
  void from_neighbours(const S* x, const T* log_total, const S* grad, const T* means, S* grad_x,
                       T* grad_key) const {
    const Pairs seen{pairs.out, pairs.in, pairs.segments, pairs.taps, pairs.count};
    const bool ordered = check_pairs(seen, of.num_out, of.num_in, threads, true);
    const std::int64_t rows = block(), room = rows * size();
    const Relation<T> relation = this->relation();
    const std::int64_t bytes = of.num_in * of.channels * std::int64_t(sizeof(S));
    const bool past = past_caches(bytes);
    prefer_large_pages(grad_x, bytes);
    walk_rows<T>(seen, ordered, of.num_in, rows, task_rows(ordered, of.num_in, rows, threads),
                 2 * room + rows * width(), threads,
                 [&](const TapWalk& walk, std::int64_t, T* scratch) {
                   const BlockTaps list(walk);
                   T* v = scratch;
                   T* e = v + room;
                   if constexpr (!std::is_same_v<S, T>) std::fill_n(v, walk.rows * size(), T(0));
                   dots_of(grad, x, walk, e);
                   for (std::int64_t r = 0; r < walk.rows; ++r) {
                     const RowTaps row = list.row(r);
                     const std::int64_t i = walk.first + r;
                     T* own = v + r * size();
                     loops.relate_row(relation, key(i), query(), row, own);
                     loops.exp_row(row, of.groups, log_total, true, own);
                     loops.slope_row(relation, key(i), query(), row, own, e + r * size(), means,
                                     true, grad_key + i * of.groups, nullptr);
                     spread(row, of.groups, own);
                   }
                   weigh(grad, walk, v, e, e + room, grad_x, past);
                 });
  }
};

}  // namespace

void relation_mean(int dtype, const Related& of, const void* x, const Pairs& pairs, void* y,
                   void* log_total, int threads) {
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    const Pass<S, T> pass{loops, of, pairs, threads};
    pass.forward(static_cast<const S*>(x), static_cast<S*>(y), static_cast<T*>(log_total));
  });
}

void relation_mean_grad(int dtype, const Related& of, const void* x, const void* log_total,
                        const void* grad, const Pairs& pairs, void* grad_x, void* grad_query,
                        void* grad_key, void* grad_prior, int threads) {
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    const Pass<S, T> pass{loops, of, pairs, threads};
    Buffer<T> means(of.num_out * of.groups);
    const T* totals = static_cast<const T*>(log_total);
    const S* from = static_cast<const S*>(grad);
    pass.from_sites(static_cast<const S*>(x), totals, from, means.data(),
                    static_cast<T*>(grad_query), static_cast<T*>(grad_prior));
    pass.from_neighbours(static_cast<const S*>(x), totals, from, means.data(),
                         static_cast<S*>(grad_x), static_cast<T*>(grad_key));
  });
}

}  // namespace sparseconv
