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

// Sort items by key, keys being in [0, most]; equal keys keep their order. Takes as much again.
template <class Item>
void radix_sort(Buffer<Item>& items, std::uint64_t most) {
  const std::int64_t n = items.size();
  if (n < 2) return;
  int bits = 0;
  while (bits < 64 && most >> bits) ++bits;
  const int passes = (bits + 10) / 11;
  if (passes == 0) return;
  const int digit = (bits + passes - 1) / passes;
  const std::uint64_t mask = (std::uint64_t(1) << digit) - 1;
  Buffer<Item> other(n);
  Item* from = items.data();
  Item* to = other.data();
  std::vector<std::int64_t> counts(std::size_t(passes) << digit);
  for (std::int64_t i = 0; i < n; ++i)
    for (int pass = 0; pass < passes; ++pass)
      ++counts[(std::size_t(pass) << digit) + (key_bits(from[i]) >> (pass * digit) & mask)];
  for (int pass = 0; pass < passes; ++pass) {
    std::int64_t* count = counts.data() + (std::size_t(pass) << digit);
    const int shift = pass * digit;
    if (count[key_bits(from[0]) >> shift & mask] == n) continue;  // all alike
    std::int64_t place = 0;
    for (std::uint64_t d = 0; d <= mask; ++d) place += std::exchange(count[d], place);
    for (std::int64_t i = 0; i < n; ++i) to[count[key_bits(from[i]) >> shift & mask]++] = from[i];
    std::swap(from, to);
  }
  if (from != items.data()) std::swap(items, other);
}

}  // namespace sparseconv
