#include "kernels/merge.hpp"

#include "bindings/bind.hpp"

namespace sparseconv {

void bind_merge(nb::module_& m) {
  m.def(
      "join_rows",
      [](const std::vector<Address>& rows, const std::vector<std::int64_t>& counts,
         Address segments, std::int64_t taps, const std::vector<std::int64_t>& starts,
         Address joined, int threads) {
        std::vector<Part> parts(rows.size());
        for (std::size_t i = 0; i < rows.size(); ++i)
          parts[i] = {pointer<const std::int32_t>(rows[i]), counts.at(i),
                      pointer<const std::int64_t>(segments) + std::int64_t(i) * (taps + 1),
                      std::int32_t(starts.at(i))};
        join_rows(parts, taps, pointer<std::int32_t>(joined), threads);
      },
      nb::arg("rows"), nb::arg("counts"), nb::arg("segments"), nb::arg("taps"), nb::arg("starts"),
      nb::arg("joined"), nb::arg("threads"), nb::call_guard<nb::gil_scoped_release>(),
      "Write the rows of all parts, tap by tap, starts added.");
}

}  // namespace sparseconv
