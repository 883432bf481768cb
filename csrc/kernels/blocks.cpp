#include "kernels/blocks.hpp"

#include <algorithm>
#include <numeric>

#include "core/zsort.hpp"

namespace sparseconv {
namespace {

Site block_of(const Site& s) {
  return {s.b, s.x >> block_shift, s.y >> block_shift, s.z >> block_shift};
}

// row_at(i): rows in Z-order, equal sites by row
template <class RowAt>
Buffer<std::int32_t> words_of(const Site* sites, std::int64_t n, RowAt&& row_at) {
  std::int64_t distinct = 0, blocks = 0;
  Site last{};
  for (std::int64_t i = 0; i < n; ++i) {
    const Site& site = sites[row_at(i)];
    distinct += i == 0 || !(site == last);
    blocks += i == 0 || !(block_of(site) == block_of(last));
    last = site;
  }
  const std::int64_t buckets = block_buckets(blocks);
  Buffer<std::int32_t> words(index_words + blocks * (block_words + 1) + buckets + 1 + distinct);
  std::fill_n(words.data(), index_words, 0);
  words[0] = std::int32_t(n);
  words[1] = std::int32_t(distinct);
  words[2] = std::int32_t(blocks);
  words[3] = std::int32_t(buckets);
  auto* block = reinterpret_cast<SiteBlock*>(words.data() + index_words);
  std::int32_t* begins = words.data() + index_words + blocks * block_words;
  std::int32_t* order = begins + buckets + 1;
  std::int32_t* list = order + blocks;
  std::int64_t b = -1;
  std::int32_t u = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t row = row_at(i);
    const Site& site = sites[row];
    if (i > 0 && site == last) continue;
    const Site at = block_of(site);
    if (i == 0 || !(at == block_of(last))) block[++b] = {at, 0, 0, u, 0};
    const std::uint64_t bit = std::uint64_t(1) << cell_bit(site.x, site.y, site.z);
    block[b].low |= std::uint32_t(bit);
    block[b].high |= std::uint32_t(bit >> 32);
    list[u++] = std::int32_t(row);  // the sort is stable
    last = site;
  }
  // a counting sort: begins[h + 1] counts, then points at the next free place of bucket h
  std::fill_n(begins, buckets + 1, 0);
  Buffer<std::int32_t> bucket(blocks);
  for (std::int64_t i = 0; i < blocks; ++i) {
    bucket[i] = std::int32_t(block_hash(block[i].at) & std::uint64_t(buckets - 1));
    ++begins[bucket[i] + 1];
  }
  for (std::int64_t h = 0; h < buckets; ++h) begins[h + 1] += begins[h];
  for (std::int64_t i = blocks - 1; i >= 0; --i) order[--begins[bucket[i] + 1]] = std::int32_t(i);
  // every entry has moved down to the begin of its own bucket: shift them back
  std::copy_n(begins + 1, buckets, begins);
  begins[buckets] = std::int32_t(blocks);
  return words;
}

}  // namespace

Buffer<std::int32_t> make_blocks(const Site* sites, std::int64_t n, int threads) {
  const ZKey key(box_of(sites, n));
  const auto with_keys = [&](auto zero) {
    using K = decltype(zero);
    Buffer<std::int32_t> rows(n);
    bool moved = false;
    {
      Buffer<K> keys(n);
      moved = ZSorted<K>(key, sites, n, keys.data(), rows.data(), threads).moved();
    }
    if (moved) return words_of(sites, n, [&](std::int64_t i) { return std::int64_t(rows[i]); });
    return words_of(sites, n, [](std::int64_t i) { return i; });
  };
  if (key.fits())
    return key.bits() <= 32 ? with_keys(std::uint32_t(0)) : with_keys(std::uint64_t(0));
  Buffer<std::int64_t> rows(n);
  std::iota(rows.data(), rows.data() + n, 0);
  std::sort(rows.data(), rows.data() + n, [&](std::int64_t a, std::int64_t b) {
    return sites[a] == sites[b] ? a < b : z_less(sites[a], sites[b]);
  });
  return words_of(sites, n, [&](std::int64_t i) { return rows[i]; });
}

}  // namespace sparseconv
