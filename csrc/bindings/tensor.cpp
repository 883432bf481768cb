#include "bindings/tensor.hpp"

namespace sparseconv {
namespace {

// Nothing imports torch here: a program that has not done so gets numpy arrays.
nb::object torch() {
  const nb::object modules = nb::module_::import_("sys").attr("modules");
  return modules.attr("get")("torch", nb::none());
}

const dlpack::Exchange* functions_of(const nb::object& tensor) {
  const nb::object given = nb::getattr(tensor, "__dlpack_c_exchange_api__", nb::none());
  if (!PyCapsule_IsValid(given.ptr(), "dlpack_exchange_api")) return nullptr;
  const auto* functions = static_cast<const dlpack::Exchange*>(
      PyCapsule_GetPointer(given.ptr(), "dlpack_exchange_api"));
  while (functions && functions->version.major != dlpack::kMajor) functions = functions->previous;
  return functions && functions->to_object ? functions : nullptr;
}

// Looked for once torch is there, and kept for good, as torch is. The GIL guards them; a static with
// a lock of its own could be waited for by a thread that holds the GIL.
bool looked = false;
const dlpack::Exchange* functions = nullptr;
PyObject* adopts_array = nullptr;
PyObject* tensor_type = nullptr;
PyObject* parameter_type = nullptr;
bool wanted_here = true;

void look() {
  if (looked) return;
  nb::object loaded = torch();
  nb::object tensor = nb::getattr(loaded, "Tensor", nb::none());
  nb::object adopts = nb::getattr(loaded, "from_numpy", nb::none());
  nb::object nn = nb::getattr(loaded, "nn", nb::none());
  nb::object parameter = nb::getattr(nn, "Parameter", nb::none());
  // not loaded, or not to its end
  if (tensor.is_none() || adopts.is_none() || parameter.is_none()) return;
  functions = functions_of(tensor);
  adopts_array = adopts.release().ptr();
  tensor_type = tensor.release().ptr();
  parameter_type = parameter.release().ptr();
  looked = true;
}

}  // namespace

const dlpack::Exchange* exchange() {
  look();
  return wanted_here ? functions : nullptr;
}

bool use_exchange(bool wanted) {
  look();
  wanted_here = wanted;
  return functions != nullptr;
}

bool is_tensor_type(nb::handle type) {
  return type.ptr() == tensor_type || type.ptr() == parameter_type;
}

nb::object adopt(const dlpack::Exchange& torch, dlpack::Managed* tensor) {
  void* object = nullptr;
  if (torch.to_object(tensor, &object)) throw nb::python_error();
  return nb::steal(static_cast<PyObject*>(object));
}

nb::object from_numpy(nb::object array) {
  return adopts_array ? nb::object(nb::handle(adopts_array)(array)) : array;
}

}  // namespace sparseconv
