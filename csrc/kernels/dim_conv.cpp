#include "kernels/dim_conv.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "core/dtype.hpp"
#include "core/row_list.hpp"
#include "core/walk.hpp"

namespace sparseconv {
namespace {

// output rows of a part of the weight gradient, at least
constexpr std::int64_t part_rows = 1024;

// Throw std::invalid_argument unless every output site lies on a plane that has a kernel.
void check_planes(const DimShape& shape, int threads) {
  constexpr std::int64_t piece = 1 << 14;
  std::vector<std::int64_t> bad((shape.num_out + piece - 1) / piece, -1);
  std::uint32_t last[3] = {~0u, ~0u, ~0u};
  for (const std::int64_t axis : shape.axes)
    if (axis > 0) last[axis - 1] = std::uint32_t(shape.planes[axis - 1]);
  parallel_ranges(shape.num_out, piece, threads, [&](std::int64_t begin, std::int64_t end) {
    bool fine = true;
    const auto outside = [&](std::int64_t row) {
      const std::int32_t* site = shape.coords + 4 * row;
      bool out = false;
      for (int d = 0; d < 3; ++d) out |= last[d] != ~0u && std::uint32_t(site[d + 1]) >= last[d];
      return out;
    };
    for (std::int64_t row = begin; row < end; ++row) fine &= !outside(row);
    for (std::int64_t row = begin; !fine && row < end; ++row)
      if (outside(row)) {
        bad[begin / piece] = row;
        break;
      }
  });
  for (const std::int64_t row : bad) {
    if (row < 0) continue;
    std::string lattice, site;
    for (int d = 0; d < 3; ++d) {
      lattice += (d ? ", " : "") + std::to_string(shape.planes[d]);
      site += (d ? ", " : "") + std::to_string(shape.coords[4 * row + d + 1]);
    }
    throw std::invalid_argument("coords: expected sites of the lattice this was made for, (" +
                                lattice + "), found sites beyond it, such as (" + site +
                                ") in row " + std::to_string(row));
  }
}

// The kernels as the loops read them.
template <class S, class T>
class Kernels {
 public:
  // without weights for their gradient alone; mirrored: taps are those seen from the other row
  Kernels(const Loops<S, T>& loops, const DimShape& shape, const S* weights, const S* join,
          const S* bias, bool mirrored)
      : taps_(shape.size[0] * shape.size[1] * shape.size[2]) {
    const auto whole = [&](std::int64_t n) {
      return (n + loops.lanes - 1) / loops.lanes * loops.lanes;
    };
    plan.channels = shape.channels;
    plan.wide = whole(shape.channels);
    plan.branches = std::int64_t(shape.axes.size());
    plan.channel = -1;
    plan.banks = 0;
    plan.pad = 0;
    for (const std::int64_t shift : shape.shifts) {
      shifts_.push_back(std::clamp(shift, -plan.wide, plan.wide));
      plan.pad = std::max(plan.pad, whole(std::abs(shifts_.back())));
    }
    plan.shifts = std::int64_t(shifts_.size());
    plan.shift = shifts_.data();
    plan.join = take_rows(loops, join, plan.branches, join_);
    plan.start = take_rows(loops, bias, 1, bias_);
    std::int64_t at = 0;
    for (std::int64_t r = 0; r < plan.branches; ++r) {
      const std::int64_t axis = shape.axes[r] - 1;
      begin.push_back(at);
      if (axis < 0) {
        plan.channel = r;
        if (weights != nullptr) take_channels(loops, weights + at, mirrored);
        at += shape.channels * taps_;
      } else {
        const std::int64_t taps = taps_ / shape.size[axis], planes = shape.planes[axis];
        auto& bank = plan.bank[plan.banks];
        bank = {r, taps, nullptr, shape.coords + axis + 1, nullptr};
        auto& tap = taps_of_[plan.banks];
        for (std::int64_t t = 0; t < taps_; ++t)
          tap.push_back(tap_in_plane(shape, axis, mirrored ? taps_ - 1 - t : t));
        bank.tap = tap.data();
        if (weights != nullptr) {
          banks_[plan.banks] = Buffer<T>(planes * taps * plan.shifts);
          T* to = banks_[plan.banks].data();
          Buffer<T> kernel(taps * plan.shifts);
          for (std::int64_t q = 0; q < planes; ++q) {
            loops.widen(weights + at + q * kernel.size(), kernel.data(), kernel.size());
            for (std::int64_t t = 0; t < taps; ++t)
              for (std::int64_t j = 0; j < plan.shifts; ++j) *to++ = kernel[j * taps + t];
          }
          bank.kernels = banks_[plan.banks].data();
        }
        ++plan.banks;
        at += planes * taps * plan.shifts;
      }
    }
  }
  Kernels(const Kernels&) = delete;
  Kernels& operator=(const Kernels&) = delete;

