#include <numeric>

#include "core/dtype.hpp"
#include "kernels/conv.hpp"

namespace sparseconv {
namespace {

// Part of the weight of one tap: channels [first_c, +channels) of a group times output columns.
struct Item {
  std::int64_t tap, group, first_c, channels, first_d, width;
};

// Cut n in the fewest equal parts of at most `limit`.
std::int64_t part_size(std::int64_t n, std::int64_t limit) {
  const std::int64_t parts = (n + limit - 1) / limit;
  return parts > 0 ? (n + parts - 1) / parts : 1;
}

template <class S, class T>
struct GradWeight {
  const Loops<S, T>& loops;
  const ConvShape& shape;
  const S* x;
  const S* g;
  const Pairs& pairs;
  S* to;  // [taps, C / G, D]
  int threads;

  void depthwise() const {
    constexpr std::int64_t limit = 64;
    const std::int64_t blocks = (shape.channels + limit - 1) / limit;
    parallel_tasks(pairs.taps * blocks, threads, [&](std::int64_t task) {
      const std::int64_t t = task / blocks, first = task % blocks * limit;
      const std::int64_t channels = std::min(limit, shape.channels - first);
      const std::int64_t begin = pairs.segments[t];
      T sums[limit] = {};
      loops.multiply_rows(x + first, shape.channels, g + first, shape.width, channels,
                          pairs.in + begin, pairs.out + begin, pairs.segments[t + 1] - begin, sums);
      loops.narrow(sums, to + t * shape.width + first, channels);
    });
  }

  void general() const {
    const std::int64_t per_group = shape.channels / shape.groups;
    const std::int64_t group_width = shape.width / shape.groups;
    const std::int64_t step_d = part_size(group_width, outer_limit);
    std::int64_t step_c = part_size(per_group, outer_limit);
    // one tap may hold most pairs: cut channels finer, which changes no element
    while (threads > 1 && step_c > 12 &&
           pairs.taps * shape.groups * (per_group / step_c) * (group_width / step_d) < 8 * threads)
      step_c = (step_c + 1) / 2;
    std::vector<Item> items;
    for (std::int64_t t = 0; t < pairs.taps; ++t)
      for (std::int64_t group = 0; group < shape.groups; ++group)
        for (std::int64_t c = 0; c < per_group; c += step_c)
          for (std::int64_t d = 0; d < group_width; d += step_d)
            items.push_back({t, group, c, std::min(step_c, per_group - c), group * group_width + d,
                             std::min(step_d, group_width - d)});
    // largest first, so that no thread is left with a large one at the end
    std::stable_sort(items.begin(), items.end(), [&](const Item& a, const Item& b) {
      return pairs.segments[a.tap + 1] - pairs.segments[a.tap] >
             pairs.segments[b.tap + 1] - pairs.segments[b.tap];
    });
    parallel_tasks(std::int64_t(items.size()), threads, [&](std::int64_t i) {
      const Item& item = items[i];
      const std::int64_t wide = loops.padded(item.width);
      const std::int64_t begin = pairs.segments[item.tap];
      alignas(64) T sums[outer_limit * outer_limit];
      std::fill_n(sums, item.channels * wide, T(0));
      loops.gather_outer(x + item.group * per_group + item.first_c, shape.channels, item.channels,
                         g + item.first_d, shape.width, item.width, pairs.in + begin,
                         pairs.out + begin, pairs.segments[item.tap + 1] - begin, sums);
      for (std::int64_t c = 0; c < item.channels; ++c)
        loops.narrow(sums + c * wide,
                     to + (item.tap * per_group + item.first_c + c) * shape.width + item.first_d,
                     item.width);
    });
  }

  void run() const {
    check_pairs(pairs, shape.num_in, shape.num_out, threads);
    if (shape.groups > 1 && shape.channels == shape.groups && shape.width == shape.groups)
      depthwise();
    else
      general();
  }
};

}  // namespace

void conv_grad_weight(int dtype, const ConvShape& shape, const void* x, const void* g,
                      const Pairs& pairs, void* grad_weight, int threads) {
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    GradWeight<S, T>{loops,
                     shape,
                     static_cast<const S*>(x),
                     static_cast<const S*>(g),
                     pairs,
                     static_cast<S*>(grad_weight),
                     threads}
        .run();
  });
}

}  // namespace sparseconv
