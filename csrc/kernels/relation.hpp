// Means of the taps of each row, weighed by a softmax of likeness and place.
#pragma once
#include <cstdint>

#include "core/pairs.hpp"
#include "simd/table.hpp"

namespace sparseconv {

// A row and another go together by likeness(query[o][g], key[i][g]) + prior[t][g]. Numbers of the
// type of sums: query [M, G], key [N, G], prior [K, G], dense.
struct Related {
  std::int64_t num_in, num_out, channels, groups;
  const void *query, *key, *prior;
  Likeness kind;
};

// y[o][c] = sum over the pairs (i, o) of taps t of w x[i][c], w the softmax over the pairs of o of
// how they go together; log_total [M, G]: the logarithm of its denominator, 0 for rows without
// pairs. x [N, C], y [M, C]. A block of rows at a time: nothing of size M K G is held. Throws
// std::invalid_argument where a tap has two pairs of a row.
void relation_mean(int dtype, const Related& of, const void* x, const Pairs& pairs, void* y,
                   void* log_total, int threads);

// The gradients of x, query, key and prior from grad [M, C], that of y. Weights are made again, from
// the sites' side and from the neighbours' side; sums of `prior` are kept for every 512 rows.
void relation_mean_grad(int dtype, const Related& of, const void* x, const void* log_total,
                        const void* grad, const Pairs& pairs, void* grad_x, void* grad_query,
                        void* grad_key, void* grad_prior, int threads);

}  // namespace sparseconv
