// The block index of sites: see core/block_index.hpp.
#pragma once
#include "core/block_index.hpp"

namespace sparseconv {

// The words of the index. Takes 12 N bytes while sorting, 28 where a key has more than 32 bits, and
// nothing where rows come in Z-order but the keys.
Buffer<std::int32_t> make_blocks(const Site* sites, std::int64_t n, int threads);

}  // namespace sparseconv