  std::int64_t taps() const { return taps_; }

  PlaneShape<T> plan;
  std::vector<std::int64_t> begin;  // of every branch, in the weights

 private:
  void take_channels(const Loops<S, T>& loops, const S* weights, bool mirrored) {
    Buffer<T> kernel(taps_);
    by_channel_ = Buffer<T>(taps_ * plan.wide);
    std::fill_n(by_channel_.data(), by_channel_.size(), T(0));
    for (std::int64_t c = 0; c < plan.channels; ++c) {
      loops.widen(weights + c * taps_, kernel.data(), taps_);
      for (std::int64_t t = 0; t < taps_; ++t)
        by_channel_[t * plan.wide + c] = kernel[mirrored ? taps_ - 1 - t : t];
    }
    plan.by_channel = by_channel_.data();
  }

  const T* take_rows(const Loops<S, T>& loops, const S* from, std::int64_t rows, Buffer<T>& held) {
    if (from == nullptr) return nullptr;
    held = Buffer<T>(rows * plan.wide);
    std::fill_n(held.data(), held.size(), T(0));
    for (std::int64_t r = 0; r < rows; ++r)
      loops.widen(from + r * plan.channels, held.data() + r * plan.wide, plan.channels);
    return held.data();
  }

  // Which tap of a plane across the axis a tap is, or -1.
  static std::int32_t tap_in_plane(const DimShape& shape, std::int64_t axis, std::int64_t t) {
    std::int64_t index[3], number = 0;
    for (int d = 2; d >= 0; --d) {
      index[d] = t % shape.size[d];
      t /= shape.size[d];
    }
    if (index[axis] != shape.size[axis] / 2) return -1;
    for (int d = 0; d < 3; ++d)
      if (d != axis) number = number * shape.size[d] + index[d];
    return std::int32_t(number);
  }

  std::int64_t taps_;
  std::vector<std::int64_t> shifts_;
  std::vector<std::int32_t> taps_of_[3];
  Buffer<T> by_channel_, banks_[3], join_, bias_;
};

// Checked pairs by output row.
class Listed {
 public:
  Listed(const Pairs& pairs, bool ordered, std::int64_t rows, int threads)
      : held_(row_list_size(rows, pairs.count)), rows(rows), list(held_.data(), rows) {
    build_row_list(pairs, ordered, rows, pairs.count, held_.data(), threads);
  }

 private:
  Buffer<std::int64_t> held_;

