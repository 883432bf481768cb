// Rulebooks without searching: the sites of one level in Z-order, and the levels of half, a
// quarter, ... of its resolution above it.
//
// A level's parents are its keys shifted by three bits; a family is the rows of a parent's
// children, octant by octant. The 27 neighbours of a child lie in the families of eight of its
// parent's 27 neighbours, at places that depend on the child's octant alone. From a root of few
// nodes, which are compared with one another, every level's table of neighbours follows.
#pragma once
#include <cstdint>

#include "core/buffer.hpp"
#include "kernels/rulebook.hpp"

namespace sparseconv {

// The first numbers of an order and of a pyramid, both opaque blocks of int64.
struct SitesHead {
  std::int64_t rows;      // sites
  std::int64_t distinct;  // of them
  std::int64_t low[4];    // smallest batch, x, y, z; INT64_MAX where there are no sites
  std::int64_t high[4];
};

// The order of sites: the head, then their Z-order keys and the rows they came from, 8 to 12 bytes
// a site. Where no 62-bit key holds the box the head stands alone and `distinct` is -1.
Buffer<std::int64_t> site_order(const Site* sites, std::int64_t n, int threads);

// The pyramid of sites, from their order or, where `order` is null, from the sites themselves.
// Nothing but the head where sites repeat or have no order. A node above the sites takes 144 bytes
// and a site 4.
Buffer<std::int64_t> make_pyramid(const Site* sites, std::int64_t n, const std::int64_t* order,
                                  std::int64_t order_words, int threads);

// Whether the pyramid holds level `depth`, which has `rows` sites, and the level above it.
bool pyramid_holds(const std::int64_t* pyramid, std::int64_t words, std::int64_t depth,
                   std::int64_t rows);

// The rulebook of the 3 x 3 x 3 taps on the level `depth` halvings above the sites. At depth 0
// found neighbours are listed first: 8 bytes a site and 4 a pair.
Book cube_book(const std::int64_t* pyramid, std::int64_t depth, int threads);

// The sites of the level above that of `sites`, and the rulebook of the 2 x 2 x 2 taps to it.
struct Halved {
  Buffer<std::int32_t> sites;  // [M, 4]
  Book book;
};
Halved halve(const std::int64_t* pyramid, std::int64_t depth, const Site* sites, int threads);

}  // namespace sparseconv
