#include "bindings/bind.hpp"
#include "kernels/blocks.hpp"

namespace sparseconv {

void bind_sample(nb::module_& m) {
  m.def(
      "block_index",
      [](Address coords, std::int64_t n, int threads) {
        Buffer<std::int32_t> made;
        {
          const nb::gil_scoped_release unlocked;
          made = make_blocks(pointer<const Site>(coords), n, threads);
        }
        return to_numpy(std::move(made));
      },
      nb::arg("coords"), nb::arg("n"), nb::arg("threads"), "Return the block index of sites.");
}

}  // namespace sparseconv
