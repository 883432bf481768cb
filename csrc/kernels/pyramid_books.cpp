#include <algorithm>
#include <vector>

#include "core/parallel.hpp"
#include "core/pyramid_block.hpp"
#include "kernels/pyramid.hpp"
#include "simd/dispatch.hpp"

namespace sparseconv {
namespace {

// The pairs of every tap, task by task: `count` tells how many a task has, unless the totals are
// known and one task does it all; then the tasks write them in place.
template <int taps, class Count, class Write>
Book book_of(std::int64_t rows, int threads, const std::int64_t* totals, Count&& count,
             Write&& write) {
  const std::int64_t step = threads > 1 ? site_piece : std::max<std::int64_t>(rows, 1);
  const std::int64_t tasks = std::max<std::int64_t>((rows + step - 1) / step, 1);
  // tasks + 1 rows of counters: where a task begins is where the one before it stops
  std::vector<std::int64_t> at(std::size_t((tasks + 1) * taps));
  if (totals && tasks == 1)
    std::copy_n(totals, taps, at.data());
  else
    parallel_ranges(rows, step, threads, [&](std::int64_t begin, std::int64_t end) {
      count(begin, end, at.data() + begin / step * taps);
    });
  Book book;
  book.segments = Buffer<std::int64_t>(taps + 1);
  std::int64_t place = 0;
  for (int t = 0; t < taps; ++t) {
    book.segments[t] = place;
    for (std::int64_t task = 0; task <= tasks; ++task)
      place += std::exchange(at[std::size_t(task * taps + t)], place);
  }
  book.segments[taps] = place;
  book.in = Buffer<std::int32_t>(place);
  book.out = Buffer<std::int32_t>(place);
  parallel_ranges(rows, step, threads, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t* from = at.data() + begin / step * taps;
    std::int64_t next[taps];
    std::copy_n(from, taps, next);
    write(begin, end, next, from + taps, book.in.data(), book.out.data());
  });
  return book;
}

Book book_of_lists(const std::uint64_t* words, const std::int32_t* list, std::int64_t rows,
                   const std::int64_t* totals, int threads) {
  const SiteLoops& loops = table().sites;
  return book_of<27>(
      rows, threads, totals,
      [&](std::int64_t begin, std::int64_t end, std::int64_t* counts) {
        loops.count_lists(words, begin, end, counts);
      },
      [&](std::int64_t begin, std::int64_t end, std::int64_t* at, const std::int64_t* stop,
          std::int32_t* in, std::int32_t* out) {
        loops.pairs_of_lists(words, list, begin, end, at, stop, in, out);
      });
}

}  // namespace

Book cube_book(const std::int64_t* pyramid, std::int64_t depth, int threads) {
  const PyramidHead& head = *part<PyramidHead>(pyramid, 0);
  const LevelPlace& level = head.levels[depth];
  const std::int64_t n = level.nodes;
  if (depth > 0)
    return book_of_lists(part<std::uint64_t>(pyramid, level.words),
                         part<std::int32_t>(pyramid, head.list), n, level.counts, threads);
  const std::int64_t parents = head.levels[1].nodes;
  // room for all taps, of which memory is touched where lists are
  Buffer<std::int32_t> list(27 * n + list_slack * (parents / site_piece + 2));
  Buffer<std::uint64_t> words(n);
  std::int64_t totals[27] = {};
  const std::int32_t* rows = head.rows ? part<std::int32_t>(pyramid, head.rows) : nullptr;
  list_neighbours(tree_of(pyramid, head, 1), parents, n, rows, words.data(), list.data(), 0, totals,
                  threads);
  return book_of_lists(words.data(), list.data(), n, totals, threads);
}

Halved halve(const std::int64_t* pyramid, std::int64_t depth, const Site* sites, int threads) {
  const PyramidHead& head = *part<PyramidHead>(pyramid, 0);
  const std::int64_t parents = head.levels[depth + 1].nodes;
  const SiteTree tree = tree_of(pyramid, head, depth + 1);
  const std::int32_t* rows =
      depth == 0 && head.rows ? part<std::int32_t>(pyramid, head.rows) : nullptr;
  const SiteLoops& loops = table().sites;
  Halved made;
  made.book = book_of<8>(
      parents, threads, nullptr,
      [&](std::int64_t begin, std::int64_t end, std::int64_t* counts) {
        loops.count_kids(tree, begin, end, counts);
      },
      [&](std::int64_t begin, std::int64_t end, std::int64_t* at, const std::int64_t* stop,
          std::int32_t* in, std::int32_t* out) {
        loops.pairs_of_kids(tree, rows, begin, end, at, stop, in, out);
      });
  made.sites = Buffer<std::int32_t>(4 * parents);
  parallel_ranges(parents, site_piece, threads, [&](std::int64_t begin, std::int64_t end) {
    loops.halve_sites(reinterpret_cast<const std::int32_t*>(sites), tree.families, rows, begin, end,
                      made.sites.data());
  });
  return made;
}

}  // namespace sparseconv
