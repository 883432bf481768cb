// Weighted sums over pairs, their adjoint dot products, and the maximum with its winner.
#pragma once
#include <cstdint>

#include "core/pairs.hpp"

namespace sparseconv {

// y[o] = sum over pairs p = (i, o) of weights[p] x[i]; weights null for ones.
// x [N, C], y [M, C] dense; pairs form one segment; summed in pair order, for a few rows of many
// pairs in pieces of a fixed number of pairs. 16-bit sums take a tile of float32 aside a running
// task (256 KiB), moved pairs what Tiles takes, pieces a 128th of the inputs at most.
void aggregate(int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
               const void* x, const Pairs& pairs, const void* weights, void* y, int threads);

// y[o] = sum over the pairs (i, o) of x[i], divided by counts[o] where counts are given. `list` is that
// of core/row_list.hpp, of `count` pairs; x [N, C], y [M, C] dense.
void sum_rows(int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
              const void* x, const std::int64_t* list, std::int64_t count,
              const std::int64_t* counts, void* y, int threads);

// dots[p] = <a[i], b[o]> for pairs p = (i, o); a [N, C], b [M, C].
void pair_dot(int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
              const void* a, const void* b, const Pairs& pairs, void* dots, int threads);

// y[o] = max over pairs (i, o) of x[i], winner[o] the lowest row that attains it; NaN wins over
// numbers. Without input 0 and -1. A tile of sums (256 KiB) aside a running task.
void pool_max(int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
              const void* x, const Pairs& pairs, void* y, std::int32_t* winner, int threads);

// to[winner[o][c]][c] += g[o][c], rows o ascending, from zeros; winner -1 is left out. Cut by
// columns. 16-bit results take float32 columns aside a running task (N x 64 at most).
void pool_max_grad(int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
                   const void* g, const std::int32_t* winner, void* to, int threads);

}  // namespace sparseconv
