#include "bindings/bind.hpp"
#include "kernels/roofline.hpp"

namespace sparseconv {

void bind_roofline(nb::module_& m) {
  const nb::call_guard<nb::gil_scoped_release> release;

  m.def("multiply_adds", &multiply_adds, nb::arg("dtype"), nb::arg("flops"), nb::arg("threads"),
        release, "Do multiply-adds in registers; return how many operations were done.");
  m.def(
      "copy_bytes",
      [](Address from, Address to, std::int64_t bytes, int threads) {
        copy_bytes(pointer<const void>(from), pointer<void>(to), bytes, threads);
      },
      nb::arg("from"), nb::arg("to"), nb::arg("bytes"), nb::arg("threads"), release,
      "Copy memory.");
}

}  // namespace sparseconv
