#include "kernels/pyramid.hpp"

#include "bindings/bind.hpp"

namespace sparseconv {
namespace {

// Append in_rows, out_rows and segments.
void append_book(nb::list& results, Book&& book) {
  for (nb::handle part : to_tensors(std::move(book))) results.append(part);
}

}  // namespace

void bind_pyramid(nb::module_& m) {
  m.def(
      "site_order",
      [](Address coords, std::int64_t n, int threads) {
        Buffer<std::int64_t> made;
        {
          const nb::gil_scoped_release unlocked;
          made = site_order(pointer<const Site>(coords), n, threads);
        }
        return to_tensor(std::move(made));
      },
      nb::arg("coords"), nb::arg("n"), nb::arg("threads"), "Return the order of sites.");
  m.def(
      "pyramid",
      [](Address coords, std::int64_t n, Address order, std::int64_t words, bool neighbours,
         int threads) {
        Buffer<std::int64_t> made;
        Book cube;
        {
          const nb::gil_scoped_release unlocked;
          made = make_pyramid(pointer<const Site>(coords), n, pointer<const std::int64_t>(order),
                              words, threads);
          neighbours = neighbours && pyramid_holds(made.data(), made.size(), 0, n, 0);
          if (neighbours) cube = cube_book(made.data(), 0, threads);
        }
        nb::list results;
        results.append(to_tensor(std::move(made)));
        if (neighbours) append_book(results, std::move(cube));
        return results;
      },
      nb::arg("coords"), nb::arg("n"), nb::arg("order"), nb::arg("words"), nb::arg("neighbours"),
      nb::arg("threads"),
      "Return the pyramid of sites and, if asked for and where it holds them, what cube_rulebook "
      "does.");
  m.def(
      "cube_rulebook",
      [](Address pyramid, std::int64_t words, std::int64_t depth, std::int64_t rows,
         int threads) -> nb::object {
        const std::int64_t* block = pointer<const std::int64_t>(pyramid);
        if (!pyramid_holds(block, words, depth, rows, 0)) return nb::none();
        Book book;
        {
          const nb::gil_scoped_release unlocked;
          book = cube_book(block, depth, threads);
        }
        return to_tensors(std::move(book));
      },
      nb::arg("pyramid"), nb::arg("words"), nb::arg("depth"), nb::arg("rows"), nb::arg("threads"),
      "Return in_rows, out_rows and segments of the 27 taps on a level of so many rows; None where "
      "the pyramid does not hold it.");
  m.def(
      "halve",
      [](Address pyramid, std::int64_t words, std::int64_t depth, Address coords, std::int64_t rows,
         bool neighbours, int threads) -> nb::object {
        const std::int64_t* block = pointer<const std::int64_t>(pyramid);
        if (!pyramid_holds(block, words, depth, rows, 1)) return nb::none();
        Halved made;
        Book cube;
        {
          const nb::gil_scoped_release unlocked;
          made = halve(block, depth, pointer<const Site>(coords), threads);
          if (neighbours) cube = cube_book(block, depth + 1, threads);
        }
        nb::list results;
        results.append(to_tensor(std::move(made.sites), 4));
        append_book(results, std::move(made.book));
        if (neighbours) append_book(results, std::move(cube));
        return results;
      },
      nb::arg("pyramid"), nb::arg("words"), nb::arg("depth"), nb::arg("coords"), nb::arg("rows"),
      nb::arg("neighbours"), nb::arg("threads"),
      "Return the sites of half the resolution, in_rows, out_rows and segments of the 8 taps and, if "
      "asked for, what cube_rulebook does for those sites; None where the pyramid does not hold the "
      "level and the one above.");
}

}  // namespace sparseconv
