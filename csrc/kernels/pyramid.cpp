#include "kernels/pyramid.hpp"

#include <cstring>

#include "core/zsort.hpp"
#include "simd/dispatch.hpp"

namespace sparseconv {
namespace {

constexpr int most_levels = 31;           // planes of int32 below the sign
constexpr std::int64_t few_nodes = 32;    // a root small enough to compare all with all
constexpr std::int64_t most_rows = std::int64_t(1) << 28;  // 8 times as many fit 32 bits
constexpr std::int64_t piece = 1 << 13;   // rows of a task

constexpr std::int64_t head_words = sizeof(SitesHead) / 8;

SitesHead read_head(const std::int64_t* block) {
  SitesHead head;
  std::memcpy(&head, block, sizeof head);
  return head;
}
void write_head(std::int64_t* block, const SitesHead& head) {
  std::memcpy(block, &head, sizeof head);
}

SitesHead head_of(const Box& box, std::int64_t n) {
  SitesHead head{n, -1, {}, {}};
  for (int a = 0; a < 4; ++a) {
    head.low[a] = box.low[a];
    head.high[a] = box.high[a];
  }
  return head;
}
Box box_in(const SitesHead& head) {
  Box box;
  for (int a = 0; a < 4; ++a) {
    box.low[a] = head.low[a];
    box.high[a] = head.high[a];
  }
  return box;
}

std::int64_t words_of(std::int64_t bytes) { return (bytes + 7) / 8; }

// Where an order keeps its parts: whether rows were moved, keys, rows.
template <class K>
struct OrderParts {
  std::int64_t moved, keys, rows, words;
  explicit OrderParts(std::int64_t n)
      : moved(head_words),
        keys(moved + 1),
        rows(keys + words_of(n * std::int64_t(sizeof(K)))),
        words(rows + words_of(n * 4)) {}
};

template <class K>
Buffer<std::int64_t> order_with(const ZKey& key, SitesHead head, const Site* sites, std::int64_t n,
                                int threads) {
  const OrderParts<K> parts(n);
  Buffer<std::int64_t> made(parts.words);
  K* keys = reinterpret_cast<K*>(made.data() + parts.keys);
  std::int32_t* rows = reinterpret_cast<std::int32_t*>(made.data() + parts.rows);
  // a part of odd length leaves half a word
  if (n > 0) made[parts.rows - 1] = made[parts.words - 1] = 0;
  const ZSorted<K> sorted(key, sites, n, keys, rows, threads);
  made[parts.moved] = sorted.moved();
  if (!sorted.moved()) made.shrink(parts.rows);
  std::int64_t repeats = 0;
  for (std::int64_t i = 1; i < n; ++i) repeats += keys[i] == keys[i - 1];
  head.distinct = n - repeats;
  write_head(made.data(), head);
  return made;
}

// One level of a pyramid: its nodes, and where the block keeps what leads to them.
struct LevelPlace {
  std::int64_t nodes;
  std::int64_t where;   // [nodes] uint32: 8 * parent + octant; not of the root
  std::int64_t kids;    // [1 + nodes, 8] int32: rows of the children; the first row is of no node
  std::int64_t table;   // [nodes, 27] int32; not of level 0
};

struct PyramidHead {
  SitesHead sites;
  std::int64_t root;  // its level, at least 1; 0: there is no pyramid
  LevelPlace levels[most_levels + 1];
};
constexpr std::int64_t pyramid_words = sizeof(PyramidHead) / 8;

template <class T>
T* part(std::int64_t* block, std::int64_t word) {
  return reinterpret_cast<T*>(block + word);
}
template <class T>
const T* part(const std::int64_t* block, std::int64_t word) {
  return reinterpret_cast<const T*>(block + word);
}

SiteTree tree_of(const std::int64_t* block, const LevelPlace& children, const LevelPlace& parents) {
  return {part<std::uint32_t>(block, children.where), part<std::int32_t>(block, parents.kids) + 8,
          part<std::int32_t>(block, parents.table)};
}

// The octant of a node from its key, at one level.
struct OctantOf {
  int shift[3];
  std::uint64_t mask[3], flip[3];
  bool plain;  // all three bits are the lowest of the key