 public:
  const std::int64_t rows;
  const RowList list;
};

// Sums of listed rows, made in blocks by make(walk, first, task, scratch, lines), `width` numbers each
// of which the first `kept` are written. `steady`: tasks do not depend on the threads.
constexpr std::int64_t steady_rows = 512;
template <class S, class T, class Make>
void write_rows(const Loops<S, T>& loops, const Listed& listed, bool steady, std::int64_t size,
                std::int64_t width, std::int64_t kept, S* to, int threads, Make&& make) {
  const std::int64_t rows = listed.rows, block = block_rows(width * std::int64_t(sizeof(T)));
  const std::int64_t bytes = rows * kept * std::int64_t(sizeof(S));
  const bool past = past_caches(bytes);
  prefer_large_pages(to, bytes);
  const std::int64_t of_task = steady ? steady_rows : task_rows(true, rows, block, threads);
  parallel_ranges(rows, of_task, threads, [&](std::int64_t begin, std::int64_t end) {
    Buffer<T> scratch(size + block * width);
    T* lines = scratch.data() + size;
    for (std::int64_t first = begin; first < end; first += block) {
      const RowWalk walk = listed.list.walk(first, std::min(block, end - first));
      make(walk, first, begin / of_task, scratch.data(), lines);
      loops.put_rows(lines, width, walk.rows, kept, to + first * kept, past);
    }
  });
}

}  // namespace

void dim_conv(int dtype, const DimShape& shape, const void* x, const void* weights,
              const void* join, const void* bias, const Pairs& pairs, void* y, int threads) {
  const bool ordered = check_pairs(pairs, shape.num_in, shape.num_out, threads);
  check_planes(shape, threads);
  if (shape.channels == 0) return;
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    const Kernels<S, T> kernels(loops, shape, static_cast<const S*>(weights),
                                static_cast<const S*>(join), static_cast<const S*>(bias), false);
    const auto& plan = kernels.plan;
    const std::int64_t slots = (plan.channel >= 0) + plan.banks * plan.shifts;
    const std::int64_t parts = join == nullptr ? plan.branches : 1;
    const Listed listed(pairs, ordered, shape.num_out, threads);
    write_rows(loops, listed, false,
               batch_pairs * plan.wide + plan.pad + slots * (plan.wide + plan.pad),
               parts * plan.wide, parts * plan.channels, static_cast<S*>(y), threads,
               [&](const RowWalk& walk, std::int64_t first, std::int64_t, T* scratch, T* lines) {
                 loops.sum_planes(static_cast<const S*>(x), plan, walk, first, scratch, lines);
               });
  });
}

void dim_conv_grad(int dtype, const DimShape& shape, const void* x, const void* g,
                   const void* weights, const void* join, const Pairs& pairs, bool symmetric,
                   void* to, void* to_join, int threads) {
  // as the result sees them: the rows that read a row are its inputs
  const Pairs seen = symmetric
                         ? pairs
                         : Pairs{pairs.out, pairs.in, pairs.segments, pairs.taps, pairs.count};
  const bool ordered = check_pairs(seen, shape.num_out, shape.num_in, threads, !symmetric);
  check_planes(shape, threads);
  if (shape.channels == 0) return;
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    const Kernels<S, T> kernels(loops, shape, static_cast<const S*>(weights),
                                static_cast<const S*>(join), static_cast<const S*>(nullptr),
                                symmetric);
    const auto& plan = kernels.plan;
    const std::int64_t apart = plan.wide + plan.pad, own = plan.channel >= 0;
    const Listed listed(seen, ordered, shape.num_in, threads);
    if (join == nullptr)
      return write_rows(loops, listed, false,
                        plan.branches * plan.wide + plan.pad + (plan.shifts + own) * apart,
                        plan.wide, plan.channels, static_cast<S*>(to), threads,
                        [&](const RowWalk& walk, std::int64_t, std::int64_t, T* scratch, T* lines) {
                          loops.sum_planes_back(static_cast<const S*>(g), plan, walk, scratch,
                                                lines);
                        });
    const std::int64_t size = plan.branches * plan.wide;
    const std::int64_t tasks =
        std::max<std::int64_t>((shape.num_in + steady_rows - 1) / steady_rows, 1);
    Buffer<T> sums(tasks * size);
    std::fill_n(sums.data(), sums.size(), T(0));
    const std::int64_t slots = own + plan.banks * plan.shifts;
    write_rows(loops, listed, true,
               batch_pairs * plan.wide + plan.pad + (1 + plan.shifts + slots) * apart, plan.wide,
               plan.channels, static_cast<S*>(to), threads,
               [&](const RowWalk& walk, std::int64_t first, std::int64_t task, T* scratch,
                   T* lines) {
                 loops.sum_joined_back(static_cast<const S*>(g), static_cast<const S*>(x), plan,
                                       walk, first, scratch, lines, sums.data() + task * size);
               });
    for (std::int64_t task = 1; task < tasks; ++task)
      for (std::int64_t i = 0; i < size; ++i) sums[i] += sums[task * size + i];
    for (std::int64_t r = 0; r < plan.branches; ++r)
      loops.narrow(sums.data() + r * plan.wide, static_cast<S*>(to_join) + r * plan.channels,
                   plan.channels);
  });
}

