#include "bindings/bind.hpp"
#include "kernels/coords.hpp"
#include "kernels/rulebook.hpp"

namespace sparseconv {
namespace {

std::vector<Offset> offsets_of(const std::vector<std::int64_t>& flat) {
  std::vector<Offset> offsets(flat.size() / 3);
  for (std::size_t i = 0; i < 3 * offsets.size(); ++i) offsets[i / 3].v[i % 3] = flat[i];
  return offsets;
}

}  // namespace

void bind_coords(nb::module_& m) {
  using Ints = std::vector<std::int64_t>;
  const nb::call_guard<nb::gil_scoped_release> release;

  m.def("index_capacity", &index_capacity, nb::arg("rows"), "Slots of the index of so many rows.");
  m.def(
      "site_index",
      [](Address coords, std::int64_t n, Address slots, std::int64_t capacity, int threads) {
        SiteIndex(pointer<const Site>(coords), pointer<std::int64_t>(slots), capacity)
            .build(n, threads);
      },
      nb::arg("coords"), nb::arg("n"), nb::arg("slots"), nb::arg("capacity"), nb::arg("threads"),
      release, "Fill an index of int32 [n, 4] coords.");
  m.def(
      "lookup",
      [](Address coords, std::int64_t n, Address slots, std::int64_t capacity, Address queries,
         std::int64_t count, Address rows, int threads) {
        lookup(pointer<const Site>(coords), n, pointer<std::int64_t>(slots), capacity,
               pointer<const Site>(queries), count, pointer<std::int32_t>(rows), threads);
      },
      nb::arg("coords"), nb::arg("n"), nb::arg("slots"), nb::arg("capacity"), nb::arg("queries"),
      nb::arg("count"), nb::arg("rows"), nb::arg("threads"), release,
      "Write the row of each query, -1 where absent.");
  m.def(
      "unique_coords",
      [](Address coords, std::int64_t n, int threads) {
        Unique made;
        {
          const nb::gil_scoped_release unlocked;
          made = unique_sites(pointer<const Site>(coords), n, threads);
        }
        return nb::make_tuple(to_tensor(std::move(made.sites), 4), to_tensor(std::move(made.inverse)),
                              to_tensor(std::move(made.counts)), to_tensor(std::move(made.first)));
      },
      nb::arg("coords"), nb::arg("n"), nb::arg("threads"),
      "Return unique sites, inverse, counts and first rows.");
  m.def(
      "output_coords",
      [](Address coords, std::int64_t n, const Ints& offsets, const Ints& stride, const Ints& lower,
         const Ints& upper, bool transposed) {
        Buffer<std::int32_t> made;
        {
          const nb::gil_scoped_release unlocked;
          const std::vector<Offset> low = offsets_of(lower), high = offsets_of(upper);
          made = output_sites(pointer<const Site>(coords), n, offsets_of(offsets),
                              offsets_of(stride)[0], low.empty() ? nullptr : low.data(),
                              high.empty() ? nullptr : high.data(), transposed);
        }
        return to_tensor(std::move(made), 4);
      },
      nb::arg("coords"), nb::arg("n"), nb::arg("offsets"), nb::arg("stride"), nb::arg("lower"),
      nb::arg("upper"), nb::arg("transposed"),
      "Return output sites; OverflowError names a coordinate that does not fit int32.");
  m.def(
      "rulebook",
      [](Address in_coords, std::int64_t n, Address slots, std::int64_t capacity,
         Address out_coords, std::int64_t count, const Ints& offsets, const Ints& stride,
         bool same_sites, int threads) {
        Book book;
        {
          const nb::gil_scoped_release unlocked;
          book = rulebook(pointer<const Site>(in_coords), n, pointer<std::int64_t>(slots), capacity,
                          pointer<const Site>(out_coords), count, offsets_of(offsets),
                          offsets_of(stride)[0], same_sites, threads);
        }
        return to_tensors(std::move(book));
      },
      nb::arg("in_coords"), nb::arg("n"), nb::arg("slots"), nb::arg("capacity"),
      nb::arg("out_coords"), nb::arg("count"), nb::arg("offsets"), nb::arg("stride"),
      nb::arg("same_sites"), nb::arg("threads"), "Return in_rows, out_rows and segments.");
}

}  // namespace sparseconv