  template <class K>
  std::uint32_t operator()(K key) const {
    if (plain) return std::uint32_t(key & 7);
    std::uint32_t octant = 0;
    for (int a = 0; a < 3; ++a)
      octant = 2 * octant + std::uint32_t((std::uint64_t(key) >> shift[a] & mask[a]) ^ flip[a]);
    return octant;
  }
};

OctantOf octant_of(const ZKey& key, const Box& box, int level) {
  OctantOf made;
  made.plain = key.axes(level) == 7;
  for (int a = 0; a < 3; ++a) {
    const ZKey::Bit bit = key.bit(a, level);
    made.shift[a] = bit.place >= 0 ? bit.place - key.bits_below(level) : 0;
    made.mask[a] = bit.place >= 0;
    made.flip[a] = bit.place >= 0 ? bit.inverted : std::uint64_t(box.low[a + 1]) >> level & 1;
  }
  return made;
}

// Children of one level to their families and to the keys of their parents.
template <class K>
std::int64_t gather_families(const K* keys, std::int64_t n, const std::int32_t* rows, int shift,
                             const OctantOf& octant, std::uint32_t* where, std::int32_t* kids,
                             K* parents) {
  const auto clear = [&](std::int64_t parent) { std::memset(kids + 8 * parent, 0xff, 32); };
  clear(-1);
  clear(0);
  std::int64_t parent = 0;
  K last = K(keys[0] >> shift);
  parents[0] = last;
  const auto run = [&](auto&& octant_at, auto&& row_at) {
    for (std::int64_t i = 0; i < n; ++i) {
      const K now = K(keys[i] >> shift);
      parent += now != last;
      last = now;
      const std::uint32_t at = std::uint32_t(8 * parent) + octant_at(keys[i]);
      // the next family is cleared before it begins, so that no branch asks whether one does
      clear(parent + 1);
      kids[at] = row_at(i);
      where[i] = at;
      parents[parent] = now;
    }
  };
  const auto by_octant = [&](auto&& row_at) {
    if (octant.plain)
      run([](K key) { return std::uint32_t(key & 7); }, row_at);
    else
      run([&](K key) { return octant(key); }, row_at);
  };
  if (rows)
    by_octant([&](std::int64_t i) { return rows[i]; });
  else
    by_octant([](std::int64_t i) { return std::int32_t(i); });
  return parent + 1;
}

// Neighbours among the few nodes of the root: those of one batch item are compared with each other.
void fill_root(const std::int64_t* block, const PyramidHead& head, const Site* sites,
               std::int32_t* table) {
  const std::int64_t nodes = head.levels[head.root].nodes;
  std::vector<Site> at;
  for (std::int64_t node = 0; node < nodes; ++node) {
    std::int64_t row = node;
    for (std::int64_t level = head.root; level > 0; --level) {
      const std::int32_t* family = part<std::int32_t>(block, head.levels[level].kids) + 8 * (row + 1);
      row = *std::max_element(family, family + 8);
    }
    Site site = sites[row];
    site.x >>= head.root;
    site.y >>= head.root;
    site.z >>= head.root;
    at.push_back(site);
  }
  std::fill_n(table, 27 * nodes, -1);
  for (std::int64_t i = 0, begin = 0; i < nodes; ++i) {
    if (at[i].b != at[begin].b) begin = i;
    for (std::int64_t j = begin; j < nodes && at[j].b == at[i].b; ++j) {
      const std::int64_t step[3] = {std::int64_t(at[j].x) - at[i].x, std::int64_t(at[j].y) - at[i].y,
                                    std::int64_t(at[j].z) - at[i].z};
      if (std::abs(step[0]) <= 1 && std::abs(step[1]) <= 1 && std::abs(step[2]) <= 1)
        table[27 * i + (step[0] * 3 + step[1]) * 3 + step[2] + 13] = std::int32_t(j);
    }
  }
}

template <class K>
Buffer<std::int64_t> pyramid_with(const ZKey& key, const SitesHead& sites_head, const Site* sites,
                                  const K* keys, const std::int32_t* rows, int threads) {
  const std::int64_t n = sites_head.rows;
  const Box box = box_in(sites_head);
  PyramidHead head{};
  head.sites = sites_head;

  // nodes of every level: a step from one key to the next begins a node on all levels whose
  // shift leaves the highest bit that differs
  const int depth = std::min(key.depth(), most_levels);
  std::uint8_t begun[65] = {};
  for (int bit = 0; bit < 64; ++bit)
    while (begun[bit + 1] <= depth && key.bits_below(begun[bit + 1]) <= bit) ++begun[bit + 1];
  std::int64_t steps[4][most_levels + 2] = {};
  for (std::int64_t i = 1; i < n; ++i)
    ++steps[i & 3][begun[bit_width(std::uint64_t(keys[i] ^ keys[i - 1]))]];
  std::int64_t count = 1, nodes[most_levels + 1];
  for (int level = depth; level >= 0; --level) {
    for (const auto& s : steps) count += s[level + 1];
    nodes[level] = count;
  }
  head.root = 1;
  while (head.root < depth && nodes[head.root] > few_nodes) ++head.root;
  if (head.root > depth) nodes[1] = nodes[0];  // depth 0: no bit is dropped

  std::int64_t words = pyramid_words;
  for (int level = 0; level <= head.root; ++level) {
    LevelPlace& place = head.levels[level];
    place.nodes = nodes[level];
    if (level < head.root) {
      place.where = words;
      words += words_of(4 * place.nodes);
    }
    if (level > 0) {
      place.kids = words;
      words += 4 * (place.nodes + 2);  // and one cleared ahead
      place.table = words;
      words += words_of(27 * 4 * place.nodes);
    }
  }
  Buffer<std::int64_t> made(words);
  std::int64_t* block = made.data();
  std::memcpy(block, &head, sizeof head);
  // a part of odd length leaves half a word
  for (const LevelPlace& place : head.levels) {
    if (place.where) block[place.where + words_of(4 * place.nodes) - 1] = 0;
    if (place.table) block[place.table + words_of(27 * 4 * place.nodes) - 1] = 0;
  }

  Buffer<K> of_level[2] = {Buffer<K>(nodes[1]), Buffer<K>(head.root > 1 ? nodes[2] : 0)};
  const K* children = keys;
  for (int level = 0; level < head.root; ++level) {
    const LevelPlace &from = head.levels[level], &to = head.levels[level + 1];
    K* parents = of_level[level % 2].data();
    gather_families(children, from.nodes, level == 0 ? rows : nullptr,
                    key.bits_below(level + 1) - key.bits_below(level), octant_of(key, box, level),
                    part<std::uint32_t>(block, from.where),
                    part<std::int32_t>(block, to.kids) + 8, parents);
    children = parents;
  }
  fill_root(block, head, sites, part<std::int32_t>(block, head.levels[head.root].table));
  const SiteLoops& loops = table().sites;
  for (std::int64_t level = head.root - 1; level > 0; --level) {
    const LevelPlace& to = head.levels[level];
    const SiteTree tree = tree_of(block, to, head.levels[level + 1]);
    parallel_ranges(to.nodes, piece, threads, [&](std::int64_t begin, std::int64_t end) {
      loops.neighbour_rows(tree, begin, end, part<std::int32_t>(block, to.table));
    });
  }
  return made;
}

const PyramidHead& pyramid_head(const std::int64_t* block) {
  return *reinterpret_cast<const PyramidHead*>(block);
}

// Count the pairs of every tap, task by task, then let the tasks write them in place.
template <class Count, class Write>
Book book_of(std::int64_t rows, int taps, int threads, Count&& count, Write&& write) {
  const std::int64_t step = threads > 1 ? piece : std::max<std::int64_t>(rows, 1);
  const std::int64_t tasks = std::max<std::int64_t>((rows + step - 1) / step, 1);
  // tasks + 1 rows of counters: where a task begins is where the one before it stops
  std::vector<std::int64_t> at(std::size_t((tasks + 1) * taps));
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
    std::int64_t next[27];
    std::copy_n(from, taps, next);
    write(begin, end, next, from + taps, book.in.data(), book.out.data());
  });
  return book;
}