void dim_conv_grad_weight(int dtype, const DimShape& shape, const void* x, const void* g,
                          const void* join, const Pairs& pairs, void* to, int threads) {
  const bool ordered = check_pairs(pairs, shape.num_in, shape.num_out, threads);
  check_planes(shape, threads);
  visit_dtype(dtype, [&](const auto& loops, auto s, auto sum) {
    using S = decltype(s);
    using T = decltype(sum);
    const S* none = nullptr;
    const Kernels<S, T> kernels(loops, shape, none, static_cast<const S*>(join), none, false);
    const auto& plan = kernels.plan;
    const std::int64_t taps = kernels.taps(), lanes = loops.lanes;
    const std::int64_t folded = std::min<std::int64_t>(lanes, 4), numbers = lanes / folded;
    const std::int64_t groups = (plan.shifts + folded - 1) / folded;
    // where the sums of the channels' kernels end, and those of every bank
    std::int64_t ends[4] = {plan.channel >= 0 ? taps * plan.wide : 0};
    for (std::int64_t b = 0; b < plan.banks; ++b) {
      const std::int64_t planes = shape.planes[shape.axes[plan.bank[b].branch] - 1];
      ends[b + 1] = ends[b] + planes * plan.bank[b].taps * groups * lanes;
    }
    const std::int64_t size = ends[plan.banks];
    const std::int64_t most = std::max<std::int64_t>(
        shape.num_out * shape.channels / 2 / std::max<std::int64_t>(size, 1), 1);
    // whole blocks of 64 rows, as many parts as memory and rows allow
    std::int64_t rows = std::max((shape.num_out + most - 1) / most, part_rows);
    rows = (rows + 63) / 64 * 64;
    const std::int64_t parts = std::max<std::int64_t>((shape.num_out + rows - 1) / rows, 1);
    Buffer<T> sums(parts * size);
    parallel_ranges(sums.size(), 1 << 16, threads, [&](std::int64_t from, std::int64_t end) {
      std::fill_n(sums.data() + from, end - from, T(0));
    });
    const Listed listed(pairs, ordered, shape.num_out, threads);
    if (shape.channels > 0)
      parallel_ranges(shape.num_out, rows, threads, [&](std::int64_t first, std::int64_t end) {
        Buffer<T> scratch(2 * plan.branches * plan.wide + batch_pairs * plan.wide + plan.pad +
                          plan.branches * plan.pad + plan.banks * plan.shifts * plan.wide);
        T* own = sums.data() + first / rows * size;
        T* const banks[] = {own + ends[0], own + ends[1], own + ends[2]};
        loops.multiply_planes(static_cast<const S*>(x), static_cast<const S*>(g), plan,
                              listed.list.walk(first, end - first), first, scratch.data(), own,
                              banks);
      });
    parallel_ranges(size, 1 << 13, threads, [&](std::int64_t from, std::int64_t end) {
      for (std::int64_t part = 1; part < parts; ++part)
        for (std::int64_t i = from; i < end; ++i) sums[i] += sums[part * size + i];
    });
    const auto put = [&](T value, std::int64_t at) {
      loops.narrow(&value, static_cast<S*>(to) + at, 1);
    };
    if (plan.channel >= 0)
      for (std::int64_t c = 0; c < plan.channels; ++c)
        for (std::int64_t t = 0; t < taps; ++t)
          put(sums[t * plan.wide + c], kernels.begin[plan.channel] + c * taps + t);
    for (std::int64_t b = 0; b < plan.banks; ++b) {
      const auto& bank = plan.bank[b];
      const std::int64_t planes = shape.planes[shape.axes[bank.branch] - 1];
      for (std::int64_t q = 0; q < planes; ++q)
        for (std::int64_t t = 0; t < bank.taps; ++t)
          for (std::int64_t j = 0; j < plan.shifts; ++j) {
            const T* from =
                sums.data() + ends[b] + (q * bank.taps + t) * groups * lanes + j * numbers;
            T total = 0;
            for (std::int64_t i = 0; i < numbers; ++i) total += from[i];
            put(total, kernels.begin[bank.branch] + (q * plan.shifts + j) * bank.taps + t);
          }
    }
  });
}

}  // namespace sparseconv
