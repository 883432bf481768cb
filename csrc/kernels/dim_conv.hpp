// Dimension-wise convolution: kernels of channels, and kernels of the planes across each axis.
#pragma once
#include <cstdint>
#include <vector>

#include "core/pairs.hpp"

namespace sparseconv {

struct DimShape {
  std::int64_t num_in, num_out, channels;  // N, M, C
  const std::int32_t* coords;              // [M, 4]: batch, x, y, z of every output row
  std::vector<std::int64_t> size;          // taps along x, y, z, odd
  std::vector<std::int64_t> planes;        // the lattice has, along x, y, z
  std::vector<std::int64_t> shifts;        // of channels
  std::vector<std::int64_t> axes;          // branches in order: 0 channels, 1 to 3 x to z; A of them
};

// y[o][A c + r] = sum over taps t, pairs (i, o) of t, of K_r[c][t] x[i][c] for the branch of channels,
// of K_r[q][j][t] x[i][c + shift j] for one of an axis, q being the coordinate of o along it and t
// taps that stand still along it; channels outside add 0. With join [A][C], y[o][c] = bias[c] + sum
// over r of join[r][c] times that.
//
// weights hold the kernels of the branches in order: [C][K], or [planes][shifts][K without the axis].
// x [N, C] and y [M, A C], joined [M, C], are dense; join or bias are null for none. Takes the weights
// once more in the type of sums, some 40 KiB a running task and what Tiles takes.
void dim_conv(int dtype, const DimShape& shape, const void* x, const void* weights,
              const void* join, const void* bias, const Pairs& pairs, void* y, int threads);

// The adjoint: to [N, C] from g, and where join is not null its gradient to_join [A][C], for which x
// is read and every 512 rows have sums of their own, added up in order. `symmetric`: (o, i) is a pair
// of tap K - 1 - t for every pair (i, o) of t, so that pairs need not be reordered.
void dim_conv_grad(int dtype, const DimShape& shape, const void* x, const void* g,
                   const void* weights, const void* join, const Pairs& pairs, bool symmetric,
                   void* to, void* to_join, int threads);

// The gradient of the weights, laid out as they are. Parts of the output rows, whose number depends
// on the sizes alone, have sums of their own, added up in order: at most M C / 2 numbers, or those
// of one part.
void dim_conv_grad_weight(int dtype, const DimShape& shape, const void* x, const void* g,
                          const void* join, const Pairs& pairs, void* to, int threads);

}  // namespace sparseconv
