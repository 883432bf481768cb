// Rulebooks without searching: the sites of one level in Z-order, and the levels of half, a
// quarter, ... of its resolution above it.
//
// A level's parents are its keys shifted by three bits; the children of a parent follow one another,
// by octant. The 27 neighbours of a child are children of its parent's 27 neighbours, and which
// ones depends on the child's octant alone. From a root of few nodes, which are compared with one
// another, the neighbours of every level follow: for each node a mask of those that are there, and
// a list of them.
#pragma once
#include <cstdint>

#include "core/buffer.hpp"
#include "core/pyramid_block.hpp"
#include "kernels/rulebook.hpp"
#include "simd/table.hpp"

namespace sparseconv {

// The order of sites: the head, then their Z-order keys and the rows they came from, 8 to 12 bytes
// a site. Where no 62-bit key holds the box the head stands alone and `distinct` is -1.
Buffer<std::int64_t> site_order(const Site* sites, std::int64_t n, int threads);

// The pyramid of sites, from their order or, where `order` is null, from the sites themselves.
// Nothing but the head where sites repeat or have no order. A node above the sites takes 16 bytes
// and 4 a neighbour, a site in no order 4.
Buffer<std::int64_t> make_pyramid(const Site* sites, std::int64_t n, const std::int64_t* order,
                                  std::int64_t order_words, int threads);

// Whether the pyramid holds level `depth`, which has `rows` sites, and `above` levels above it.
bool pyramid_holds(const std::int64_t* pyramid, std::int64_t words, std::int64_t depth,
                   std::int64_t rows, std::int64_t above);

// The rulebook of the 3 x 3 x 3 taps on the level `depth` halvings above the sites. At depth 0
// neighbours are listed first: 8 bytes a site and 4 a pair.
Book cube_book(const std::int64_t* pyramid, std::int64_t depth, int threads);

// The sites of the level above that of `sites`, and the rulebook of the 2 x 2 x 2 taps to it.
struct Halved {
  Buffer<std::int32_t> sites;  // [M, 4]
  Book book;
};
Halved halve(const std::int64_t* pyramid, std::int64_t depth, const Site* sites, int threads);

// What the files of this kernel share.

constexpr std::int64_t site_piece = 1 << 13;  // rows or parents of a task
constexpr std::int64_t list_slack = 32;       // numbers that may be read or written behind lists

// The nodes of a level above the sites, with their children and neighbours.
SiteTree tree_of(const std::int64_t* pyramid, const PyramidHead& head, std::int64_t level);

// The neighbours of all children of a tree, see SiteLoops; returns where their lists end. Takes room
// for 27 numbers a child and list_slack for each piece of the parents begun.
std::int64_t list_neighbours(const SiteTree& tree, std::int64_t parents, std::int64_t children,
                             const std::int32_t* rows, std::uint64_t* words, std::int32_t* list,
                             std::int64_t place, std::int64_t* counts, int threads);

}  // namespace sparseconv
