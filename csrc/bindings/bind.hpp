// What every binding file shares. Pointers and sizes arrive as plain integers: Python has checked
// device, dtype, shape and contiguity before it takes an address.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdint>

#include "bindings/tensor.hpp"
#include "core/pairs.hpp"
#include "kernels/rulebook.hpp"

namespace sparseconv {

using Address = std::uintptr_t;

template <class T>
T* pointer(Address address) {
  return reinterpret_cast<T*>(address);
}

// Pairs behind the last tap's are none of the kernel's.
inline Pairs pairs_of(Address in, Address out, Address segments, std::int64_t taps,
                      std::int64_t count) {
  const auto* ends = pointer<const std::int64_t>(segments);
  return {pointer<const std::int32_t>(in), pointer<const std::int32_t>(out), ends, taps,
          std::min(count, ends[taps])};
}

// Hand out in_rows, out_rows and segments.
inline nb::tuple to_tensors(Book&& book) {
  return nb::make_tuple(to_tensor(std::move(book.in)), to_tensor(std::move(book.out)),
                        to_tensor(std::move(book.segments)));
}

void bind_at_once(nb::module_& m);
void bind_coords(nb::module_& m);
void bind_dim_conv(nb::module_& m);
void bind_features(nb::module_& m);
void bind_merge(nb::module_& m);
void bind_pyramid(nb::module_& m);
void bind_relation(nb::module_& m);
void bind_roofline(nb::module_& m);
void bind_sample(nb::module_& m);
void bind_taps(nb::module_& m);

}  // namespace sparseconv
