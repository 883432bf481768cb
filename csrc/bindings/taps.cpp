#include "kernels/taps.hpp"

#include "bindings/bind.hpp"

namespace sparseconv {

void bind_taps(nb::module_& m) {
  const nb::call_guard<nb::gil_scoped_release> release;

  m.def(
      "tap_sum",
      [](int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
         std::int64_t groups, Address x, Address weights, Address in, Address out, Address segments,
         std::int64_t taps, std::int64_t count, bool transposed, Address y, int threads) {
        tap_sum(dtype, num_in, num_out, channels, groups, pointer<void>(x), pointer<void>(weights),
                pairs_of(in, out, segments, taps, count), transposed, pointer<void>(y), threads);
      },
      nb::arg("dtype"), nb::arg("num_in"), nb::arg("num_out"), nb::arg("channels"),
      nb::arg("groups"), nb::arg("x"), nb::arg("weights"), nb::arg("in"), nb::arg("out"),
      nb::arg("segments"), nb::arg("taps"), nb::arg("count"), nb::arg("transposed"), nb::arg("y"),
      nb::arg("threads"), release, "Write the sums; num_in and num_out are those of the rulebook.");
  m.def(
      "tap_dot",
      [](int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
         std::int64_t groups, Address a, Address b, Address in, Address out, Address segments,
         std::int64_t taps, std::int64_t count, Address dots, int threads) {
        tap_dot(dtype, num_in, num_out, channels, groups, pointer<void>(a), pointer<void>(b),
                pairs_of(in, out, segments, taps, count), pointer<void>(dots), threads);
      },
      nb::arg("dtype"), nb::arg("num_in"), nb::arg("num_out"), nb::arg("channels"),
      nb::arg("groups"), nb::arg("a"), nb::arg("b"), nb::arg("in"), nb::arg("out"),
      nb::arg("segments"), nb::arg("taps"), nb::arg("count"), nb::arg("dots"), nb::arg("threads"),
      release, "Write the dot products of each site with its neighbours.");
}

}  // namespace sparseconv
