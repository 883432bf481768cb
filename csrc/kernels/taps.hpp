// Sums over the taps of each output row with weights of the row's own, and their adjoint products.
#pragma once
#include <cstdint>

#include "core/pairs.hpp"

namespace sparseconv {

// y[o][c] = sum over taps t, pairs (i, o) of t, of w[o][t][c / (channels / groups)] x[i][c]; tap by
// tap, in pair order. x [N, C], w [M, K, G], y [M, C] dense. Transposed: x [M, C], y [N, C] and
// y[i] sums w[o][t] x[o]. Takes 16 KiB a running task, and what Tiles takes.
void tap_sum(int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
             std::int64_t groups, const void* x, const void* w, const Pairs& pairs, bool transposed,
             void* y, int threads);

// e[o][t][g] = sum over pairs (i, o) of tap t, c of group g, of a[i][c] b[o][c]; 0 without pairs.
// a [N, C], b [M, C], e [M, K, G]. 16-bit results take a block of float32 rows aside a running task.
void tap_dot(int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
             std::int64_t groups, const void* a, const void* b, const Pairs& pairs, void* e,
             int threads);

}  // namespace sparseconv
