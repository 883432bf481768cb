#include "kernels/row_list.hpp"

#include "core/row_list.hpp"

namespace sparseconv {

void pairs_by_row(const Pairs& pairs, std::int64_t count, std::int64_t num_out, std::int64_t* block,
                  int threads) {
  // input rows are held against the features they are read from, later
  const bool ordered = check_pairs(pairs, std::int64_t(1) << 31, num_out, threads);
  build_row_list(pairs, ordered, num_out, count, block, threads);
}

}  // namespace sparseconv
