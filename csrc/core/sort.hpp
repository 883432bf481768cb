// Stable radix sort of 64-bit keys.
#pragma once
#include <cstdint>
#include <utility>
#include <vector>

#include "core/buffer.hpp"

namespace sparseconv {

struct KeyRow {
  std::int64_t key;
  std::int64_t row;
};

inline std::uint64_t key_bits(std::int64_t key) { return std::uint64_t(key); }
inline std::uint64_t key_bits(const KeyRow& item) { return std::uint64_t(item.key); }

// Sort n items by key, keys being in [0, most]; equal keys keep their order. Returns where the
// sorted items are: in `items` or in `spare`, which holds as many.
template <class Item>
Item* radix_sort(Item* items, Item* spare, std::int64_t n, std::uint64_t most) {
  int bits = 0;
  while (bits < 64 && most >> bits) ++bits;
  const int passes = (bits + 10) / 11;
  if (n < 2 || passes == 0) return items;
  const int digit = (bits + passes - 1) / passes;
  const std::uint64_t mask = (std::uint64_t(1) << digit) - 1;
  std::vector<std::int64_t> counts(std::size_t(passes) << digit);
  for (std::int64_t i = 0; i < n; ++i)
    for (int pass = 0; pass < passes; ++pass)
      ++counts[(std::size_t(pass) << digit) + (key_bits(items[i]) >> (pass * digit) & mask)];
  for (int pass = 0; pass < passes; ++pass) {
    std::int64_t* count = counts.data() + (std::size_t(pass) << digit);
    const int shift = pass * digit;
    if (count[key_bits(items[0]) >> shift & mask] == n) continue;  // all alike
    std::int64_t place = 0;
    for (std::uint64_t d = 0; d <= mask; ++d) place += std::exchange(count[d], place);
    for (std::int64_t i = 0; i < n; ++i)
      spare[count[key_bits(items[i]) >> shift & mask]++] = items[i];
    std::swap(items, spare);
  }
  return items;
}

template <class Item>
void radix_sort(Buffer<Item>& items, std::uint64_t most) {
  Buffer<Item> spare(items.size());
  if (radix_sort(items.data(), spare.data(), items.size(), most) != items.data())
    std::swap(items, spare);
}

}  // namespace sparseconv
