// Samples between sites: their weighted sums, their convolution, and the derivatives of both.
#pragma once
#include <cstdint>

#include "kernels/corners.hpp"

namespace sparseconv {

// y[o][c] = sum over taps t of weights[o][t][g] x(positions[o][t][g])[c], with g = c / (C / G).
//
// x [N, C] and y [M, C] are dense, weights [M, taps, G] or null for ones. To normalise is to divide
// the shares of the corners that are there by their sum. Memory beyond the result: x in the type of
// sums where its own is another, 4 bytes a row, and 24 while rows are sorted.
void sample_sum(int dtype, const Positions& where, std::int64_t channels, const void* x,
                const void* weights, bool normalize, void* y, int threads);

// The derivatives of that for g [M, C]; that of x alone where grad_positions is null, those of
// weights where they are not null.
//
// Beyond the results: sums for what running chunks of rows touch, 0.75 N C numbers or those of one
// chunk; a copy of the rows each running chunk touches; for 16-bit types N C sums.
void sample_sum_grad(int dtype, const Positions& where, std::int64_t channels, const void* x,
                     const void* weights, bool normalize, const void* g, void* grad_x,
                     void* grad_positions, void* grad_weights, int threads);

struct DeformShape {
  std::int64_t channels, width, groups;  // C, D, and the groups of the weight
  bool squash;                           // whether masks are sigmoids of what heads hold
};

// y[o] = bias + sum over taps t of v[o][t] W[t], group by group, with
// v[o][t][c] = mask[o][h][t] x(site(o) + grid[t] + offset[o][h][t])[c], h = c / (C / H).
//
// The positions have a grid; heads are offsets [H, taps, 3] and, where rows have room for them,
// masks [H, taps]. W [taps, C / G, D] is dense; bias [D] or null. Tiles of 128 rows hold their
// samples of one tap at a time.
void deform_conv(int dtype, const Positions& where, const DeformShape& shape, const void* x,
                 const void* weight, const void* bias, void* y, int threads);

// The derivatives of that for g [M, D]; beyond what sample_sum_grad takes the weight's gradient
// once a chunk, at most 2 M C numbers together or those of one chunk.
void deform_conv_grad(int dtype, const Positions& where, const DeformShape& shape, const void* x,
                      const void* weight, const void* g, void* grad_x, void* grad_heads,
                      void* grad_weight, int threads);

}  // namespace sparseconv
