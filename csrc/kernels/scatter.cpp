#include "kernels/scatter.hpp"

#include "core/zsort.hpp"

namespace sparseconv {
namespace {

// more chunks than this serve no machine, and each touches the neighbours of its rows too
constexpr std::int64_t usual_chunks = 16;
constexpr std::int64_t least_rows = 256;

}  // namespace

Chunks::Touched Chunks::touched_by(const Positions& where, const std::int32_t* order,
                                   std::int64_t first, std::int64_t last) {
  const BlockIndex& index = where.index;
  const std::int64_t n = where.cells();
  std::vector<bool> seen(std::size_t(index.size()));
  NearBlocks near(index);
  const auto find = [&](const Site& at) -> const NearBlocks::Found& {
    return near.find(at, [&](std::int32_t block) {
      seen[std::size_t(block)] = true;
      return static_cast<const std::int32_t*>(nullptr);
    });
  };
  Buffer<std::int32_t> place(n);
  Buffer<float> fraction(3 * n);
  Buffer<double> room(3 * n);
  Site middle, before{};
  bool any = false;
  for (std::int64_t i = first; i < last; ++i) {
    const std::int64_t row = order == nullptr ? i : order[i];
    if (order != nullptr && i + 2 < last) fetch(where.of(order[i + 2]), where.bytes());
    bool all = false;
    if (Window::of(where, row, middle)) {
      if (!any || !(middle == before))
        Window::blocks(middle, [&](const Site& at, int) { find(at); });
      any = true;
      before = middle;
      // a window reaches a block beyond that of its base
      constexpr int reach = 1 << block_shift;
      all = (where.grid != nullptr && where.within(row, reach, room.data())) ||
            Window::cells(where, row, middle, room.data(), place.data(), fraction.data());
    } else {
      std::fill_n(place.data(), n, -1);
    }
    if (all) continue;
    for (std::int64_t k = 0; k < n; ++k) {
      std::int32_t at[3];
      if (place[k] != -1 || !where.cell<float>(row, k, at, static_cast<float*>(nullptr))) continue;
      NearBlocks::about({where.base(row).b, at[0], at[1], at[2]}, find,
                        [](int, const NearBlocks::Found&) {});
    }
  }
  Chunks::Touched made;
  for (std::int64_t b = 0; b < index.size(); ++b)
    if (seen[std::size_t(b)]) {
      made.blocks.push_back(std::int32_t(b));
      made.begin.push_back(std::int32_t(made.sites));
      made.sites += index.end(b) - index.block(b).begin;
    }
  return made;
}

Chunks::Chunks(const Positions& where, const std::int32_t* order, std::int64_t least,
               std::int64_t most, int threads, Find find)
    : where_(where), order_(order), threads_(threads) {
  rows_ = std::min((where.rows + usual_chunks - 1) / usual_chunks, most);
  rows_ = std::max({rows_, least, least_rows});
  count_ = (where.rows + rows_ - 1) / rows_;
  std::int64_t sites = find == Find::now ? 0 : where.index.sites();
  if (find == Find::now) {
    touched_.resize(std::size_t(count_));
    parallel_tasks(count_, threads, [&](std::int64_t chunk) {
      touched_[std::size_t(chunk)] = touched_by(where, order, first(chunk), last(chunk));
    });
    for (const Touched& one : touched_) sites = std::max(sites, one.sites);
  }
  numbers_ = Buffer<std::int32_t>(sites);
  for (std::int64_t i = 0; i < sites; ++i) numbers_[i] = std::int32_t(i);
}

Buffer<std::int32_t> row_order(const Positions& where, int threads) {
  Buffer<Site> middles(where.rows);
  parallel_ranges(where.rows, 1 << 12, threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      if (!Window::block(where, row, middles[row])) middles[row] = {where.base(row).b, 0, 0, 0};
  });
  const ZKey key(box_of(middles.data(), where.rows));
  const auto sort = [&](auto zero) {
    using K = decltype(zero);
    Buffer<K> keys(where.rows);
    Buffer<std::int32_t> rows(where.rows);
    const ZSorted<K> sorted(key, middles.data(), where.rows, keys.data(), rows.data(), threads);
    return sorted.moved() ? std::move(rows) : Buffer<std::int32_t>();
  };
  if (!key.fits()) return {};
  return key.bits() <= 32 ? sort(std::uint32_t(0)) : sort(std::uint64_t(0));
}

}  // namespace sparseconv
