#include "bindings/bind.hpp"
#include "core/allocator.hpp"
#include "simd/dispatch.hpp"

NB_MODULE(_native, m) {
  using namespace sparseconv;
  settle_allocator();
  m.doc() = "Compiled CPU kernels. Addresses are those of checked, contiguous CPU tensors.";
  m.def("isa", [] { return std::string(table().name); }, "Instruction set in use.");
  m.def("available_isas", &available_isas,
        "Instruction sets this build and machine can run, slowest first.");
  m.def("set_isa", &set_isa, nb::arg("name"), "Force an instruction set.");
  m.def("keep_freed_memory", &keep_freed_memory,
        "Keep freed memory in the process; whether the C library can.");
  m.def("use_exchange", &use_exchange, nb::arg("wanted"),
        "Make tensors by torch's own functions or by way of numpy, for tests; whether torch has "
        "the former.");
  bind_at_once(m);
  bind_coords(m);
  bind_dim_conv(m);
  bind_features(m);
  bind_merge(m);
  bind_pyramid(m);
  bind_relation(m);
  bind_roofline(m);
  bind_sample(m);
  bind_taps(m);
}
