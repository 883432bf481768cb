#include "bindings/bind.hpp"
#include "kernels/blocks.hpp"
#include "kernels/deform_kernel.hpp"
#include "kernels/moved_kernel.hpp"
#include "kernels/moved_sum.hpp"
#include "kernels/sample.hpp"

namespace sparseconv {
namespace {

// The words of a block index, checked.
const std::int32_t* checked(Address blocks, std::int64_t words, std::int64_t num_in) {
  const auto* from = pointer<const std::int32_t>(blocks);
  if (!BlockIndex::fits(from, words, num_in))
    throw std::invalid_argument("blocks: expected what block_index returned for these " +
                                std::to_string(num_in) + " coords, found another");
  return from;
}

// Where samples are read, checked but for the words of the index, which are opaque.
struct Place {
  Positions where;

  Place(Address blocks, std::int64_t words, std::int64_t num_in, Address items, Address positions,
        bool wide, std::int64_t rows, std::int64_t taps, std::int64_t groups, Address grid,
        std::int64_t pitch)
      : where{BlockIndex(checked(blocks, words, num_in)),
              pointer<const std::int32_t>(items),
              pointer<const void>(positions),
              wide,
              rows,
              taps,
              groups,
              pointer<const void>(grid),
              pitch} {}
};

// What predicts the taps of rows.
struct Taps {
  BlockIndex index;
  MovedShape shape;
  Heads heads;
  const Site* sites;
  std::int64_t rows;

