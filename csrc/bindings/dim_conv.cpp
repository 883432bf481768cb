#include "kernels/dim_conv.hpp"

#include "bindings/bind.hpp"

namespace sparseconv {

void bind_dim_conv(nb::module_& m) {
  const nb::call_guard<nb::gil_scoped_release> release;
  using Ints = std::vector<std::int64_t>;
  const auto shape_of = [](std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
                           Address coords, Ints size, Ints planes, Ints shifts, Ints axes) {
    return DimShape{num_in, num_out, channels, pointer<const std::int32_t>(coords),
                    std::move(size), std::move(planes), std::move(shifts), std::move(axes)};
  };

  m.def(
      "dim_conv",
      [=](int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
          Address coords, Ints size, Ints planes, Ints shifts, Ints axes, Address x,
          Address weights, Address join, Address bias, Address in, Address out, Address segments, std::int64_t taps,
          std::int64_t count, Address y, int threads) {
        dim_conv(dtype, shape_of(num_in, num_out, channels, coords, size, planes, shifts, axes),
                 pointer<void>(x), pointer<void>(weights), pointer<void>(join), pointer<void>(bias),
                 pairs_of(in, out, segments, taps, count), pointer<void>(y), threads);
      },
      nb::arg("dtype"), nb::arg("num_in"), nb::arg("num_out"), nb::arg("channels"),
      nb::arg("coords"), nb::arg("size"), nb::arg("planes"), nb::arg("shifts"), nb::arg("axes"),
      nb::arg("x"), nb::arg("weights"), nb::arg("join"), nb::arg("bias"), nb::arg("in"), nb::arg("out"), nb::arg("segments"),
      nb::arg("taps"), nb::arg("count"), nb::arg("y"), nb::arg("threads"), release,
      "Write the branches of a dimension-wise convolution, channel by channel.");
  m.def(
      "dim_conv_grad",
      [=](int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
          Address coords, Ints size, Ints planes, Ints shifts, Ints axes, Address x, Address g,
          Address weights, Address join, Address in, Address out, Address segments,
          std::int64_t taps, std::int64_t count, bool symmetric, Address to, Address to_join,
          int threads) {
        dim_conv_grad(dtype,
                      shape_of(num_in, num_out, channels, coords, size, planes, shifts, axes),
                      pointer<void>(x), pointer<void>(g), pointer<void>(weights),
                      pointer<void>(join), pairs_of(in, out, segments, taps, count), symmetric,
                      pointer<void>(to), pointer<void>(to_join), threads);
      },
      nb::arg("dtype"), nb::arg("num_in"), nb::arg("num_out"), nb::arg("channels"),
      nb::arg("coords"), nb::arg("size"), nb::arg("planes"), nb::arg("shifts"), nb::arg("axes"),
      nb::arg("x"), nb::arg("g"), nb::arg("weights"), nb::arg("join"), nb::arg("in"),
      nb::arg("out"), nb::arg("segments"), nb::arg("taps"), nb::arg("count"), nb::arg("symmetric"),
      nb::arg("to"), nb::arg("to_join"), nb::arg("threads"), release, "Write the gradient of its features, and of what joins the branches.");
  m.def(
      "dim_conv_grad_weight",
      [=](int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
          Address coords, Ints size, Ints planes, Ints shifts, Ints axes, Address x, Address g,
          Address join, Address in, Address out, Address segments, std::int64_t taps, std::int64_t count,
          Address to, int threads) {
        dim_conv_grad_weight(dtype,
                             shape_of(num_in, num_out, channels, coords, size, planes, shifts, axes),
                             pointer<void>(x), pointer<void>(g), pointer<void>(join),
                             pairs_of(in, out, segments, taps, count), pointer<void>(to), threads);
      },
      nb::arg("dtype"), nb::arg("num_in"), nb::arg("num_out"), nb::arg("channels"),
      nb::arg("coords"), nb::arg("size"), nb::arg("planes"), nb::arg("shifts"), nb::arg("axes"),
      nb::arg("x"), nb::arg("g"), nb::arg("join"), nb::arg("in"), nb::arg("out"),
      nb::arg("segments"), nb::arg("taps"), nb::arg("count"), nb::arg("to"), nb::arg("threads"), release,
      "Write the gradient of its kernels.");
}

}  // namespace sparseconv
