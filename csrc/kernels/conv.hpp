// Gather-GEMM-scatter over a rulebook, and its weight gradient.
#pragma once
#include <algorithm>
#include <cstdint>

#include "core/pairs.hpp"
#include "kernels/kept_weights.hpp"
#include "kernels/norm.hpp"

namespace sparseconv {

struct ConvShape {
  std::int64_t num_in, num_out;  // N, M
  std::int64_t channels, width;  // C, D
  std::int64_t groups;           // G, divides C and D
  std::int64_t ldx, ldy;         // from row to row of x and y (or g): C and D, or with one group more
};

// What is added to a result: row r gets row r, or where `from` is given row from[r], as a value lifted
// from a coarser lattice does, divided by counts[from[r]]; where it is wider than the result its other
// columns go behind. Not with a ReLU.
struct Residual {
  const void* rows;          // [count, width] or null
  std::int64_t ld;           // from row to row
  const std::int32_t* from;  // [M] or null; with one group alone
  const std::int64_t* counts;  // [count] or null
  std::int64_t count, width;
};

// How many channels the groups have on one side, where the other has one: 2 or 4, in whole vectors of
// groups; else 0.
inline int narrow_groups(const ConvShape& shape, std::int64_t lanes) {
  const std::int64_t many = std::max(shape.channels, shape.width);
  if (shape.groups < 2 || std::min(shape.channels, shape.width) != shape.groups ||
      shape.groups % lanes != 0)
    return 0;
  return many == 2 * shape.groups ? 2 : many == 4 * shape.groups ? 4 : 0;
}

// y[o] = bias + sum over taps t, pairs (i, o) of t, of x[i] W[t], normalised where the norm has a mean,
// plus the residual's row, and with relu max(0, that), in the columns the product has.
//
// Rows of x [N, C] and y [M, D] are dense each, and as far apart as the shape says; W is [taps, C / G, D] with strides in
// elements, which may be negative; bias [D] or null. With wide_weight W is given in the type of sums
// and rounded to that of x as it is packed. Memory beyond the result: the weights once
// more in sums' precision with columns rounded up to vectors (of at most 1024 output rows: a tap and block
// of them a running task), which `kept` holds from then on where it is not null and packed weights are
// smaller than wide ones; one tile of sums (256 KiB) a running
// task where y cannot hold them, and what Tiles
// takes. by_row, the list of the same pairs that core/row_list.hpp describes, or null, is what a depthwise
// layer reads instead of them; it makes one where it has none. A result element is summed tap by tap, in pair order within a tap, the centre tap first
// where it covers every row and the layer is not depthwise: no thread count changes it.
void conv(int dtype, const ConvShape& shape, const void* x, const void* weight, bool wide_weight,
          const std::int64_t weight_strides[3], const void* bias, const Pairs& pairs,
          const std::int64_t* by_row, const Norm& norm, const Residual& residual, bool relu, void* y,
          int threads, KeptWeights* kept = nullptr);

// dW[t][c][d] = sum over pairs (i, o) of tap t of x[i][c] g[o][d], group by group.
//
// Rows of x [N, C] and g [M, D] are dense, as is dW [taps, C / G, D]; dW has the type of x, or with wide that of
// sums. One task owns a block of dW and walks the
// pairs of its taps tile by tile in order. Memory beyond the result: 130 KiB of the stack of each running
// task, what Tiles takes and, where dW has not the type of sums or a block no whole vectors, the task's
// sums (its block of dW, at most 4 MiB).
void conv_grad_weight(int dtype, const ConvShape& shape, const void* x, const void* g,
                      const Pairs& pairs, const std::int64_t* by_row, void* grad_weight, bool wide,
                      int threads);

}  // namespace sparseconv