Book book_of_rows(const std::int32_t* table, int columns, std::int64_t rows, int threads) {
  const SiteLoops& loops = sparseconv::table().sites;
  return book_of(
      rows, columns, threads,
      [&](std::int64_t begin, std::int64_t end, std::int64_t* counts) {
        loops.count_rows(table, columns, begin, end, counts);
      },
      [&](std::int64_t begin, std::int64_t end, std::int64_t* at, const std::int64_t* stop,
          std::int32_t* in, std::int32_t* out) {
        loops.pairs_of_rows(table, columns, begin, end, at, stop, in, out);
      });
}

}  // namespace

Buffer<std::int64_t> site_order(const Site* sites, std::int64_t n, int threads) {
  const Box box = box_of(sites, n);
  const SitesHead head = head_of(box, n);
  const ZKey key(box);
  if (key.fits() && n <= most_rows)
    return key.bits() <= 32 ? order_with<std::uint32_t>(key, head, sites, n, threads)
                            : order_with<std::uint64_t>(key, head, sites, n, threads);
  Buffer<std::int64_t> made(head_words);
  write_head(made.data(), head);
  return made;
}

Buffer<std::int64_t> make_pyramid(const Site* sites, std::int64_t n, const std::int64_t* order,
                                  std::int64_t order_words, int threads) {
  Buffer<std::int64_t> own;
  if (!order || order_words < head_words || read_head(order).rows != n) {
    own = site_order(sites, n, threads);
    order = own.data();
  }
  const SitesHead head = read_head(order);
  if (n == 0 || head.distinct < n) {
    Buffer<std::int64_t> made(head_words);
    write_head(made.data(), head);
    return made;
  }
  const ZKey key(box_in(head));
  const auto make = [&](auto zero) {
    using K = decltype(zero);
    const OrderParts<K> parts(n);
    return pyramid_with<K>(key, head, sites, part<K>(order, parts.keys),
                           order[parts.moved] ? part<std::int32_t>(order, parts.rows) : nullptr,
                           threads);
  };
  return key.bits() <= 32 ? make(std::uint32_t(0)) : make(std::uint64_t(0));
}

