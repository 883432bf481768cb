// Torch's tensors, made without a call of Python where torch has functions for that.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <memory>
#include <type_traits>

#include "bindings/dlpack.hpp"
#include "core/buffer.hpp"

namespace sparseconv {

namespace nb = nanobind;

// Torch's functions; null where it has none, or they were switched off.
const dlpack::Exchange* exchange();
// Use them or not, for tests; whether they are there.
bool use_exchange(bool wanted);

// Whether a type is torch's Tensor or Parameter, none made from them; false until torch is there.
bool is_tensor_type(nb::handle type);

nb::object adopt(const dlpack::Exchange& torch, dlpack::Managed* tensor);
nb::object from_numpy(nb::object array);

template <class T>
struct Adopted {
  dlpack::Managed managed;
  std::int64_t shape[2], strides[2];
  Buffer<T> buffer;
};

// Hand a buffer to Python as a tensor [rows] or [rows, columns], without a copy; where torch is not
// loaded, as a numpy array.
template <class T>
nb::object to_tensor(Buffer<T>&& buffer, std::int64_t columns = 0) {
  static_assert(std::is_integral_v<T>);
  const std::int64_t rows = columns > 0 ? buffer.size() / columns : buffer.size();
  const int dims = columns > 0 ? 2 : 1;
  if (const dlpack::Exchange* torch = exchange()) {
    auto* made =
        new Adopted<T>{{}, {rows, columns}, {columns > 0 ? columns : 1, 1}, std::move(buffer)};
    const auto free = [](dlpack::Managed* self) { delete static_cast<Adopted<T>*>(self->context); };
    made->managed = {{dlpack::kMajor, 0},
                     made,
                     free,
                     0,
                     {made->buffer.data(),
                      {dlpack::kCpu, 0},
                      dims,
                      {dlpack::kInt, 8 * sizeof(T), 1},
                      made->shape,
                      made->strides,
                      0}};
    return adopt(*torch, &made->managed);
  }
  auto kept = std::make_unique<Buffer<T>>(std::move(buffer));
  T* data = kept->data();
  nb::capsule owner(kept.get(), [](void* p) noexcept { delete static_cast<Buffer<T>*>(p); });
  kept.release();
  const std::size_t shape[2] = {std::size_t(rows), std::size_t(columns)};
  return from_numpy(nb::cast(nb::ndarray<nb::numpy, T>(data, std::size_t(dims), shape, owner)));
}

}  // namespace sparseconv
