#include "kernels/rulebook.hpp"

#include "core/ordered.hpp"

namespace sparseconv {
namespace {

constexpr std::int64_t chunk_rows = 4096;
constexpr int most_taps = 8;  // of one column

// Taps found together: consecutive ones that differ in z alone, upwards.
struct Column {
  std::int64_t first;
  int taps;
};

// Pairs of one column and one chunk of output rows (or of their sorted places), tap by tap.
struct Part {
  Buffer<std::int32_t> in, out;
  std::int64_t begin[most_taps + 1] = {};
};

bool symmetric(const std::vector<Offset>& offsets, const Offset& stride) {
  if (offsets.size() % 2 == 0) return false;
  for (int a = 0; a < 3; ++a) {
    if (stride.v[a] != 1) return false;
    for (std::size_t t = 0; t < offsets.size(); ++t)
      if (offsets[t].v[a] != -offsets[offsets.size() - 1 - t].v[a]) return false;
  }
  return true;
}

std::vector<Column> columns_of(const std::vector<Offset>& offsets, std::int64_t taps, bool alone) {
  std::vector<Column> columns;
  for (std::int64_t t = 0; t < taps; ++t) {
    const bool joins = !alone && t > 0 && columns.back().taps < most_taps &&
                       offsets[t].v[0] == offsets[t - 1].v[0] &&
                       offsets[t].v[1] == offsets[t - 1].v[1] &&
                       offsets[t].v[2] > offsets[t - 1].v[2];
    if (joins)
      ++columns.back().taps;
    else
      columns.push_back({t, 1});
  }
  return columns;
}

// The box of all inputs, outputs and queries: a query outside the inputs has its own key, and so
// has an output outside both, by which it is sorted.
Box box_of_queries(const Box& in, const Box& out, const std::vector<Offset>& offsets,
                   const Offset& stride) {
  Box box = in;
  const auto add_moved = [&](const Offset& offset) {
    Box moved = out;
    for (int a = 0; a < 3; ++a) {
      moved.low[a + 1] = out.low[a + 1] * stride.v[a] + offset.v[a];
      moved.high[a + 1] = out.high[a + 1] * stride.v[a] + offset.v[a];
    }
    box.add(moved);
  };
  add_moved(Offset{});
  for (const Offset& offset : offsets) add_moved(offset);
  return box;
}

// Found pairs of one task, one list a tap, before they are packed into a part.
class Lists {
 public:
  Lists(int taps, std::int64_t rows)
      : taps_(taps), rows_(rows), in_(taps * rows), out_(taps * rows) {}

  void add(int tap, std::int64_t in, std::int64_t out) {
    const std::int64_t at = tap * rows_ + size_[tap]++;
    in_[at] = std::int32_t(in);
    out_[at] = std::int32_t(out);
  }

  void pack(Part& part) const {
    for (int tap = 0; tap < taps_; ++tap) part.begin[tap + 1] = part.begin[tap] + size_[tap];
    part.in = Buffer<std::int32_t>(part.begin[taps_]);
    part.out = Buffer<std::int32_t>(part.begin[taps_]);
    for (int tap = 0; tap < taps_; ++tap) {
      std::copy_n(in_.data() + tap * rows_, size_[tap], part.in.data() + part.begin[tap]);
      std::copy_n(out_.data() + tap * rows_, size_[tap], part.out.data() + part.begin[tap]);
    }
  }

