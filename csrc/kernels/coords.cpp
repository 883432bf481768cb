#include "kernels/coords.hpp"

#include <numeric>

#include "core/sort.hpp"
#include "core/zsort.hpp"

namespace sparseconv {
namespace {

// candidates listed before repeats are dropped, beyond four a site
constexpr std::int64_t most_listed = 1 << 20;

void put(std::int32_t* to, const Site& site) { std::memcpy(to, &site, sizeof site); }

// Distinct keys of a long list: whenever the list is full it is sorted and repeats are dropped.
// Faster than a hash set, which misses the cache at every key.
class DistinctKeys {
 public:
  DistinctKeys(std::int64_t expected, std::uint64_t most) : most_(most) {
    make(std::max<std::int64_t>(expected, 1 << 12));
  }

  void add(std::int64_t key) {
    if (size_ == keys_.size()) {
      squeeze();
      if (2 * size_ > keys_.size()) grow();
    }
    keys_[size_++] = key;
  }

  Buffer<std::int64_t> take() {
    squeeze();
    keys_.shrink(size_);
    return std::move(keys_);
  }

 private:
  void make(std::int64_t capacity) {
    keys_ = Buffer<std::int64_t>(capacity);
    spare_ = Buffer<std::int64_t>(capacity);
  }
  void grow() {
    const Buffer<std::int64_t> old = std::move(keys_);
    make(2 * old.size());
    std::copy_n(old.data(), size_, keys_.data());
  }
  void squeeze() {
    const std::int64_t* sorted = radix_sort(keys_.data(), spare_.data(), size_, most_);
    std::int64_t kept = 0, last = -1;  // no key is negative
    for (std::int64_t i = 0; i < size_; ++i) {
      const std::int64_t key = sorted[i];
      keys_[kept] = key;
      kept += key != last;
      last = key;
    }
    size_ = kept;
  }

  Buffer<std::int64_t> keys_, spare_;
  std::uint64_t most_;
  std::int64_t size_ = 0;
};

// Taps by the residue of their offset modulo the stride: only those of a site's own residue divide.
class Residues {
 public:
  Residues(const std::vector<Offset>& offsets, const Offset& stride) : stride_(stride) {
    for (const Offset& offset : offsets) {
      Tap tap;
      for (int a = 0; a < 3; ++a) split(offset.v[a], stride.v[a], tap.whole.v[a], tap.rest.v[a]);
      taps_.push_back(tap);
    }
    const std::int64_t many = 4096;
    classes_ = stride.v[0] > many || stride.v[1] > many || stride.v[2] > many
                   ? many + 1
                   : stride.v[0] * stride.v[1] * stride.v[2];
    if (classes_ > many) return;
    by_class_.resize(std::size_t(classes_));
    for (const Tap& tap : taps_) by_class_[std::size_t(number(tap.rest))].push_back(tap.whole);
  }

  // Call visit(x, y, z) with every o such that o * stride + offset is the site.
  template <class Visit>
  void visit(const Site& site, Visit&& visit) const {
    const std::int64_t at[3] = {site.x, site.y, site.z};
    Offset whole, rest;
    for (int a = 0; a < 3; ++a) split(at[a], stride_.v[a], whole.v[a], rest.v[a]);
    if (!by_class_.empty()) {
      for (const Offset& tap : by_class_[std::size_t(number(rest))])
        visit(whole.v[0] - tap.v[0], whole.v[1] - tap.v[1], whole.v[2] - tap.v[2]);
      return;
    }
    for (const Tap& tap : taps_)
      if (tap.rest.v[0] == rest.v[0] && tap.rest.v[1] == rest.v[1] && tap.rest.v[2] == rest.v[2])
        visit(whole.v[0] - tap.whole.v[0], whole.v[1] - tap.whole.v[1],
              whole.v[2] - tap.whole.v[2]);
  }

 private:
  struct Tap {
    Offset whole, rest;
  };
  static void split(std::int64_t value, std::int64_t by, std::int64_t& whole, std::int64_t& rest) {
    whole = value / by;
    rest = value % by;
    if (rest < 0) {
      rest += by;
      --whole;
    }
  }
  std::int64_t number(const Offset& rest) const {
    return (rest.v[0] * stride_.v[1] + rest.v[1]) * stride_.v[2] + rest.v[2];
  }

  Offset stride_;
  std::int64_t classes_;
  std::vector<Tap> taps_;
  std::vector<std::vector<Offset>> by_class_;
};

}  // namespace

void lookup(const Site* sites, std::int64_t n, std::int64_t* slots, std::int64_t capacity,
            const Site* queries, std::int64_t count, std::int32_t* rows, int threads) {
  Buffer<std::int64_t> own;
  if (capacity < index_capacity(n)) {  // no table was made, as by the reference
    capacity = index_capacity(n);
    own = Buffer<std::int64_t>(capacity);
    slots = own.data();
    SiteIndex(sites, slots, capacity).build(n, threads);
  }
  const SiteIndex index(sites, slots, capacity);
  parallel_ranges(count, 1 << 13, threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i += SiteIndex::batch)
      index.find(queries + i, int(std::min<std::int64_t>(SiteIndex::batch, end - i)), rows + i);
  });
}

