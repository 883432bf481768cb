// Depthwise convolutions whose kernel every output row reads between its cells.
#pragma once
#include <cstdint>

#include "core/pairs.hpp"

namespace sparseconv {

// Where rows read a grid of scope cells: places [rows, taps, groups, 3].
struct KernelPlaces {
  const void* values;
  bool wide;  // double, else float
  std::int64_t rows, taps, groups;
  std::int32_t scope[3];

  std::int64_t cells() const { return std::int64_t(scope[0]) * scope[1] * scope[2]; }
};

// y[o][c] = sum over taps t, pairs (i, o) of t, of W(places[o][t][c / (C / groups)])[c] x[i][c], with
// W trilinear on kernel [cells, C] and 0 beyond; tap by tap, in pair order. x [N, C], y [M, C] dense.
// Transposed: x [M, C], y [N, C], and y[i] sums W x[o]. Takes 16 KiB a running task, what Tiles
// takes, and x and kernel in the type of sums where their own is another.
void deform_kernel(int dtype, std::int64_t num_in, std::int64_t channels, const KernelPlaces& places,
                   const void* x, const void* kernel, const Pairs& pairs, bool transposed, void* y,
                   int threads);

// The derivatives of kernel and places for g [M, C]; those of places no pair reads at are 0. A tap
// has one pair a row. Takes sums of the kernel for every 1024 rows, or for every 32nd part of them.
void deform_kernel_grad(int dtype, std::int64_t num_in, std::int64_t channels,
                        const KernelPlaces& places, const void* x, const void* kernel,
                        const Pairs& pairs, const void* g, void* grad_kernel, void* grad_places,
                        int threads);

}  // namespace sparseconv
