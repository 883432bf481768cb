// Sites as ascending Z-order keys, and the rows they came from.
#pragma once
#include <cstdint>
#include <utility>
#include <vector>

#include "core/buffer.hpp"
#include "core/parallel.hpp"
#include "core/zkey.hpp"
#include "simd/dispatch.hpp"

namespace sparseconv {

// Keys of type K (32 bits where they suffice: half the memory to move) in ascending order, equal
// ones by row. Rows that come in order are not sorted.
//
// A stable radix sort from the lowest digit up. Threads take fixed blocks of rows and count each
// digit for themselves, so the result is that of one thread. Takes 4 + 2 sizeof(item) bytes a row
// while sorting.
template <class K>
class ZSorted {
 public:
  // Write keys and, where rows are not ascending already, rows.
  ZSorted(const ZKey& key, const Site* sites, std::int64_t n, K* keys, std::int32_t* rows,
          int threads)
      : n_(n), blocks_(threads > 1 && n >= 1 << 15 ? threads : 1) {
    std::vector<std::int64_t> falls(std::size_t(blocks_), 0);
    const auto z_keys = table().sites.z_keys;
    bool made = false;
    if constexpr (sizeof(K) == 4)
      if (z_keys) {
        const ZSpread spread = key.spread();
        each_block([&](int block, std::int64_t begin, std::int64_t end) {
          falls[std::size_t(block)] =
              z_keys(spread, reinterpret_cast<const std::int32_t*>(sites), begin, end, keys);
        });
        made = true;
      }
    if (!made)
      key.with([&](auto&& of) {
        each_block([&](int block, std::int64_t begin, std::int64_t end) {
          std::int64_t fallen = 0;
          K last = 0;
          for (std::int64_t i = begin; i < end; ++i) {
            const K now = K(of(sites[i]));
            fallen += now < last;
            keys[i] = last = now;
          }
          falls[std::size_t(block)] = fallen;
        });
      });
    for (int block = 0; block < blocks_; ++block) {
      const std::int64_t begin = n_ * block / blocks_;
      const bool falls_before = block > 0 && keys[begin] < keys[begin - 1];
      moved_ = moved_ || falls_before || falls[std::size_t(block)] > 0;
    }
    if (moved_) sort(key.bits(), keys, rows);
  }

  bool moved() const { return moved_; }

 private:
  struct Item {
    std::uint32_t row;
    K key;
  };

  template <class Run>
  void each_block(Run&& run) const {
    parallel_tasks(blocks_, blocks_, [&](std::int64_t block) {
      run(int(block), n_ * block / blocks_, n_ * (block + 1) / blocks_);
    });
  }

  void sort(int bits, K* keys, std::int32_t* rows) {
    const int passes = std::max(2, (bits + 10) / 11), digit = (bits + passes - 1) / passes;
    const std::size_t size = std::size_t(1) << digit;
    Buffer<Item> spare[2] = {Buffer<Item>(n_), Buffer<Item>(passes > 2 ? n_ : 0)};
    // one block counts all digits in one go: their order does not change the counts
    const bool ahead = blocks_ == 1;
    std::vector<std::uint32_t> counts((ahead ? std::size_t(passes) : std::size_t(blocks_)) * size);
    if (ahead)
      for (int pass = 0; pass < passes; ++pass)
        count(Keys{keys}, pass * digit, size, 0, n_, counts.data() + std::size_t(pass) * size);
    for (int pass = 0; pass < passes; ++pass) {
      std::uint32_t* places = counts.data() + (ahead ? std::size_t(pass) * size : 0);
      const auto run = [&](auto from, auto to) {
        const int shift = pass * digit;
        if (!ahead)
          each_block([&](int block, std::int64_t begin, std::int64_t end) {
            std::uint32_t* mine = places + std::size_t(block) * size;
            std::fill_n(mine, size, 0u);
            count(from, shift, size, begin, end, mine);
          });
        std::uint32_t place = 0;
        for (std::size_t d = 0; d < size; ++d)
          for (int block = 0; block < blocks_; ++block)
            place += std::exchange(places[std::size_t(block) * size + d], place);
        each_block([&](int block, std::int64_t begin, std::int64_t end) {
          std::uint32_t* mine = places + std::size_t(block) * size;
          const K mask = K(size - 1);
          for (std::int64_t i = begin; i < end; ++i) {
            const K key = from.key(i);
            to.put(mine[key >> shift & mask]++, key, from.row(i));
          }
        });
      };
      const Items from{spare[(pass + 1) % 2].data()}, to{spare[pass % 2].data()};
      if (pass == 0)
        run(Keys{keys}, to);
      else if (pass + 1 < passes)
        run(from, to);
      else
        run(from, Apart{keys, rows});
    }
  }

  // where a pass reads and writes: keys in the order of rows, pairs, or keys and rows apart
  struct Keys {
    const K* keys;
    K key(std::int64_t i) const { return keys[i]; }
    std::uint32_t row(std::int64_t i) const { return std::uint32_t(i); }
  };
  struct Items {
    Item* items;
    K key(std::int64_t i) const { return items[i].key; }
    std::uint32_t row(std::int64_t i) const { return items[i].row; }
    void put(std::uint32_t at, K key, std::uint32_t row) const { items[at] = {row, key}; }
  };
  struct Apart {
    K* keys;
    std::int32_t* rows;
    void put(std::uint32_t at, K key, std::uint32_t row) const {
      keys[at] = key;
      rows[at] = std::int32_t(row);
    }
  };

  template <class From>
  static void count(const From& from, int shift, std::size_t size, std::int64_t begin,
                    std::int64_t end, std::uint32_t* counts) {
    const K mask = K(size - 1);
    for (std::int64_t i = begin; i < end; ++i) ++counts[from.key(i) >> shift & mask];
  }

  std::int64_t n_;
  int blocks_;
  bool moved_ = false;
};

}  // namespace sparseconv