Unique unique_sites(const Site* sites, std::int64_t n, int threads) {
  const ZKey key(box_of(sites, n));
  // row_at(i): rows in Z-order, equal sites by row; begins(i): whether a site differs from the last
  const auto collect = [&](auto&& row_at, auto&& begins) {
    std::int64_t total = n > 0;
    for (std::int64_t i = 1; i < n; ++i) total += begins(i);
    Unique made{Buffer<std::int32_t>(4 * total), Buffer<std::int64_t>(n),
                Buffer<std::int64_t>(total), Buffer<std::int64_t>(total)};
    std::int64_t u = -1, start = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t row = row_at(i);
      if (i == 0 || begins(i)) {
        if (i > 0) made.counts[u] = i - start;
        start = i;
        put(made.sites.data() + 4 * ++u, sites[row]);
        made.first[u] = row;  // the sort is stable
      }
      made.inverse[row] = u;
    }
    if (n > 0) made.counts[u] = n - start;
    return made;
  };
  const auto with_keys = [&](auto zero) {
    using K = decltype(zero);
    Buffer<K> keys(n);
    Buffer<std::int32_t> rows(n);
    const ZSorted<K> sorted(key, sites, n, keys.data(), rows.data(), threads);
    const auto begins = [&](std::int64_t i) { return keys[i] != keys[i - 1]; };
    if (sorted.moved())
      return collect([&](std::int64_t i) { return std::int64_t(rows[i]); }, begins);
    return collect([](std::int64_t i) { return i; }, begins);
  };
  if (key.fits())
    return key.bits() <= 32 ? with_keys(std::uint32_t(0)) : with_keys(std::uint64_t(0));
  Buffer<std::int64_t> rows(n);
  std::iota(rows.data(), rows.data() + n, 0);
  std::sort(rows.data(), rows.data() + n, [&](std::int64_t a, std::int64_t b) {
    return sites[a] == sites[b] ? a < b : z_less(sites[a], sites[b]);
  });
  return collect([&](std::int64_t i) { return rows[i]; },
                 [&](std::int64_t i) { return !(sites[rows[i]] == sites[rows[i - 1]]); });
}

Buffer<std::int32_t> output_sites(const Site* sites, std::int64_t n,
                                  const std::vector<Offset>& offsets, const Offset& stride,
                                  const Offset* low, const Offset* high, bool transposed) {
  const Residues residues(offsets, stride);
  // every candidate within bounds; refuses what int32 cannot hold
  const auto candidates = [&](auto&& take) {
    for (std::int64_t i = 0; i < n; ++i) {
      const Site& site = sites[i];
      const auto offer = [&](std::int64_t x, std::int64_t y, std::int64_t z) {
        const std::int64_t at[3] = {x, y, z};
        for (int a = 0; a < 3; ++a)
          if ((low && at[a] < low->v[a]) || (high && at[a] >= high->v[a])) return;
        for (const std::int64_t value : at)
          if (value < INT32_MIN || value > INT32_MAX) throw Overflow(value);
        take(site.b, at);
      };
      if (!transposed) {
        residues.visit(site, offer);
        continue;
      }
      for (const Offset& offset : offsets)
        offer(site.x * stride.v[0] + offset.v[0], site.y * stride.v[1] + offset.v[1],
              site.z * stride.v[2] + offset.v[2]);
    }
  };
  Box box = box_of(sites, n);
  if (!box.empty() && !offsets.empty()) {
    for (int a = 0; a < 3; ++a) {
      std::int64_t least = INT64_MAX, most = INT64_MIN;
      for (const Offset& offset : offsets) {
        least = std::min(least, offset.v[a]);
        most = std::max(most, offset.v[a]);
      }
      std::int64_t &from = box.low[a + 1], &to = box.high[a + 1];
      const std::int64_t step = stride.v[a];
      // one voxel wider than exact division, which rounds towards zero
      from = transposed ? from * step + least : (from - most) / step - 1;
      to = transposed ? to * step + most : (to - least) / step + 1;
      from = std::max<std::int64_t>(from, INT32_MIN);
      to = std::min<std::int64_t>(to, INT32_MAX);
      if (low) from = std::max(from, low->v[a]);
      if (high) to = std::min(to, high->v[a] - 1);
      from = std::min<std::int64_t>(from, INT32_MAX);
      to = std::max(to, from);
    }
  }
  const ZKey key(box);
  if (key.fits()) {
    DistinctKeys distinct(
        std::min<std::int64_t>(n * std::int64_t(offsets.size()), 4 * n + most_listed), key.most());
    candidates([&](std::int64_t b, const std::int64_t* at) {
      distinct.add(key.of({std::int32_t(b), std::int32_t(at[0]), std::int32_t(at[1]),
                           std::int32_t(at[2])}));
    });
    const Buffer<std::int64_t> keys = distinct.take();
    Buffer<std::int32_t> made(4 * keys.size());
    const ZSites back(key);
    for (std::int64_t i = 0; i < keys.size(); ++i)
      back.put(std::uint64_t(keys[i]), made.data() + 4 * i);
    return made;
  }
  std::vector<Site> list;
  candidates([&](std::int64_t b, const std::int64_t* at) {
    list.push_back(
        {std::int32_t(b), std::int32_t(at[0]), std::int32_t(at[1]), std::int32_t(at[2])});
  });
  std::sort(list.begin(), list.end(), z_less);
  list.erase(std::unique(list.begin(), list.end()), list.end());
  Buffer<std::int32_t> made(4 * std::int64_t(list.size()));
  for (std::size_t i = 0; i < list.size(); ++i) put(made.data() + 4 * i, list[i]);
  return made;
}

}  // namespace sparseconv