  Taps(Address blocks, std::int64_t words, std::int64_t num_in, Address sites, std::int64_t rows,
       std::int64_t channels, std::int64_t depth, std::int64_t taps, std::int64_t groups,
       bool softmax, bool renormalize, Address weight, Address bias, Address grid)
      : index(checked(blocks, words, num_in)),
        shape{channels, depth, taps, groups, softmax, renormalize},
        heads{pointer<const void>(weight), pointer<const void>(bias), pointer<const void>(grid)},
        sites(pointer<const Site>(sites)),
        rows(rows) {}
};

}  // namespace

void bind_sample(nb::module_& m) {
  m.def(
      "block_index",
      [](Address coords, std::int64_t n, int threads) {
        Buffer<std::int32_t> made;
        {
          const nb::gil_scoped_release unlocked;
          made = make_blocks(pointer<const Site>(coords), n, threads);
        }
        return to_tensor(std::move(made));
      },
      nb::arg("coords"), nb::arg("n"), nb::arg("threads"), "Return the block index of sites.");

  nb::class_<Place>(m, "Positions", "Positions [rows, taps, groups, 3] of items [rows] in a block index; or, with a grid, "
                    "heads [rows, pitch] of sites [rows, 4].")
      .def(nb::init<Address, std::int64_t, std::int64_t, Address, Address, bool, std::int64_t,
                    std::int64_t, std::int64_t, Address, std::int64_t>(),
           nb::arg("blocks"), nb::arg("words"), nb::arg("num_in"), nb::arg("items"),
           nb::arg("positions"), nb::arg("wide"), nb::arg("rows"), nb::arg("taps"),
           nb::arg("groups"), nb::arg("grid") = 0, nb::arg("pitch") = 0);

  const nb::call_guard<nb::gil_scoped_release> release;
  m.def(
      "sample_sum",
      [](int dtype, const Place& place, std::int64_t channels, Address x, Address weights,
         bool normalize, Address y, int threads) {
        sample_sum(dtype, place.where, channels, pointer<void>(x), pointer<void>(weights),
                   normalize, pointer<void>(y), threads);
      },
      nb::arg("dtype"), nb::arg("place"), nb::arg("channels"), nb::arg("x"), nb::arg("weights"),
      nb::arg("normalize"), nb::arg("y"), nb::arg("threads"), release,
      "Write y; weights 0 for ones.");
  m.def(
      "sample_sum_grad",
      [](int dtype, const Place& place, std::int64_t channels, Address x, Address weights,
         bool normalize, Address g, Address grad_x, Address grad_positions, Address grad_weights,
         int threads) {
        sample_sum_grad(dtype, place.where, channels, pointer<void>(x), pointer<void>(weights),
                        normalize, pointer<void>(g), pointer<void>(grad_x),
                        pointer<void>(grad_positions), pointer<void>(grad_weights), threads);
      },
      nb::arg("dtype"), nb::arg("place"), nb::arg("channels"), nb::arg("x"), nb::arg("weights"),
      nb::arg("normalize"), nb::arg("g"), nb::arg("grad_x"), nb::arg("grad_positions"),
      nb::arg("grad_weights"), nb::arg("threads"), release,
      "Write the gradients; that of x alone where grad_positions is 0.");
  m.def(
      "deform_conv",
      [](int dtype, const Place& place, std::int64_t channels, std::int64_t width,
         std::int64_t groups, bool squash, Address x, Address weight, Address bias, Address y,
         int threads) {
        deform_conv(dtype, place.where, {channels, width, groups, squash}, pointer<void>(x),
                    pointer<void>(weight), pointer<void>(bias), pointer<void>(y), threads);
      },
      nb::arg("dtype"), nb::arg("place"), nb::arg("channels"), nb::arg("width"), nb::arg("groups"),
      nb::arg("squash"), nb::arg("x"), nb::arg("weight"), nb::arg("bias"), nb::arg("y"),
      nb::arg("threads"), release, "Write y; bias 0 for none.");
  m.def(
      "deform_conv_grad",
      [](int dtype, const Place& place, std::int64_t channels, std::int64_t width,
         std::int64_t groups, bool squash, Address x, Address weight, Address g, Address grad_x,
         Address grad_heads, Address grad_weight, int threads) {
        deform_conv_grad(dtype, place.where, {channels, width, groups, squash}, pointer<void>(x),
                         pointer<void>(weight), pointer<void>(g), pointer<void>(grad_x),
                         pointer<void>(grad_heads), pointer<void>(grad_weight), threads);
      },
      nb::arg("dtype"), nb::arg("place"), nb::arg("channels"), nb::arg("width"), nb::arg("groups"),
      nb::arg("squash"), nb::arg("x"), nb::arg("weight"), nb::arg("g"), nb::arg("grad_x"),
      nb::arg("grad_heads"), nb::arg("grad_weight"), nb::arg("threads"), release,
      "Write the gradients.");

  nb::class_<Taps>(m, "MovedTaps", "Rows [rows, depth] that predict taps about sites in a block index.")
      .def(nb::init<Address, std::int64_t, std::int64_t, Address, std::int64_t, std::int64_t,
                    std::int64_t, std::int64_t, std::int64_t, bool, bool, Address, Address,
                    Address>(),
           nb::arg("blocks"), nb::arg("words"), nb::arg("num_in"), nb::arg("sites"),
           nb::arg("rows"), nb::arg("channels"), nb::arg("depth"), nb::arg("taps"),
           nb::arg("groups"), nb::arg("softmax"), nb::arg("renormalize"), nb::arg("weight"),
           nb::arg("bias"), nb::arg("grid"));
  m.def(
      "moved_sum",
      [](int dtype, const Taps& taps, Address x, Address query, Address y, int threads) {
        moved_sum(dtype, taps.index, taps.shape, taps.heads, taps.sites, taps.rows,
                  pointer<void>(x), pointer<void>(query), pointer<void>(y), threads);
      },
      nb::arg("dtype"), nb::arg("taps"), nb::arg("x"), nb::arg("query"), nb::arg("y"),
      nb::arg("threads"), release, "Write y.");
  m.def(
      "moved_sum_grad",
      [](int dtype, const Taps& taps, Address x, Address query, Address g, Address grad_x,
         Address grad_query, Address grad_weight, Address grad_bias, int threads) {
        moved_sum_grad(dtype, taps.index, taps.shape, taps.heads, taps.sites, taps.rows,
                       pointer<void>(x), pointer<void>(query), pointer<void>(g),
                       pointer<void>(grad_x), pointer<void>(grad_query),
                       pointer<void>(grad_weight), pointer<void>(grad_bias), threads);
      },
      nb::arg("dtype"), nb::arg("taps"), nb::arg("x"), nb::arg("query"), nb::arg("g"),
      nb::arg("grad_x"), nb::arg("grad_query"), nb::arg("grad_weight"), nb::arg("grad_bias"),
      nb::arg("threads"), release, "Write the gradients.");

  nb::class_<MovedKernel>(m, "MovedKernel", "A kernel [cells, channels] and where its taps begin.")
      .def(
          "__init__",
          [](MovedKernel* made, Address kernel, Address start, std::int64_t channels,
             std::int64_t groups, std::int32_t x, std::int32_t y, std::int32_t z) {
            new (made) MovedKernel{pointer<const void>(kernel), pointer<const void>(start),
                                   channels, groups, {x, y, z}};
          },
          nb::arg("kernel"), nb::arg("start"), nb::arg("channels"), nb::arg("groups"),
          nb::arg("x"), nb::arg("y"), nb::arg("z"));
  m.def(
      "moved_kernel",
      [](int dtype, const Place& place, const MovedKernel& by, Address x, Address y, int threads) {
        moved_kernel(dtype, place.where, by, pointer<void>(x), pointer<void>(y), threads);
      },
      nb::arg("dtype"), nb::arg("place"), nb::arg("by"), nb::arg("x"), nb::arg("y"),
      nb::arg("threads"), release, "Write y.");
  m.def(
      "moved_kernel_grad",
      [](int dtype, const Place& place, const MovedKernel& by, Address x, Address g,
         Address grad_x, Address grad_heads, Address grad_kernel, int threads) {
        moved_kernel_grad(dtype, place.where, by, pointer<void>(x), pointer<void>(g),
                          pointer<void>(grad_x), pointer<void>(grad_heads),
                          pointer<void>(grad_kernel), threads);
      },
      nb::arg("dtype"), nb::arg("place"), nb::arg("by"), nb::arg("x"), nb::arg("g"),
      nb::arg("grad_x"), nb::arg("grad_heads"), nb::arg("grad_kernel"), nb::arg("threads"),
      release, "Write the gradients.");

  nb::class_<KernelPlaces>(m, "KernelPlaces", "Places [rows, taps, groups, 3] in a grid of cells.")
      .def(
          "__init__",
          [](KernelPlaces* made, Address values, bool wide, std::int64_t rows, std::int64_t taps,
             std::int64_t groups, std::int32_t x, std::int32_t y, std::int32_t z) {
            new (made) KernelPlaces{pointer<const void>(values), wide, rows, taps, groups, {x, y, z}};
          },
          nb::arg("values"), nb::arg("wide"), nb::arg("rows"), nb::arg("taps"), nb::arg("groups"),
          nb::arg("x"), nb::arg("y"), nb::arg("z"));
  m.def(
      "deform_kernel",
      [](int dtype, std::int64_t num_in, std::int64_t channels, const KernelPlaces& places,
         Address x, Address kernel, Address in, Address out, Address segments, std::int64_t taps,
         std::int64_t count, bool transposed, Address y, int threads) {
        deform_kernel(dtype, num_in, channels, places, pointer<void>(x), pointer<void>(kernel),
                      pairs_of(in, out, segments, taps, count), transposed, pointer<void>(y),
                      threads);
      },
      nb::arg("dtype"), nb::arg("num_in"), nb::arg("channels"), nb::arg("places"), nb::arg("x"),
      nb::arg("kernel"), nb::arg("in"), nb::arg("out"), nb::arg("segments"), nb::arg("taps"),
      nb::arg("count"), nb::arg("transposed"), nb::arg("y"), nb::arg("threads"), release,
      "Write the sums.");
  m.def(
      "deform_kernel_grad",
      [](int dtype, std::int64_t num_in, std::int64_t channels, const KernelPlaces& places,
         Address x, Address kernel, Address in, Address out, Address segments, std::int64_t taps,
         std::int64_t count, Address g, Address grad_kernel, Address grad_places, int threads) {
        deform_kernel_grad(dtype, num_in, channels, places, pointer<void>(x), pointer<void>(kernel),
                           pairs_of(in, out, segments, taps, count), pointer<void>(g),
                           pointer<void>(grad_kernel), pointer<void>(grad_places), threads);
      },
      nb::arg("dtype"), nb::arg("num_in"), nb::arg("channels"), nb::arg("places"), nb::arg("x"),
      nb::arg("kernel"), nb::arg("in"), nb::arg("out"), nb::arg("segments"), nb::arg("taps"),
      nb::arg("count"), nb::arg("g"), nb::arg("grad_kernel"), nb::arg("grad_places"),
      nb::arg("threads"), release, "Write the gradients of kernel and places.");
}

}  // namespace sparseconv
