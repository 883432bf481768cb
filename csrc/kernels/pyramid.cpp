#include "kernels/pyramid.hpp"

#include <algorithm>
#include <vector>

#include "core/parallel.hpp"
#include "core/pyramid_block.hpp"
#include "simd/dispatch.hpp"

namespace sparseconv {
namespace {

constexpr std::int64_t few_nodes = 2;   // the levels end where nodes are as few
constexpr std::int64_t line = 8;        // words of a cache line
constexpr std::int64_t slack = 16;      // families and keys that may be written behind the last

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

// The upper half of a family, see SiteTree, of all sets of octants.
struct KidWords {
  std::uint32_t of[256];
};
constexpr KidWords make_kid_words() {
  KidWords made{};
  for (std::uint32_t mask = 0; mask < 256; ++mask) {
    std::uint32_t before = 0;
    made.of[mask] = mask;
    for (int octant = 0; octant < 8; ++octant) {
      made.of[mask] |= before << (8 + 3 * octant);
      before += mask >> octant & 1;
    }
  }
  return made;
}
constexpr KidWords kid_words = make_kid_words();

// Parents of ascending keys: their families and keys.
template <class K>
void gather_families(const K* keys, std::int64_t n, int shift, const OctantOf& octant,
                     std::uint64_t* families, K* parents) {
  if constexpr (sizeof(K) == 4)
    if (octant.plain && shift == 3 && table().sites.gather_families) {
      table().sites.gather_families(keys, n, families, parents);
      return;
    }
  const auto run = [&](auto&& octant_at) {
    std::int64_t parent = 0;
    std::uint64_t first = 0;
    std::uint32_t mask = 0;
    K last = K(keys[0] >> shift);
    for (std::int64_t i = 0; i < n; ++i) {
      const K now = K(keys[i] >> shift);
      const bool begins = now != last;
      last = now;
      parent += begins;
      first = begins ? std::uint64_t(i) : first;
      mask = (begins ? 0 : mask) | std::uint32_t(1) << octant_at(keys[i]);
      // written again with every child, so that no branch asks which is the last
      families[parent] = first | std::uint64_t(kid_words.of[mask]) << 32;
      parents[parent] = now;
    }
  };
  if (octant.plain)
    run([](K key) { return std::uint32_t(key & 7); });
  else
    run([&](K key) { return octant(key); });
}

// Neighbours among the few nodes of the root: those of one batch item are compared with each other.
std::int64_t list_root(std::int64_t* block, PyramidHead& head, const Site* sites) {
  LevelPlace& root = head.levels[head.root];
  const std::int32_t* rows = head.rows ? part<std::int32_t>(block, head.rows) : nullptr;
  std::vector<Site> at;
  for (std::int64_t node = 0; node < root.nodes; ++node) {
    std::int64_t child = node;
    for (std::int64_t level = head.root; level > 0; --level)
      child = std::int32_t(part<std::uint64_t>(block, head.levels[level].families)[child]);
    Site site = sites[rows ? rows[child] : child];
    site.x >>= head.root;
    site.y >>= head.root;
    site.z >>= head.root;
    at.push_back(site);
  }
  std::int32_t* list = part<std::int32_t>(block, head.list);
  std::int64_t place = 0;
  for (std::int64_t i = 0, begin = 0; i < root.nodes; ++i) {
    if (at[i].b != at[begin].b) begin = i;
    std::int32_t cube[27];
    std::fill_n(cube, 27, -1);
    for (std::int64_t j = begin; j < root.nodes && at[j].b == at[i].b; ++j) {
      const std::int64_t step[3] = {std::int64_t(at[j].x) - at[i].x, std::int64_t(at[j].y) - at[i].y,
                                    std::int64_t(at[j].z) - at[i].z};
      if (std::abs(step[0]) <= 1 && std::abs(step[1]) <= 1 && std::abs(step[2]) <= 1)
        cube[(step[0] * 3 + step[1]) * 3 + step[2] + 13] = std::int32_t(j);
    }
    std::uint64_t& word = part<std::uint64_t>(block, root.words)[i];
    word = std::uint64_t(place) << 27;
    for (int t = 0; t < 27; ++t)
      if (cube[t] >= 0) {
        word |= std::uint64_t(1) << t;
        list[place++] = cube[t];
        ++root.counts[t];
      }
  }
  return place;
}

template <class K>
Buffer<std::int64_t> pyramid_with(const ZKey& key, const OrderHead& order, const Site* sites,
                                  const K* keys, const std::int32_t* rows, int threads) {
  const std::int64_t n = order.sites.rows;
  const int depth = std::min(key.depth(), most_levels);
  PyramidHead head{};
  head.sites = order.sites;
  head.root = 1;
  while (head.root < depth && order.nodes[head.root] > few_nodes) ++head.root;

  std::int64_t words = words_of_head<PyramidHead>, above = 0;
  std::vector<std::int64_t> parts;
  const auto take = [&](std::int64_t bytes) {
    parts.push_back((words + line - 1) / line * line);
    words = parts.back() + words_of(bytes);
    return parts.back();
  };
  if (rows) head.rows = take(4 * n);
  for (int level = 0; level <= head.root; ++level) {
    LevelPlace& place = head.levels[level];
    place.nodes = order.nodes[level];
    if (level == 0) continue;
    place.families = take(8 * (place.nodes + slack));
    place.words = take(8 * place.nodes);
    above += place.nodes;
  }
  // room for all taps of all nodes, of which memory is touched where lists are
  const std::int64_t tasks = above / site_piece + 2 * (head.root + 1);
  head.list = take(4 * (27 * above + list_slack * tasks));
  Buffer<std::int64_t> made(words);
  std::int64_t* block = made.data();
  // gaps, and what may be read behind families
  for (const std::int64_t begin : parts) std::fill_n(block + begin - 2 * slack, 2 * slack, 0);
  if (rows) std::copy_n(rows, n, part<std::int32_t>(block, head.rows));

  const std::int64_t widest = head.levels[1].nodes;
  Buffer<K> of_level[2] = {Buffer<K>(widest + slack),
                           Buffer<K>(head.root > 1 ? head.levels[2].nodes + slack : 0)};
  const K* children = keys;
  for (int level = 0; level < head.root; ++level) {
    const LevelPlace &from = head.levels[level], &to = head.levels[level + 1];
    K* parents = of_level[level % 2].data();
    gather_families(children, from.nodes, key.bits_below(level + 1) - key.bits_below(level),
                    octant_of(key, box_in(order.sites), level), part<std::uint64_t>(block, to.families),
                    parents);
    children = parents;
  }
  std::int64_t place = list_root(block, head, sites);
  std::int32_t* list = part<std::int32_t>(block, head.list);
  for (std::int64_t level = head.root - 1; level > 0; --level) {
    LevelPlace& to = head.levels[level];
    place = list_neighbours(tree_of(block, head, level + 1), head.levels[level + 1].nodes, to.nodes,
                            nullptr, part<std::uint64_t>(block, to.words), list, place, to.counts,
                            threads);
  }
  // what may be read behind lists is kept, and a last half word
  std::fill_n(list + place, list_slack + 1, 0);
  made.shrink(head.list + words_of(4 * (place + list_slack)));
  write_head(block, head);
  return made;
}

}  // namespace

SiteTree tree_of(const std::int64_t* block, const PyramidHead& head, std::int64_t level) {
  const LevelPlace& place = head.levels[level];
  return {part<std::uint64_t>(block, place.families),
          part<std::uint64_t>(block, place.words), part<std::int32_t>(block, head.list)};
}

std::int64_t list_neighbours(const SiteTree& tree, std::int64_t parents, std::int64_t children,
                             const std::int32_t* rows, std::uint64_t* words, std::int32_t* list,
                             std::int64_t place, std::int64_t* counts, int threads) {
  const SiteLoops& loops = table().sites;
  if (threads == 1 || parents <= site_piece)
    return loops.neighbour_lists(tree, 0, parents, rows, words, list, place, counts);
  // tasks do not know how long the lists before theirs are
  const std::int64_t tasks = (parents + site_piece - 1) / site_piece;
  std::vector<std::int64_t> mine(std::size_t(27 * tasks), 0);
  parallel_ranges(parents, site_piece, threads, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t task = begin / site_piece;
    loops.neighbour_lists(tree, begin, end, rows, words, list,
                          place + 27 * std::int64_t(std::uint32_t(tree.families[begin])) + list_slack * task,
                          mine.data() + 27 * task);
  });
  for (std::int64_t i = 0; i < 27 * tasks; ++i) counts[i % 27] += mine[std::size_t(i)];
  return place + 27 * children + list_slack * tasks;
}

