#include "core/pyramid_block.hpp"
#include "core/zsort.hpp"
#include "kernels/pyramid.hpp"
#include "simd/dispatch.hpp"

namespace sparseconv {
namespace {

constexpr std::int64_t most_rows = std::int64_t(1) << 28;  // 8 times as many fit 32 bits

SitesHead head_of(const Box& box, std::int64_t n) {
  SitesHead head{n, -1, {}, {}};
  for (int a = 0; a < 4; ++a) {
    head.low[a] = box.low[a];
    head.high[a] = box.high[a];
  }
  return head;
}

// Sites of every level, and how many differ: a step from one key to the next begins a site on all
// levels whose shift leaves the highest bit that differs.
template <class K>
void count_nodes(const ZKey& key, const K* keys, std::int64_t n, OrderHead& head) {
  if constexpr (sizeof(K) == 4) {
    int bits[most_levels + 1], levels = 0;
    while (levels <= most_levels && key.bits_below(levels) < key.bits()) {
      bits[levels] = key.bits_below(levels);
      ++levels;
    }
    // the distinct ones come first: no bit of the key is below plane 0
    table().sites.count_steps(keys, n, bits, levels, head.nodes);
    for (int level = 0; level <= most_levels; ++level) head.nodes[level] += n > 0;
    head.sites.distinct = head.nodes[0];
    return;
  }
  // several counters, so that steps of one width do not wait for each other
  std::int64_t steps[4][65] = {};
  for (std::int64_t i = 1; i < n; ++i)
    ++steps[i & 3][bit_width(std::uint64_t(keys[i] ^ keys[i - 1]))];
  const auto wider_than = [&](int bits) {
    std::int64_t count = n > 0;
    for (const auto& counts : steps)
      for (int width = bits + 1; width <= 64; ++width) count += counts[width];
    return count;
  };
  head.sites.distinct = wider_than(0);
  for (int level = 0; level <= most_levels; ++level)
    head.nodes[level] = wider_than(key.bits_below(level));
}

template <class K>
Buffer<std::int64_t> order_with(const ZKey& key, const SitesHead& sites_head, const Site* sites,
                                std::int64_t n, int threads) {
  const OrderParts<K> parts(n);
  Buffer<std::int64_t> made(parts.words);
  K* keys = part<K>(made.data(), parts.keys);
  std::int32_t* rows = part<std::int32_t>(made.data(), parts.rows);
  // a part of odd length leaves half a word
  if (n > 0) made[parts.rows - 1] = made[parts.words - 1] = 0;
  OrderHead head{sites_head, 0, {}};
  head.moved = ZSorted<K>(key, sites, n, keys, rows, threads).moved();
  if (!head.moved) made.shrink(parts.rows);
  count_nodes(key, keys, n, head);
  write_head(made.data(), head);
  return made;
}

}  // namespace

Buffer<std::int64_t> site_order(const Site* sites, std::int64_t n, int threads) {
  Box box;
  if (n > 0) {
    std::int32_t low[4], high[4];
    table().sites.box(reinterpret_cast<const std::int32_t*>(sites), n, low, high);
    for (int a = 0; a < 4; ++a) {
      box.low[a] = low[a];
      box.high[a] = high[a];
    }
  }
  const SitesHead head = head_of(box, n);
  const ZKey key(box);
  if (key.fits() && n <= most_rows)
    return key.bits() <= 32 ? order_with<std::uint32_t>(key, head, sites, n, threads)
                            : order_with<std::uint64_t>(key, head, sites, n, threads);
  Buffer<std::int64_t> made(words_of_head<SitesHead>);
  write_head(made.data(), head);
  return made;
}

}  // namespace sparseconv
