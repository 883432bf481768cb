// Depthwise sums of samples between sites, weighed by a kernel that is read between its cells.
#pragma once
#include <cstdint>

#include "kernels/positions.hpp"

namespace sparseconv {

// A kernel [cells, C] and where its taps begin, [taps, 3] in the type of sums, for groups of
// channels.
struct MovedKernel {
  const void* kernel;
  const void* start;
  std::int64_t channels, groups;
  std::int32_t scope[3];

  std::int64_t cells() const { return std::int64_t(scope[0]) * scope[1] * scope[2]; }
};

// y[o][c] = sum over taps t of W(start[t] + e[o][r][t])[c] x(site(o) + grid[t] + d[o][r][t])[c],
// r = c / (C / groups), both trilinear and 0 where nothing is.
//
// The positions have a grid and one group, whose cells are [groups, taps]; heads are d [groups, taps,
// 3] and behind them e, of the same shape, in the type of sums.
void moved_kernel(int dtype, const Positions& where, const MovedKernel& by, const void* x, void* y,
                  int threads);

// The derivatives of that for g [M, C]; beyond what sample_sum_grad takes the kernel's once a chunk,
// at most M C numbers together or those of one chunk.
void moved_kernel_grad(int dtype, const Positions& where, const MovedKernel& by, const void* x,
                       const void* g, void* grad_x, void* grad_heads, void* grad_kernel,
                       int threads);

}  // namespace sparseconv
