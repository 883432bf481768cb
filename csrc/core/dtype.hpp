// Storage types by code, as the Python side numbers them.
#pragma once
#include <stdexcept>

#include "simd/dispatch.hpp"

namespace sparseconv {

enum class Dtype : int { f32 = 0, f64 = 1, bf16 = 2, f16 = 3 };

// Call visit(loops, S{}, T{}) with the loops, storage type and sum type of a code.
template <class Visit>
void visit_dtype(int code, Visit&& visit) {
  const Table& use = table();
  switch (Dtype(code)) {
    case Dtype::f32:
      return visit(use.f32, float{}, float{});
    case Dtype::f64:
      return visit(use.f64, double{}, double{});
    case Dtype::bf16:
      return visit(use.bf16, Bf16{}, float{});
    case Dtype::f16:
      return visit(use.f16, F16{}, float{});
  }
  throw std::invalid_argument("dtype: unknown code");
}

}  // namespace sparseconv
