// The pairs of a rulebook by output row.
#pragma once
#include <cstdint>

#include "core/pairs.hpp"

namespace sparseconv {

// Write the list that core/row_list.hpp describes, of `count` pairs or, where the last tap ends before, of
// fewer. Throw std::invalid_argument where pairs do not fit. Memory beyond the result: what Tiles takes.
void pairs_by_row(const Pairs& pairs, std::int64_t count, std::int64_t num_out, std::int64_t* block,
                  int threads);

}  // namespace sparseconv
