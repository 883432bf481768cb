#include <algorithm>

#include "bindings/bind.hpp"
#include "kernels/aggregate.hpp"
#include "kernels/conv.hpp"
#include "kernels/norm.hpp"
#include "kernels/row_list.hpp"

namespace sparseconv {

void bind_features(nb::module_& m) {
  const nb::call_guard<nb::gil_scoped_release> release;

  m.def(
      "conv",
      [](int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
         std::int64_t width, std::int64_t groups, Address x, std::int64_t ldx, Address weight,
         bool wide_weight, std::int64_t stride_t, std::int64_t stride_c, std::int64_t stride_d,
         Address bias, Address in, Address out, Address segments, std::int64_t taps,
         std::int64_t count, Address by_row, Address mean, Address var, Address norm_weight,
         Address norm_bias, double eps, Address residual, std::int64_t ld_residual,
         Address residual_rows, Address residual_counts, std::int64_t num_residual,
         std::int64_t residual_width, bool relu,
         Address y, std::int64_t ldy, int threads) {
        const std::int64_t strides[3] = {stride_t, stride_c, stride_d};
        conv(dtype, {num_in, num_out, channels, width, groups, ldx, ldy}, pointer<void>(x),
             pointer<void>(weight), wide_weight, strides, pointer<void>(bias),
             pairs_of(in, out, segments, taps, count), pointer<const std::int64_t>(by_row),
             {pointer<void>(mean), pointer<void>(var), pointer<void>(norm_weight),
              pointer<void>(norm_bias), eps},
             {pointer<void>(residual), ld_residual, pointer<const std::int32_t>(residual_rows),
              pointer<const std::int64_t>(residual_counts), num_residual, residual_width},
             relu, pointer<void>(y), threads);
      },
      nb::arg("dtype"), nb::arg("num_in"), nb::arg("num_out"), nb::arg("channels"),
      nb::arg("width"), nb::arg("groups"), nb::arg("x"), nb::arg("ldx"), nb::arg("weight"),
      nb::arg("wide_weight"), nb::arg("stride_t"), nb::arg("stride_c"), nb::arg("stride_d"),
      nb::arg("bias"), nb::arg("in"), nb::arg("out"), nb::arg("segments"), nb::arg("taps"),
      nb::arg("count"), nb::arg("by_row"), nb::arg("mean"), nb::arg("var"),
      nb::arg("norm_weight"), nb::arg("norm_bias"), nb::arg("eps"), nb::arg("residual"),
      nb::arg("ld_residual"),
      nb::arg("residual_rows"), nb::arg("residual_counts"), nb::arg("num_residual"), nb::arg("residual_width"), nb::arg("relu"),
      nb::arg("y"), nb::arg("ldy"), nb::arg("threads"), release,
      "Write y; by_row, bias, what normalises, residual and its rows 0 for none; ValueError where "
      "the pairs do not fit.");
  m.def(
      "conv_grad_weight",
      [](int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels,
         std::int64_t width, std::int64_t groups, Address x, std::int64_t ldx, Address g,
         std::int64_t ldg, Address in, Address out, Address segments, std::int64_t taps,
         std::int64_t count, Address by_row, Address grad_weight, bool wide, int threads) {
        conv_grad_weight(dtype, {num_in, num_out, channels, width, groups, ldx, ldg},
                         pointer<void>(x), pointer<void>(g),
                         pairs_of(in, out, segments, taps, count),
                         pointer<const std::int64_t>(by_row), pointer<void>(grad_weight), wide,
                         threads);
      },
      nb::arg("dtype"), nb::arg("num_in"), nb::arg("num_out"), nb::arg("channels"),
      nb::arg("width"), nb::arg("groups"), nb::arg("x"), nb::arg("ldx"), nb::arg("g"),
      nb::arg("ldg"), nb::arg("in"), nb::arg("out"), nb::arg("segments"), nb::arg("taps"),
      nb::arg("count"), nb::arg("by_row"), nb::arg("grad_weight"), nb::arg("wide"),
      nb::arg("threads"), release,
      "Write the gradient of the weight; with wide in the type of sums.");
  m.def(
      "pairs_by_row",
      [](Address in, Address out, Address segments, std::int64_t taps, std::int64_t count,
         std::int64_t num_out, Address list, int threads) {
        pairs_by_row(pairs_of(in, out, segments, taps, count), count, num_out,
                     pointer<std::int64_t>(list), threads);
      },
      nb::arg("in"), nb::arg("out"), nb::arg("segments"), nb::arg("taps"), nb::arg("count"),
      nb::arg("num_out"), nb::arg("list"), nb::arg("threads"), release,
      "Write starts and pairs by output row; ValueError where the pairs do not fit.");
  m.def(
      "aggregate",
      [](int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels, Address x,
         Address in, Address out, std::int64_t count, Address weights, Address y, int threads) {
        const std::int64_t segments[2] = {0, count};
        aggregate(
            dtype, num_in, num_out, channels, pointer<void>(x),
            {pointer<const std::int32_t>(in), pointer<const std::int32_t>(out), segments, 1, count},
            pointer<void>(weights), pointer<void>(y), threads);
      },
      nb::arg("dtype"), nb::arg("num_in"), nb::arg("num_out"), nb::arg("channels"), nb::arg("x"),
      nb::arg("in"), nb::arg("out"), nb::arg("count"), nb::arg("weights"), nb::arg("y"),
      nb::arg("threads"), release, "Write the sums; weights 0 for ones.");
  m.def(
      "sum_rows",
      [](int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels, Address x,
         Address list, std::int64_t count, Address counts, Address y, int threads) {
        sum_rows(dtype, num_in, num_out, channels, pointer<void>(x),
                 pointer<const std::int64_t>(list), count, pointer<const std::int64_t>(counts),
                 pointer<void>(y), threads);
      },
      nb::arg("dtype"), nb::arg("num_in"), nb::arg("num_out"), nb::arg("channels"), nb::arg("x"),
      nb::arg("list"), nb::arg("count"), nb::arg("counts"), nb::arg("y"), nb::arg("threads"),
      release, "Write the sums of listed pairs; counts 0 for no division.");
  m.def(
      "pair_dot",
      [](int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels, Address a,
         Address b, Address in, Address out, std::int64_t count, Address dots, int threads) {
        const std::int64_t segments[2] = {0, count};
        pair_dot(
            dtype, num_in, num_out, channels, pointer<void>(a), pointer<void>(b),
            {pointer<const std::int32_t>(in), pointer<const std::int32_t>(out), segments, 1, count},
            pointer<void>(dots), threads);
      },
      nb::arg("dtype"), nb::arg("num_in"), nb::arg("num_out"), nb::arg("channels"), nb::arg("a"),
      nb::arg("b"), nb::arg("in"), nb::arg("out"), nb::arg("count"), nb::arg("dots"),
      nb::arg("threads"), release, "Write the dot product of each pair.");
  m.def(
      "pool_max",
      [](int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels, Address x,
         Address in, Address out, std::int64_t count, Address y, Address winner, int threads) {
        const std::int64_t segments[2] = {0, count};
        pool_max(
            dtype, num_in, num_out, channels, pointer<void>(x),
            {pointer<const std::int32_t>(in), pointer<const std::int32_t>(out), segments, 1, count},
            pointer<void>(y), pointer<std::int32_t>(winner), threads);
      },
      nb::arg("dtype"), nb::arg("num_in"), nb::arg("num_out"), nb::arg("channels"), nb::arg("x"),
      nb::arg("in"), nb::arg("out"), nb::arg("count"), nb::arg("y"), nb::arg("winner"),
      nb::arg("threads"), release, "Write the maxima and the rows that gave them.");
  m.def(
      "pool_max_grad",
      [](int dtype, std::int64_t num_in, std::int64_t num_out, std::int64_t channels, Address g,
         Address winner, Address grad, int threads) {
        pool_max_grad(dtype, num_in, num_out, channels, pointer<void>(g),
                      pointer<const std::int32_t>(winner), pointer<void>(grad), threads);
      },
      nb::arg("dtype"), nb::arg("num_in"), nb::arg("num_out"), nb::arg("channels"), nb::arg("g"),
      nb::arg("winner"), nb::arg("grad"), nb::arg("threads"), release,
      "Write the gradient: each number to the row that won.");
  m.def(
      "batch_norm",
      [](int dtype, std::int64_t rows, std::int64_t channels, Address x, Address weight,
         Address bias, double eps, Address residual, bool relu, Address mean, Address var,
         Address y, int threads) {
        batch_norm(dtype, rows, channels, pointer<void>(x), eps, pointer<void>(weight),
                   pointer<void>(bias), pointer<void>(residual), relu, pointer<void>(mean),
                   pointer<void>(var), pointer<void>(y), threads);
      },
      nb::arg("dtype"), nb::arg("rows"), nb::arg("channels"), nb::arg("x"), nb::arg("weight"),
      nb::arg("bias"), nb::arg("eps"), nb::arg("residual"), nb::arg("relu"), nb::arg("mean"),
      nb::arg("var"), nb::arg("y"), nb::arg("threads"), release,
      "Write mean and biased variance of each column, and y normalised with them.");
  m.def(
      "norm_apply",
      [](int dtype, std::int64_t rows, std::int64_t channels, Address x, Address mean, Address var,
         Address weight, Address bias, double eps, Address residual, bool relu, Address y,
         int threads) {
        norm_apply(dtype, rows, channels, pointer<void>(x),
                   {pointer<void>(mean), pointer<void>(var), pointer<void>(weight),
                    pointer<void>(bias), eps},
                   pointer<void>(residual), relu, pointer<void>(y), threads);
      },
      nb::arg("dtype"), nb::arg("rows"), nb::arg("channels"), nb::arg("x"), nb::arg("mean"),
      nb::arg("var"), nb::arg("weight"), nb::arg("bias"), nb::arg("eps"), nb::arg("residual"),
      nb::arg("relu"), nb::arg("y"), nb::arg("threads"), release,
      "Write y; weight, bias and residual 0 for none.");
  m.def(
      "norm_grad",
      [](int dtype, std::int64_t rows, std::int64_t channels, Address g, Address x, Address y,
         Address mean, Address var, Address weight, Address bias, double eps, bool relu, bool batch,
         Address grad_x, Address grad_weight, Address grad_bias, Address grad_residual,
         int threads) {
        norm_grad(dtype, rows, channels, pointer<void>(g), pointer<void>(x), pointer<void>(y),
                  {pointer<void>(mean), pointer<void>(var), pointer<void>(weight),
                   pointer<void>(bias), eps},
                  relu, batch, pointer<void>(grad_x), pointer<void>(grad_weight),
                  pointer<void>(grad_bias), pointer<void>(grad_residual), threads);
      },
      nb::arg("dtype"), nb::arg("rows"), nb::arg("channels"), nb::arg("g"), nb::arg("x"),
      nb::arg("y"), nb::arg("mean"), nb::arg("var"), nb::arg("weight"), nb::arg("bias"),
      nb::arg("eps"), nb::arg("relu"), nb::arg("batch"), nb::arg("grad_x"),
      nb::arg("grad_weight"), nb::arg("grad_bias"), nb::arg("grad_residual"), nb::arg("threads"),
      release, "Write the gradients; with y, the output, that of the residual too.");
}

}  // namespace sparseconv
