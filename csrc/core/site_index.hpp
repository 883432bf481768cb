// The active-site index: an open-addressing hash table from (batch, x, y, z) to row.
//
// A slot is an int64: 32 bits of hash as a fingerprint above the 32-bit row, -1 where empty. A
// match of fingerprints is confirmed on the four coordinates, so any int32 coordinate works and no
// collision can give a wrong row. The capacity is a power of two, at least twice the rows.
#pragma once
#include <atomic>
#include <cstdint>
#include <cstring>

#include "core/parallel.hpp"

#if defined(__GNUC__) || defined(__clang__)
#define SPARSECONV_PREFETCH(address) __builtin_prefetch(address)
#else
#define SPARSECONV_PREFETCH(address) (void)(address)
#endif

namespace sparseconv {

struct Site {
  std::int32_t b, x, y, z;
};
static_assert(sizeof(Site) == 16, "rows of coords are read as Site");

inline bool operator==(const Site& a, const Site& b) {
  return ((a.b ^ b.b) | (a.x ^ b.x) | (a.y ^ b.y) | (a.z ^ b.z)) == 0;
}
inline bool operator<(const Site& a, const Site& b) {
  if (a.b != b.b) return a.b < b.b;
  if (a.x != b.x) return a.x < b.x;
  if (a.y != b.y) return a.y < b.y;
  return a.z < b.z;
}

// A linear combination, so that the sum of a neighbour is that of the site plus a constant.
inline std::uint64_t linear_hash(std::int64_t b, std::int64_t x, std::int64_t y, std::int64_t z) {
  return std::uint64_t(b) * 0x9e3779b97f4a7c15u + std::uint64_t(x) * 0xbf58476d1ce4e5b9u +
         std::uint64_t(y) * 0x94d049bb133111ebu + std::uint64_t(z) * 0xd6e8feb86659fd93u;
}
inline std::uint64_t mix(std::uint64_t h) {
  h ^= h >> 32;
  h *= 0xd6e8feb86659fd93u;
  return h ^ (h >> 32);
}

inline std::int64_t index_capacity(std::int64_t rows) {
  std::int64_t capacity = 16;
  while (capacity < 2 * rows) capacity *= 2;
  return capacity;
}

class SiteIndex {
 public:
  SiteIndex(const Site* sites, std::int64_t* slots, std::int64_t capacity)
      : sites_(sites), slots_(slots), mask_(std::uint64_t(capacity) - 1) {}

  // Fill the table with rows [0, n). Of equal sites the lowest row is kept. The place of a slot may
  // depend on the threads' timing, the row that a look-up finds does not.
  void build(std::int64_t n, int threads) {
    std::memset(slots_, 0xff, std::size_t(mask_ + 1) * 8);
    if (threads <= 1 || n < 1 << 14) {
      insert<false>(0, n);
      return;
    }
    parallel_ranges(n, 1 << 13, threads,
                    [&](std::int64_t begin, std::int64_t end) { insert<true>(begin, end); });
  }

  // rows[i] = row of queries[i], -1 where absent. At most `batch` queries.
  static constexpr int batch = 16;
  void find(const Site* queries, int n, std::int32_t* rows) const {
    std::uint64_t h[batch];
    for (int i = 0; i < n; ++i) {
      const Site& q = queries[i];
      h[i] = mix(linear_hash(q.b, q.x, q.y, q.z));
      SPARSECONV_PREFETCH(slots_ + (h[i] & mask_));
    }
    for (int i = 0; i < n; ++i) rows[i] = find(queries[i], h[i]);
  }

 private:
  std::int32_t find(const Site& q, std::uint64_t h) const {
    const std::uint64_t print = h >> 32;
    for (std::uint64_t at = h & mask_;; at = (at + 1) & mask_) {
      const std::int64_t slot = slots_[at];
      if (slot == -1) return -1;
      if (std::uint64_t(slot) >> 32 == print && sites_[std::int32_t(slot)] == q)
        return std::int32_t(slot);
    }
  }

  template <bool shared>
  void insert(std::int64_t begin, std::int64_t end) {
    std::uint64_t h[batch];
    for (std::int64_t i = begin; i < end; i += batch) {
      const int n = int(std::min<std::int64_t>(batch, end - i));
      for (int k = 0; k < n; ++k) {
        const Site& q = sites_[i + k];
        h[k] = mix(linear_hash(q.b, q.x, q.y, q.z));
        SPARSECONV_PREFETCH(slots_ + (h[k] & mask_));
      }
      for (int k = 0; k < n; ++k) put<shared>(i + k, h[k]);
    }
  }

  template <bool shared>
  void put(std::int64_t row, std::uint64_t h) {
    const std::int64_t mine = std::int64_t((h & 0xffffffff00000000u) | std::uint64_t(row));
    for (std::uint64_t at = h & mask_;;) {
      std::int64_t held = read<shared>(at);
      if (held == -1) {
        if (swap<shared>(at, held, mine)) return;
        continue;  // another thread took the slot: look at what it wrote
      }
      if (((held ^ mine) >> 32) == 0 && sites_[std::int32_t(held)] == sites_[row]) {
        if (std::int32_t(held) <= row || swap<shared>(at, held, mine)) return;
        continue;
      }
      at = (at + 1) & mask_;
    }
  }

  // torch owns the memory as plain int64, which every supported ABI lets stand in for an atomic
  using Shared = std::atomic<std::int64_t>;
  static_assert(sizeof(Shared) == 8, "slots are used as atomics in place");

  template <bool shared>
  std::int64_t read(std::uint64_t at) const {
    if (shared)
      return reinterpret_cast<const Shared*>(slots_ + at)->load(std::memory_order_relaxed);
    return slots_[at];
  }
  template <bool shared>
  bool swap(std::uint64_t at, std::int64_t held, std::int64_t mine) {
    if (shared)
      return reinterpret_cast<Shared*>(slots_ + at)
          ->compare_exchange_strong(held, mine, std::memory_order_relaxed);
    slots_[at] = mine;
    return true;
  }

  const Site* sites_;
  std::int64_t* slots_;
  std::uint64_t mask_;
};

}  // namespace sparseconv
