// What every binding file shares. Pointers and sizes arrive as plain integers: Python has checked
// device, dtype, shape and contiguity before it takes an address.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <memory>

#include "core/buffer.hpp"

namespace sparseconv {

namespace nb = nanobind;

using Address = std::uintptr_t;

template <class T>
T* pointer(Address address) {
  return reinterpret_cast<T*>(address);
}

// Hand a buffer to Python as a numpy array [rows] or [rows, columns], without a copy.
template <class T>
nb::object to_numpy(Buffer<T>&& buffer, std::int64_t columns = 0) {
  auto kept = std::make_unique<Buffer<T>>(std::move(buffer));
  T* data = kept->data();
  const std::size_t size = std::size_t(kept->size());
  nb::capsule owner(kept.get(), [](void* p) noexcept { delete static_cast<Buffer<T>*>(p); });
  kept.release();
  const std::size_t shape[2] = {columns > 0 ? size / std::size_t(columns) : size,
                                std::size_t(columns)};
  return nb::cast(nb::ndarray<nb::numpy, T>(data, columns > 0 ? 2 : 1, shape, owner));
}

void bind_coords(nb::module_& m);
void bind_features(nb::module_& m);
void bind_merge(nb::module_& m);
void bind_roofline(nb::module_& m);
void bind_sample(nb::module_& m);

}  // namespace sparseconv
