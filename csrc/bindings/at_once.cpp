// Kernels called with the tensors themselves: each returns whether it ran. Where it did not nothing was
// written, and Python goes by way of addresses, which says what is wrong, or copies first.
#include "bindings/bind.hpp"
#include "bindings/operands.hpp"
#include "core/dtype.hpp"
#include "core/row_list.hpp"
#include "kernels/conv.hpp"
#include "kernels/norm.hpp"

namespace sparseconv {
namespace {

// the type of sums
int wide(int dtype) { return Dtype(dtype) == Dtype::f64 ? dtype : int(Dtype::f32); }

// A rulebook onto so many rows, and its list by row where there is one.
struct Book {
  Pairs pairs{};
  const std::int64_t* by_row = nullptr;
  bool fit = false;

  Book(Operands& operands, nb::handle in, nb::handle out, nb::handle segments, nb::handle list,
       std::int64_t num_out) {
    std::int64_t count = 0, others = 0, ends = 0, size = 0;
    const auto* in_rows = operands.ints<std::int32_t>(in, count);
    const auto* out_rows = operands.ints<std::int32_t>(out, others);
    const auto* bounds = operands.ints<std::int64_t>(segments, ends);
    if (!list.is_none()) by_row = operands.ints<std::int64_t>(list, size);
    fit = operands.fit() && count == others && ends > 0 &&
          (by_row == nullptr || size == row_list_size(num_out, count));
    if (fit) pairs = {in_rows, out_rows, bounds, ends - 1, std::min(count, bounds[ends - 1])};
  }
};

bool conv_at_once(nb::handle features, nb::handle weight, nb::handle bias, nb::handle in,
                  nb::handle out, nb::handle segments, nb::handle list, std::int64_t groups,
                  bool mirrored, nb::handle mean, nb::handle var, nb::handle scale,
                  nb::handle shift, double eps, nb::handle residual, bool relu, nb::handle result,
                  int threads, KeptWeights* kept) {
  if (groups < 1) return false;
  Operands operands;
  const auto x = operands.rows(features, groups == 1), y = operands.rows(result, groups == 1);
  const auto w = operands.taps(weight);
  const Book book(operands, in, out, segments, list, y.rows);
  if (!book.fit || x.columns % groups || y.columns % groups || y.dtype != x.dtype ||
      (w.dtype != x.dtype && w.dtype != wide(x.dtype)) || w.shape[0] != book.pairs.taps ||
      w.shape[1] != x.columns / groups || w.shape[2] != y.columns)
    return false;
  const int sums = wide(x.dtype);
  const void* added = operands.column(bias, x.dtype, y.columns);
  const Norm norm{operands.column(mean, sums, y.columns), operands.column(var, sums, y.columns),
                  operands.column(scale, sums, y.columns),
                  operands.column(shift, sums, y.columns), eps};
  const void* rest = operands.rows_as(residual, x.dtype, y.rows, y.columns);
  if (!operands.fit()) return false;
  std::int64_t strides[3] = {w.strides[0], w.strides[1], w.strides[2]};
  const char* first = static_cast<const char*>(w.data);
  if (mirrored && w.shape[0] > 0) {
    const int bytes = Dtype(w.dtype) == Dtype::f64 ? 8 : Dtype(w.dtype) == Dtype::f32 ? 4 : 2;
    first += (w.shape[0] - 1) * strides[0] * bytes;
    strides[0] = -strides[0];
  }
  const nb::gil_scoped_release release;
  conv(x.dtype, {x.rows, y.rows, x.columns, y.columns, groups, x.ld, y.ld}, x.data, first,
       w.dtype != x.dtype, strides, added, book.pairs, book.by_row, norm,
       {rest, y.columns, nullptr, nullptr, rest == nullptr ? 0 : y.rows,
        rest == nullptr ? 0 : y.columns},
       relu, y.data, threads, kept);
  return true;
}

bool conv_grad_weight_at_once(nb::handle features, nb::handle grad, nb::handle in, nb::handle out,
                              nb::handle segments, nb::handle list, std::int64_t groups,
                              nb::handle result, int threads) {
  if (groups < 1) return false;
  Operands operands;
  const auto x = operands.rows(features, groups == 1), g = operands.rows(grad, groups == 1);
  const auto w = operands.taps(result);
  const Book book(operands, in, out, segments, list, g.rows);
  if (!book.fit || x.columns % groups || g.columns % groups || g.dtype != x.dtype ||
      w.shape[0] != book.pairs.taps || w.shape[1] != x.columns / groups || w.shape[2] != g.columns)
    return false;
  const nb::gil_scoped_release release;
  conv_grad_weight(x.dtype, {x.rows, g.rows, x.columns, g.columns, groups, x.ld, g.ld}, x.data,
                   g.data, book.pairs, book.by_row, w.data, w.dtype != x.dtype, threads);
  return true;
}

bool batch_norm_at_once(nb::handle features, nb::handle scale, nb::handle shift,
                        nb::handle residual, double eps, bool relu, nb::handle mean,
                        nb::handle var, nb::handle result, int threads) {
  Operands operands;
  const auto x = operands.rows(features);
  const int sums = wide(x.dtype);
  const void* weight = operands.column(scale, sums, x.columns);
  const void* bias = operands.column(shift, sums, x.columns);
  const void* rest = operands.rows_as(residual, x.dtype, x.rows, x.columns);
  void* to_mean = operands.column(mean, sums, x.columns);
  void* to_var = operands.column(var, sums, x.columns);
  void* y = operands.rows_as(result, x.dtype, x.rows, x.columns);
  if (!operands.fit()) return false;
  const nb::gil_scoped_release release;
  batch_norm(x.dtype, x.rows, x.columns, x.data, eps, weight, bias, rest, relu, to_mean, to_var, y,
             threads);
  return true;
}

bool norm_grad_at_once(nb::handle grad, nb::handle features, nb::handle output, nb::handle mean,
                       nb::handle var, nb::handle scale, nb::handle shift, double eps, bool relu,
                       bool batch, nb::handle to_x, nb::handle to_scale, nb::handle to_shift,
                       nb::handle to_residual, int threads) {
  if (!output.is_none() && !relu) return false;
  Operands operands;
  const auto x = operands.rows(features);
  const int sums = wide(x.dtype);
  const auto like = [&](nb::handle tensor) {
    return operands.rows_as(tensor, x.dtype, x.rows, x.columns);
  };
  const auto column = [&](nb::handle tensor) {
    return operands.column(tensor, sums, x.columns);
  };
  const void *g = like(grad), *y = like(output);
  const Norm norm{column(mean), column(var), column(scale), column(shift), eps};
  void *grad_x = like(to_x), *grad_scale = column(to_scale), *grad_shift = column(to_shift);
  void* grad_residual = y == nullptr ? nullptr : like(to_residual);
  if (!operands.fit()) return false;
  const nb::gil_scoped_release release;
  norm_grad(x.dtype, x.rows, x.columns, g, x.data, y, norm, relu, batch, grad_x, grad_scale,
            grad_shift, grad_residual, threads);
  return true;
}

bool conv_norm_at_once(nb::handle features, nb::handle weight, nb::handle bias, nb::handle in,
                       nb::handle out, nb::handle segments, nb::handle list, std::int64_t groups,
                       nb::handle scale, nb::handle shift, double eps, nb::handle residual,
                       bool relu, nb::handle x, nb::handle mean, nb::handle var, nb::handle y,
                       int threads) {
  const nb::handle none = Py_None;
  return conv_at_once(features, weight, bias, in, out, segments, list, groups, false, none, none,
                      none, none, 0, none, false, x, threads, nullptr) &&
         batch_norm_at_once(x, scale, shift, residual, eps, relu, mean, var, y, threads);
}

bool conv_norm_grad_at_once(nb::handle grad, nb::handle x, nb::handle y, nb::handle mean,
                            nb::handle var, nb::handle scale, nb::handle shift, double eps,
                            bool relu, nb::handle to_x, nb::handle to_scale, nb::handle to_shift,
                            nb::handle to_residual, nb::handle features, nb::handle swapped,
                            nb::handle in, nb::handle out, nb::handle segments, nb::handle list,
                            std::int64_t groups, bool symmetric, nb::handle to_features,
                            nb::handle to_weight, int threads) {
  const nb::handle none = Py_None;
  if (!norm_grad_at_once(grad, x, y, mean, var, scale, shift, eps, relu, true, to_x, to_scale,
                         to_shift, to_residual, threads))
    return false;
  if (!to_features.is_none() &&
      !conv_at_once(to_x, swapped, none, symmetric ? in : out, symmetric ? out : in, segments,
                    symmetric ? list : none, groups, symmetric, none, none, none, none, 0, none,
                    false, to_features, threads, nullptr))
    return false;
  return to_weight.is_none() || conv_grad_weight_at_once(features, to_x, in, out, segments, list,
                                                         groups, to_weight, threads);
}

}  // namespace

void bind_at_once(nb::module_& m) {
  const auto maybe = [](const char* name) { return nb::arg(name).none(); };
  nb::class_<KeptWeights>(m, "KeptWeights", "Weights as products read them, kept between calls.")
      .def(nb::init<>())
      .def_prop_ro("bytes", &KeptWeights::bytes, "What is kept.");
  m.def("plain", &plain, nb::arg("arguments"),
        "Whether a tuple of arguments holds plain CPU tensors, numbers and None alone: 0 no, 1 yes, "
        "2 yes and one wants a gradient, -1 where torch does not tell.");
  m.def("conv_at_once", &conv_at_once, nb::arg("features"), nb::arg("weight"), maybe("bias"),
        nb::arg("in"), nb::arg("out"), nb::arg("segments"), maybe("by_row"), nb::arg("groups"),
        nb::arg("mirrored"), maybe("mean"), maybe("var"), maybe("scale"), maybe("shift"),
        nb::arg("eps"), maybe("residual"), nb::arg("relu"), nb::arg("y"), nb::arg("threads"),
        maybe("kept"),
        "Write y and return True, or False where an operand is not as the kernel reads it.");
  m.def("conv_norm_at_once", &conv_norm_at_once, nb::arg("features"), nb::arg("weight"),
        maybe("bias"), nb::arg("in"), nb::arg("out"), nb::arg("segments"), maybe("by_row"),
        nb::arg("groups"), maybe("scale"), maybe("shift"), nb::arg("eps"), maybe("residual"),
        nb::arg("relu"), nb::arg("x"), nb::arg("mean"), nb::arg("var"), nb::arg("y"),
        nb::arg("threads"),
        "Write x, mean, variance and y and return True; or False as above, when what was written is of "
        "no use.");
  m.def("conv_norm_grad_at_once", &conv_norm_grad_at_once, nb::arg("grad"), nb::arg("x"),
        maybe("y"), nb::arg("mean"), nb::arg("var"), maybe("scale"), maybe("shift"),
        nb::arg("eps"), nb::arg("relu"), nb::arg("to_x"), nb::arg("to_scale"), nb::arg("to_shift"),
        nb::arg("to_residual"), nb::arg("features"), nb::arg("swapped"), nb::arg("in"),
        nb::arg("out"), nb::arg("segments"), maybe("by_row"), nb::arg("groups"),
        nb::arg("symmetric"), maybe("to_features"), maybe("to_weight"), nb::arg("threads"),
        "Write all gradients and return True; or False, as for conv_norm_at_once.");
  m.def("conv_grad_weight_at_once", &conv_grad_weight_at_once, nb::arg("features"),
        nb::arg("grad"), nb::arg("in"), nb::arg("out"), nb::arg("segments"), maybe("by_row"),
        nb::arg("groups"), nb::arg("grad_weight"), nb::arg("threads"),
        "Write the gradient of the weight, in its type, and return True; or False as above.");
  m.def("batch_norm_at_once", &batch_norm_at_once, nb::arg("x"), maybe("scale"), maybe("shift"),
        maybe("residual"), nb::arg("eps"), nb::arg("relu"), nb::arg("mean"), nb::arg("var"),
        nb::arg("y"), nb::arg("threads"),
        "Write mean, variance and y and return True; or False as above.");
  m.def("norm_grad_at_once", &norm_grad_at_once, nb::arg("grad"), nb::arg("x"), maybe("y"),
        nb::arg("mean"), nb::arg("var"), maybe("scale"), maybe("shift"), nb::arg("eps"),
        nb::arg("relu"), nb::arg("batch"), nb::arg("to_x"), nb::arg("to_scale"),
        nb::arg("to_shift"), nb::arg("to_residual"), nb::arg("threads"),
        "Write the gradients and return True; or False as above.");
}

}  // namespace sparseconv
