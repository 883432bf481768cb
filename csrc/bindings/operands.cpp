#include "bindings/operands.hpp"

#include "bindings/tensor.hpp"
#include "core/dtype.hpp"

namespace sparseconv {
namespace {

int code_of(const dlpack::Dtype& dtype) {
  if (dtype.lanes != 1) return -1;
  if (dtype.code == dlpack::kBfloat) return dtype.bits == 16 ? int(Dtype::bf16) : -1;
  if (dtype.code != dlpack::kFloat) return -1;
  return dtype.bits == 32   ? int(Dtype::f32)
         : dtype.bits == 64 ? int(Dtype::f64)
         : dtype.bits == 16 ? int(Dtype::f16)
                            : -1;
}

bool dense(const dlpack::Tensor& tensor) {
  std::int64_t step = 1;
  for (int d = tensor.dims - 1; d >= 0; --d) {
    if (tensor.shape[d] == 0) return true;
    if (tensor.shape[d] != 1 && tensor.strides[d] != step) return false;
    step *= tensor.shape[d];
  }
  return true;
}

char* start(const dlpack::Tensor& tensor) {
  return static_cast<char*>(tensor.data) + tensor.offset;
}

bool truth(nb::object&& value) { return value.ptr() == Py_True; }

}  // namespace

Operands::Operands() : torch_(exchange()), fit_(torch_ != nullptr && torch_->read != nullptr) {}

bool Operands::read(nb::handle tensor, int dims, dlpack::Tensor& into) {
  if (!fit_) return false;
  if (torch_->read(tensor.ptr(), &into)) {
    PyErr_Clear();
    return fit_ = false;
  }
  need(into.device.type == dlpack::kCpu && into.dims == dims);
  return fit_;
}

Operands::Rows Operands::rows(nb::handle tensor, bool apart) {
  dlpack::Tensor t;
  if (!read(tensor, 2, t)) return {};
  const int dtype = code_of(t.dtype);
  const bool spaced = apart && t.strides[1] == 1 && t.strides[0] >= t.shape[1];
  need(dtype >= 0 && (spaced || dense(t)));
  return {start(t), dtype, t.shape[0], t.shape[1], spaced ? t.strides[0] : t.shape[1]};
}

void* Operands::rows_as(nb::handle tensor, int dtype, std::int64_t rows, std::int64_t columns) {
  if (tensor.is_none()) return nullptr;
  const Rows read = this->rows(tensor);
  need(read.dtype == dtype && read.rows == rows && read.columns == columns);
  return read.data;
}

void* Operands::column(nb::handle tensor, int dtype, std::int64_t length) {
  dlpack::Tensor t;
  if (tensor.is_none() || !read(tensor, 1, t)) return nullptr;
  need(code_of(t.dtype) == dtype && t.shape[0] == length && dense(t));
  return start(t);
}

Operands::Taps Operands::taps(nb::handle tensor) {
  dlpack::Tensor t;
  if (!read(tensor, 3, t)) return {};
  Taps made{start(t), code_of(t.dtype)};
  for (int d = 0; d < 3; ++d) made.shape[d] = t.shape[d], made.strides[d] = t.strides[d];
  return made;
}

const void* Operands::integers(nb::handle tensor, int bits, std::int64_t& length) {
  dlpack::Tensor t;
  if (!read(tensor, 1, t)) return nullptr;
  need(t.dtype.code == dlpack::kInt && t.dtype.bits == bits && dense(t));
  length = t.shape[0];
  return start(t);
}

int plain(nb::handle arguments) {
  const dlpack::Exchange* torch = exchange();
  if (torch == nullptr || torch->read == nullptr || !PyTuple_CheckExact(arguments.ptr())) return -1;
  bool wanted = false;
  for (nb::handle given : nb::borrow<nb::tuple>(arguments)) {
    PyObject* object = given.ptr();
    if (object == Py_None || PyBool_Check(object) || PyLong_CheckExact(object) ||
        PyFloat_CheckExact(object))
      continue;
    if (PyList_CheckExact(object)) {
      if (PyList_GET_SIZE(object) > 0 && !PyLong_CheckExact(PyList_GET_ITEM(object, 0))) return 0;
      continue;
    }
    if (!is_tensor_type(given.type())) return 0;
    dlpack::Tensor t;
    if (torch->read(object, &t)) {
      PyErr_Clear();
      return 0;
    }
    if (t.device.type != dlpack::kCpu) return 0;
    const auto code = t.dtype.code;
    if (code == dlpack::kInt || code == dlpack::kUnsigned || code == dlpack::kBool) continue;
    // of floats alone there are gradients, and views that hold the negative of what is meant
    if (code_of(t.dtype) < 0 || truth(given.attr("is_neg")())) return 0;
    wanted = wanted || truth(given.attr("requires_grad"));
  }
  return wanted ? 2 : 1;
}

}  // namespace sparseconv