 private:
  int taps_;
  std::int64_t rows_;
  std::int64_t size_[most_taps] = {};
  Buffer<std::int32_t> in_, out_;
};

// first[i - begin] = place of the first key not below out key i + move, for i in [begin, end).
//
// One step either passes a key or settles a query, without a branch to mispredict; four stretches
// of queries walk side by side, so that none waits for its own last load.
void walk(const Ordered& in, const std::int64_t* queries, std::int64_t move, std::int64_t begin,
          std::int64_t end, std::int32_t* first) {
  constexpr int walks = 4;
  const std::int64_t* keys = in.keys();
  const std::int64_t stretch = (end - begin + walks - 1) / walks;
  std::int64_t at[walks], row[walks], stop[walks];
  for (int w = 0; w < walks; ++w) {
    row[w] = std::min(end, begin + w * stretch);
    stop[w] = std::min(end, row[w] + stretch);
    if (row[w] < stop[w])
      at[w] = std::lower_bound(keys, keys + in.size(), queries[row[w]] + move) - keys;
  }
  const auto step = [&](int w) {
    const bool below = keys[at[w]] < queries[row[w]] + move;
    first[row[w] - begin] = std::int32_t(at[w]);
    at[w] += below;
    row[w] += !below;
  };
  for (;;) {
    std::int64_t safe = stop[0] - row[0];
    for (int w = 1; w < walks; ++w) safe = std::min(safe, stop[w] - row[w]);
    if (safe == 0) break;
    for (; safe > 0; --safe)
      for (int w = 0; w < walks; ++w) step(w);
  }
  for (int w = 0; w < walks; ++w)
    while (row[w] < stop[w]) step(w);
}

// Pairs of all taps of one column and one chunk of ascending queries.
void find_by_merge(const Ordered& in, const Ordered& out, const std::int64_t* moves, int taps,
                   std::int64_t begin, std::int64_t end, Lists& lists) {
  const std::int64_t span = moves[taps - 1] - moves[0];
  const std::int64_t* keys = in.keys();
  const std::int64_t* queries = out.keys();
  std::int32_t first[chunk_rows], near[chunk_rows];
  walk(in, queries, moves[0], begin, end, first);
  int count = 0;
  for (std::int64_t i = begin; i < end; ++i) {
    near[count] = std::int32_t(i);
    count += keys[first[i - begin]] - (queries[i] + moves[0]) <= span;
  }
  for (int k = 0; k < count; ++k) {
    const std::int64_t i = near[k], query = queries[i] + moves[0];
    // the sentinel is far above any query
    for (const std::int64_t* hit = keys + first[i - begin]; *hit - query <= span; ++hit)
      for (int j = 0; j < taps; ++j)
        if (*hit - query == moves[j] - moves[0]) lists.add(j, in.row(hit - keys), out.row(i));
  }
}

// Look-ups of one tap, a batch at a time.
void find_by_index(const SiteIndex& index, const Site* out_sites, const Offset& offset,
                   const Offset& stride, std::int64_t begin, std::int64_t end, Lists& lists) {
  Site queries[SiteIndex::batch];
  std::int64_t asks[SiteIndex::batch];
  std::int32_t rows[SiteIndex::batch];
  int n = 0;
  const auto flush = [&] {
    index.find(queries, n, rows);
    for (int k = 0; k < n; ++k)
      if (rows[k] >= 0) lists.add(0, rows[k], asks[k]);
    n = 0;
  };
  for (std::int64_t row = begin; row < end; ++row) {
    const Site& s = out_sites[row];
    const std::int64_t at[3] = {s.x * stride.v[0] + offset.v[0], s.y * stride.v[1] + offset.v[1],
                                s.z * stride.v[2] + offset.v[2]};
    bool inside = true;
    for (const std::int64_t value : at) inside = inside && value >= INT32_MIN && value <= INT32_MAX;
    if (!inside) continue;
    queries[n] = {s.b, std::int32_t(at[0]), std::int32_t(at[1]), std::int32_t(at[2])};
    asks[n] = row;
    if (++n == SiteIndex::batch) flush();
  }
  flush();
}

// Pairs of one tap from all its chunks to their place in the book.
void gather_tap(const std::vector<Part>& parts, std::int64_t first_part, std::int64_t chunks,
                int tap, std::int32_t* in, std::int32_t* out) {
  for (std::int64_t c = 0; c < chunks; ++c) {
    const Part& part = parts[first_part + c];
    const std::int64_t begin = part.begin[tap], size = part.begin[tap + 1] - begin;
    std::copy_n(part.in.data() + begin, size, in);
    std::copy_n(part.out.data() + begin, size, out);
    in += size;
    out += size;
  }
}

// Put pairs in the order of their output rows, which are distinct and below m.
void order_by_out(std::int32_t* in, std::int32_t* out, std::int64_t size, std::int64_t m) {
  if (std::is_sorted(out, out + size)) return;
  if (size < m / 4) {
    Buffer<KeyRow> items(size);
    for (std::int64_t p = 0; p < size; ++p) items[p] = {out[p], in[p]};
    radix_sort(items, std::uint64_t(m - 1));
    for (std::int64_t p = 0; p < size; ++p) {
      in[p] = std::int32_t(items[p].row);
      out[p] = std::int32_t(items[p].key);
    }
    return;
  }
  Buffer<std::int32_t> of(m);
  std::fill_n(of.data(), m, -1);
  for (std::int64_t p = 0; p < size; ++p) of[out[p]] = in[p];
  for (std::int64_t row = 0, p = 0; row < m; ++row)
    if (of[row] >= 0) {
      in[p] = of[row];
      out[p++] = std::int32_t(row);
    }
}

// Whether every row is the one its own site leads to.
bool all_distinct(const SiteIndex& index, const Site* sites, std::int64_t n) {
  std::int32_t rows[SiteIndex::batch];
  for (std::int64_t i = 0; i < n; i += SiteIndex::batch) {
    const int now = int(std::min<std::int64_t>(SiteIndex::batch, n - i));
    index.find(sites + i, now, rows);
    for (int k = 0; k < now; ++k)
      if (rows[k] != i + k) return false;
  }
  return true;
}

}  // namespace

Book rulebook(const Site* in_sites, std::int64_t n, std::int64_t* slots, std::int64_t capacity,
              const Site* out_sites, std::int64_t m, const std::vector<Offset>& offsets,
              const Offset& stride, bool same_sites, int threads) {
  const std::int64_t taps = std::int64_t(offsets.size());
  const std::int64_t chunks = (m + chunk_rows - 1) / chunk_rows;
  bool half = same_sites && n == m && symmetric(offsets, stride);

  const Box in_box = box_of(in_sites, n);
  const Box out_box = same_sites ? in_box : box_of(out_sites, m);
  const bool any = !in_box.empty() && !out_box.empty();
  const Key key(any ? box_of_queries(in_box, out_box, offsets, stride) : Box());

  std::vector<Column> columns;
  std::vector<Part> parts;
  const auto fill_parts = [&](bool joined, auto&& find) {
    columns = columns_of(offsets, half ? taps / 2 : taps, !joined);
    parts.resize(columns.size() * chunks);
    parallel_tasks(std::int64_t(parts.size()), threads, [&](std::int64_t task) {
      const Column& column = columns[task / chunks];
      const std::int64_t begin = task % chunks * chunk_rows;
      const std::int64_t end = std::min(m, begin + chunk_rows);
      Lists lists(column.taps, end - begin);
      find(column, begin, end, lists);
      lists.pack(parts[task]);
    });
  };
  if (any && key.fits) {
    constexpr std::int64_t one[3] = {1, 1, 1};
    Ordered in(key, in_sites, n, one, threads);
    half = half && in.distinct();
    const bool same_keys =
        same_sites && n == m && in.distinct() && std::equal(one, one + 3, stride.v);
    const Ordered own(key, same_keys ? nullptr : out_sites, same_keys ? 0 : m, stride.v, threads);
    const Ordered& out = same_keys ? in : own;
    in.drop_repeats();
    fill_parts(true, [&](const Column& column, std::int64_t begin, std::int64_t end, Lists& lists) {
      std::int64_t moves[most_taps];
      for (int j = 0; j < column.taps; ++j) moves[j] = key.move(offsets[column.first + j].v);
      find_by_merge(in, out, moves, column.taps, begin, end, lists);
    });
  } else if (any) {
    Buffer<std::int64_t> own;
    if (capacity < index_capacity(n)) {  // no table was made, as by the reference
      capacity = index_capacity(n);
      own = Buffer<std::int64_t>(capacity);
      slots = own.data();
      SiteIndex(in_sites, slots, capacity).build(n, threads);
    }
    const SiteIndex index(in_sites, slots, capacity);
    half = half && all_distinct(index, in_sites, n);
    fill_parts(false,
               [&](const Column& column, std::int64_t begin, std::int64_t end, Lists& lists) {
                 find_by_index(index, out_sites, offsets[column.first], stride, begin, end, lists);
               });
  }

  std::vector<std::int64_t> sizes(taps, 0), column_of(taps, -1);
  for (std::size_t c = 0; c < columns.size(); ++c)
    for (int j = 0; j < columns[c].taps; ++j) {
      std::int64_t& size = sizes[columns[c].first + j];
      column_of[columns[c].first + j] = std::int64_t(c);
      for (std::int64_t k = 0; k < chunks; ++k) {
        const Part& part = parts[c * chunks + k];
        size += part.begin[j + 1] - part.begin[j];
      }
    }
  const std::int64_t centre = taps / 2;
  if (half) {
    sizes[centre] = n;
    for (std::int64_t t = 0; t < centre; ++t) sizes[taps - 1 - t] = sizes[t];
  }
  Book book;
  book.segments = Buffer<std::int64_t>(taps + 1);
  book.segments[0] = 0;
  for (std::int64_t t = 0; t < taps; ++t) book.segments[t + 1] = book.segments[t] + sizes[t];
  book.in = Buffer<std::int32_t>(book.segments[taps]);
  book.out = Buffer<std::int32_t>(book.segments[taps]);
  parallel_tasks(taps, threads, [&](std::int64_t t) {
    std::int32_t* in = book.in.data() + book.segments[t];
    std::int32_t* out = book.out.data() + book.segments[t];
    if (half && t == centre) {
      for (std::int64_t i = 0; i < n; ++i) in[i] = out[i] = std::int32_t(i);
      return;
    }
    const bool mirrored = half && t > centre;
    const std::int64_t found = mirrored ? taps - 1 - t : t;
    const std::int64_t c = column_of[found];
    if (c < 0) return;
    const int tap = int(found - columns[c].first);
    gather_tap(parts, c * chunks, chunks, tap, mirrored ? out : in, mirrored ? in : out);
    order_by_out(in, out, sizes[t], m);
  });
  return book;
}

}  // namespace sparseconv
