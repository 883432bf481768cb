#include "bindings/tensor.hpp"

namespace sparseconv {
namespace {

// Nothing imports torch here: a program that has not done so gets numpy arrays.
nb::object torch() {
  const nb::object modules = nb::module_::import_("sys").attr("modules");
  return modules.attr("get")("torch", nb::none());
}

const dlpack::Exchange* find() {
  const nb::object loaded = torch();
  if (loaded.is_none()) return nullptr;
  const nb::object given =
      nb::getattr(loaded.attr("Tensor"), "__dlpack_c_exchange_api__", nb::none());
  if (!PyCapsule_IsValid(given.ptr(), "dlpack_exchange_api")) return nullptr;
  const auto* functions = static_cast<const dlpack::Exchange*>(
      PyCapsule_GetPointer(given.ptr(), "dlpack_exchange_api"));
  while (functions && functions->version.major != dlpack::kMajor) functions = functions->previous;
  return functions && functions->to_object ? functions : nullptr;
}

const dlpack::Exchange* found() {
  static const dlpack::Exchange* const functions = find();
  return functions;
}

bool wanted_here = true;

}  // namespace

const dlpack::Exchange* exchange() { return wanted_here ? found() : nullptr; }

bool use_exchange(bool wanted) {
  wanted_here = wanted;
  return found() != nullptr;
}

nb::object adopt(const dlpack::Exchange& torch, dlpack::Managed* tensor) {
  void* object = nullptr;
  if (torch.to_object(tensor, &object)) throw nb::python_error();
  return nb::steal(static_cast<PyObject*>(object));
}

nb::object from_numpy(nb::object array) {
  // kept for good, as torch is
  static PyObject* const adopts =
      torch().is_none() ? nullptr : nb::object(torch().attr("from_numpy")).release().ptr();
  return adopts ? nb::object(nb::handle(adopts)(array)) : array;
}

}  // namespace sparseconv
