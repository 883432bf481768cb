// Batch norm of rows, with the residual sum and the ReLU that may follow it.
#pragma once
#include <cmath>
#include <cstdint>

namespace sparseconv {

// What normalises a channel: (x - mean) / sqrt(var + eps) * weight + bias. All are [C] of the type
// of sums; weight and bias may be null for ones and zeros.
struct Norm {
  const void* mean;
  const void* var;
  const void* weight;
  const void* bias;
  double eps;

  // (x - mean) scale + shift, of one channel
  template <class T>
  T mean_of(std::int64_t c) const {
    return static_cast<const T*>(mean)[c];
  }
  template <class T>
  T scale_of(std::int64_t c) const {
    const double spread = std::sqrt(double(static_cast<const T*>(var)[c]) + eps);
    return T((weight == nullptr ? 1.0 : double(static_cast<const T*>(weight)[c])) / spread);
  }
  template <class T>
  T shift_of(std::int64_t c) const {
    return bias == nullptr ? T(0) : static_cast<const T*>(bias)[c];
  }
};

// Norm with the statistics of x [N, C] itself: mean[c] and biased var[c] over its rows, 0 where there are
// none, and y as norm_apply gives it. Sums run over blocks of a size that depends on C alone, about a row
// of the block, and are merged in double.
void batch_norm(int dtype, std::int64_t rows, std::int64_t channels, const void* x, double eps,
                const void* weight, const void* bias, const void* residual, bool relu, void* mean,
                void* var, void* y, int threads);

// y = relu(norm(x) + residual) [N, C]; residual may be null, relu left out.
void norm_apply(int dtype, std::int64_t rows, std::int64_t channels, const void* x,
                const Norm& norm, const void* residual, bool relu, void* y, int threads);

// The gradients of norm_apply, or with `batch` of norm_apply with the statistics of x itself:
// grad_x [N, C], and grad_weight and grad_bias [C] in the type of sums. Where a residual was added
// before a ReLU its output y says what the ReLU let through, and grad_residual [N, C] is
// written; else both are null and that mask is made of x again.
void norm_grad(int dtype, std::int64_t rows, std::int64_t channels, const void* g, const void* x,
               const void* y, const Norm& norm, bool relu, bool batch, void* grad_x,
               void* grad_weight, void* grad_bias, void* grad_residual, int threads);

}  // namespace sparseconv