bool pyramid_holds(const std::int64_t* pyramid, std::int64_t words, std::int64_t depth,
                   std::int64_t rows) {
  if (words < pyramid_words || depth < 0) return false;
  const PyramidHead& head = pyramid_head(pyramid);
  return depth < head.root && head.levels[depth].nodes == rows;
}

Book cube_book(const std::int64_t* pyramid, std::int64_t depth, int threads) {
  const PyramidHead& head = pyramid_head(pyramid);
  const LevelPlace& level = head.levels[depth];
  const std::int64_t n = level.nodes;
  if (depth > 0) return book_of_rows(part<std::int32_t>(pyramid, level.table), 27, n, threads);
  const SiteLoops& loops = table().sites;
  const SiteTree tree = tree_of(pyramid, level, head.levels[1]);
  // room for all taps, of which memory is touched where lists are
  constexpr std::int64_t room = 27 * piece + 32;
  Buffer<std::int32_t> list((n + piece - 1) / piece * room);
  Buffer<std::uint64_t> words(n);
  parallel_ranges(n, piece, threads, [&](std::int64_t begin, std::int64_t end) {
    loops.neighbour_lists(tree, begin, end, words.data(), list.data(), begin / piece * room);
  });
  return book_of(
      n, 27, threads,
      [&](std::int64_t begin, std::int64_t end, std::int64_t* counts) {
        loops.count_lists(words.data(), begin, end, counts);
      },
      [&](std::int64_t begin, std::int64_t end, std::int64_t* at, const std::int64_t* stop,
          std::int32_t* in, std::int32_t* out) {
        loops.pairs_of_lists(words.data(), list.data(), begin, end, at, stop, in, out);
      });
}

Halved halve(const std::int64_t* pyramid, std::int64_t depth, const Site* sites, int threads) {
  const PyramidHead& head = pyramid_head(pyramid);
  const LevelPlace& parents = head.levels[depth + 1];
  const std::int32_t* kids = part<std::int32_t>(pyramid, parents.kids) + 8;
  Halved made;
  made.book = book_of_rows(kids, 8, parents.nodes, threads);
  made.sites = Buffer<std::int32_t>(4 * parents.nodes);
  parallel_ranges(parents.nodes, piece, threads, [&](std::int64_t begin, std::int64_t end) {
    // rows may lie anywhere: a block's sites are fetched before the first is read
    constexpr std::int64_t block = 64;
    std::int32_t row[block];
    for (; begin < end; begin += block) {
      const std::int64_t count = std::min(block, end - begin);
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int32_t* family = kids + 8 * (begin + i);
        row[i] = family[0];
        for (int o = 1; o < 8; ++o) row[i] = std::max(row[i], family[o]);
        SPARSECONV_PREFETCH(sites + row[i]);
      }
      for (std::int64_t i = 0; i < count; ++i) {
        Site site = sites[row[i]];
        site.x >>= 1;
        site.y >>= 1;
        site.z >>= 1;
        std::memcpy(made.sites.data() + 4 * (begin + i), &site, sizeof site);
      }
    }
  });
  return made;
}

}  // namespace sparseconv
