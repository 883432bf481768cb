#include "kernels/relation.hpp"

#include "bindings/bind.hpp"

namespace sparseconv {

void bind_relation(nb::module_& m) {
  const nb::call_guard<nb::gil_scoped_release> release;

  m.def(
      "relation_mean",
      [](int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
         std::int64_t groups, Address x, Address query, Address key, Address prior, int kind,
         Address in, Address out, Address segments, std::int64_t taps,
         std::int64_t count, Address y, Address log_total, int threads) {
        relation_mean(dtype,
                      {num_in, num_out, channels, groups, pointer<void>(query), pointer<void>(key),
                       pointer<void>(prior), Likeness(kind)},
                      pointer<void>(x), pairs_of(in, out, segments, taps, count), pointer<void>(y),
                      pointer<void>(log_total), threads);
      },
      nb::arg("dtype"), nb::arg("num_in"), nb::arg("num_out"), nb::arg("channels"),
      nb::arg("groups"), nb::arg("x"), nb::arg("query"), nb::arg("key"), nb::arg("prior"),
      nb::arg("kind"), nb::arg("in"), nb::arg("out"), nb::arg("segments"),
      nb::arg("taps"), nb::arg("count"), nb::arg("y"), nb::arg("log_total"), nb::arg("threads"),
      release, "Write the weighted means and the logarithms of what weights were divided by.");
  m.def(
      "relation_mean_grad",
      [](int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
         std::int64_t groups, Address x, Address query, Address key, Address prior, int kind,
         Address log_total, Address grad, Address in, Address out, Address segments,
         std::int64_t taps, std::int64_t count, Address grad_x, Address grad_query,
         Address grad_key, Address grad_prior, int threads) {
        relation_mean_grad(
            dtype,
            {num_in, num_out, channels, groups, pointer<void>(query), pointer<void>(key),
             pointer<void>(prior), Likeness(kind)},
            pointer<void>(x), pointer<void>(log_total), pointer<void>(grad),
            pairs_of(in, out, segments, taps, count), pointer<void>(grad_x),
            pointer<void>(grad_query), pointer<void>(grad_key), pointer<void>(grad_prior), threads);
      },
      nb::arg("dtype"), nb::arg("num_in"), nb::arg("num_out"), nb::arg("channels"),
      nb::arg("groups"), nb::arg("x"), nb::arg("query"), nb::arg("key"), nb::arg("prior"),
      nb::arg("kind"), nb::arg("log_total"), nb::arg("grad"), nb::arg("in"),
      nb::arg("out"), nb::arg("segments"), nb::arg("taps"), nb::arg("count"), nb::arg("grad_x"),
      nb::arg("grad_query"), nb::arg("grad_key"), nb::arg("grad_prior"), nb::arg("threads"),
      release, "Write the gradients of all four inputs of relation_mean.");
}

}  // namespace sparseconv
