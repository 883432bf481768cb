// What kernels must know of the tensors they work on, read by torch's functions: a call of Python for
// each would take longer than a short kernel.
#pragma once
#include <nanobind/nanobind.h>

#include <cstdint>

#include "bindings/dlpack.hpp"

namespace sparseconv {

namespace nb = nanobind;

// Reads tensors on the CPU. What cannot be read or is not as asked for leaves `fit` false: nothing may then
// be done with what was returned, and Python says what is wrong, or copies.
class Operands {
 public:
  struct Rows {
    void* data = nullptr;
    int dtype = -1;  // of core/dtype.hpp
    std::int64_t rows = 0, columns = 0, ld = 0;
  };

  Operands();
  bool fit() const { return fit_; }

  // Floats [N, C]; with `apart` rows may lie farther apart than C.
  Rows rows(nb::handle tensor, bool apart = false);
  // The same, of one dtype and size; null for None.
  void* rows_as(nb::handle tensor, int dtype, std::int64_t rows, std::int64_t columns);
  // Floats of a dtype [C]; null for None.
  void* column(nb::handle tensor, int dtype, std::int64_t length);
  // Ints of a type, as many as there are.
  template <class T>
  const T* ints(nb::handle tensor, std::int64_t& length) {
    return static_cast<const T*>(integers(tensor, 8 * sizeof(T), length));
  }
  // The weight [K, C / G, D] of any strides.
  struct Taps {
    void* data = nullptr;
    int dtype = -1;
    std::int64_t shape[3] = {}, strides[3] = {};
  };
  Taps taps(nb::handle tensor);

 private:
  bool read(nb::handle tensor, int dims, dlpack::Tensor& into);
  const void* integers(nb::handle tensor, int bits, std::int64_t& length);
  void need(bool condition) { fit_ = fit_ && condition; }

  const dlpack::Exchange* torch_;
  bool fit_;
};

// Whether kernels may be called on these arguments of an op at once: plain tensors on the CPU, numbers,
// None. 0 no, 1 yes, 2 yes and one of them wants a gradient; -1 where torch has no functions to tell.
int plain(nb::handle arguments);

}  // namespace sparseconv
