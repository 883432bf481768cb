// Sums of samples whose places and weights are predicted on the way, and their derivatives.
#pragma once
#include <cstdint>

#include "core/block_index.hpp"

namespace sparseconv {

// How rows are predicted and weighed.
struct MovedShape {
  std::int64_t channels, depth, taps, groups;  // C, Q, and taps of each group of channels
  bool softmax, renormalize;
};

// What predicts: weight [4 groups taps, Q] and bias [4 groups taps], offsets [groups, taps, 3] before
// masks [groups, taps]; grid [taps, 3]. All in the type of sums.
struct Heads {
  const void* weight;
  const void* bias;
  const void* grid;
};

// y[o][c] = sum over taps t of m[o][g][t] x(site(o) + grid[t] + offset[o][g][t])[c], g = c / (C / G),
// offsets and m being weight query[o] + bias. With softmax, m is taken through one over the taps;
// with renormalize, a row's sum is divided by what of its weights fell on sites.
//
// Rows are predicted a tile at a time: nothing of taps by rows is held.
void moved_sum(int dtype, const BlockIndex& index, const MovedShape& shape, const Heads& heads,
               const Site* sites, std::int64_t rows, const void* x, const void* query, void* y,
               int threads);

// The derivatives of that for g [rows, C]; grad_weight and grad_bias are in the type of sums.
//
// Beyond the results: what running chunks of at most 4096 rows touch, about half of x at two threads,
// with 2 MiB a thread of what they predict, and the gradient of the weight for each of them.
void moved_sum_grad(int dtype, const BlockIndex& index, const MovedShape& shape,
                    const Heads& heads, const Site* sites, std::int64_t rows, const void* x,
                    const void* query, const void* g, void* grad_x, void* grad_query,
                    void* grad_weight, void* grad_bias, int threads);

}  // namespace sparseconv
