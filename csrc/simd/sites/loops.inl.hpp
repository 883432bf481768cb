// Loops over sites: keys, neighbours, pairs. Included inside the namespace of one instruction set.

#include "simd/sites/families.inl.hpp"

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && \
    !defined(SPARSECONV_PLAIN_VECTORS)
#include "simd/sites/order_512.inl.hpp"

#include "simd/sites/neighbours_512.inl.hpp"

#include "simd/sites/pairs_512.inl.hpp"
#elif defined(__AVX2__) && !defined(SPARSECONV_PLAIN_VECTORS)
#include "simd/sites/lanes_256.inl.hpp"

#include "simd/sites/order_256.inl.hpp"

#include "simd/sites/neighbours_256.inl.hpp"

#include "simd/sites/pairs_256.inl.hpp"
#else
#include "simd/sites/order_plain.inl.hpp"

#include "simd/sites/neighbours_plain.inl.hpp"

#include "simd/sites/pairs_plain.inl.hpp"
#endif

static SiteLoops site_loops() {
  SiteLoops made;
  made.box = box;
  made.z_keys = z_keys;
  made.count_steps = count_steps;
  made.gather_families = gather_families;
  made.neighbour_lists = neighbour_lists;
  made.count_lists = count_lists;
  made.count_kids = count_kids;
  made.pairs_of_lists = pairs_of_lists;
  made.pairs_of_kids = pairs_of_kids;
  made.halve_sites = halve_sites;
  return made;
}