Buffer<std::int64_t> make_pyramid(const Site* sites, std::int64_t n, const std::int64_t* order,
                                  std::int64_t order_words, int threads) {
  Buffer<std::int64_t> own;
  if (!order || order_words < words_of_head<SitesHead> || read_head<SitesHead>(order).rows != n) {
    own = site_order(sites, n, threads);
    order = own.data();
  }
  const SitesHead sites_head = read_head<SitesHead>(order);
  if (n == 0 || sites_head.distinct < n) {
    Buffer<std::int64_t> made(words_of_head<SitesHead>);
    write_head(made.data(), sites_head);
    return made;
  }
  const OrderHead head = read_head<OrderHead>(order);
  const ZKey key(box_in(sites_head));
  const auto make = [&](auto zero) {
    using K = decltype(zero);
    const OrderParts<K> parts(n);
    return pyramid_with<K>(key, head, sites, part<K>(order, parts.keys),
                           head.moved ? part<std::int32_t>(order, parts.rows) : nullptr, threads);
  };
  return key.bits() <= 32 ? make(std::uint32_t(0)) : make(std::uint64_t(0));
}

bool pyramid_holds(const std::int64_t* pyramid, std::int64_t words, std::int64_t depth,
                   std::int64_t rows, std::int64_t above) {
  if (words < words_of_head<PyramidHead> || depth < 0) return false;
  const PyramidHead& head = *part<PyramidHead>(pyramid, 0);
  return depth + above <= head.root && head.levels[depth].nodes == rows;
}

}  // namespace sparseconv
