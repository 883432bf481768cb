// Sites as ascending keys, and the rows they came from.
#pragma once
#include <cstdint>

#include "core/key.hpp"
#include "core/parallel.hpp"
#include "core/sort.hpp"

namespace sparseconv {

// Keys of `site * stride`, ascending, one sentinel after the last. Rows that come in ascending
// order are taken as they are, others are sorted (32 bytes a row while sorting).
class Ordered {
 public:
  Ordered(const Key& key, const Site* sites, std::int64_t n, const std::int64_t* stride,
          int threads)
      : keys_(n + 1), size_(n) {
    parallel_ranges(n, 1 << 14, threads, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const Site& s = sites[i];
        keys_[i] = key.of(s.b, s.x * stride[0], s.y * stride[1], s.z * stride[2]);
      }
    });
    std::int64_t falls = 0, repeats = 0;
    for (std::int64_t i = 1; i < n; ++i) {
      falls += keys_[i] < keys_[i - 1];
      repeats += keys_[i] == keys_[i - 1];
    }
    if (falls > 0) {
      sort(key.most);
      for (std::int64_t i = 1; i < n; ++i) repeats += keys_[i] == keys_[i - 1];
    }
    distinct_ = repeats == 0;
    keys_[n] = INT64_MAX;
  }

  // Keep the lowest row of every key.
  void drop_repeats() {
    if (distinct_) return;
    if (!moved()) {
      rows_ = Buffer<std::int32_t>(size_);
      for (std::int64_t i = 0; i < size_; ++i) rows_[i] = std::int32_t(i);
    }
    std::int64_t kept = 0, last = -1;
    for (std::int64_t i = 0; i < size_; ++i) {
      if (keys_[i] == last) continue;
      last = keys_[i];
      rows_[kept] = rows_[i];
      keys_[kept++] = last;
    }
    size_ = kept;
    keys_[size_] = INT64_MAX;
  }

  const std::int64_t* keys() const { return keys_.data(); }
  std::int64_t size() const { return size_; }
  bool distinct() const { return distinct_; }
  bool moved() const { return rows_.size() > 0; }
  std::int32_t row(std::int64_t i) const { return moved() ? rows_[i] : std::int32_t(i); }

 private:
  void sort(std::uint64_t most) {
    Buffer<KeyRow> items(size_);
    for (std::int64_t i = 0; i < size_; ++i) items[i] = {keys_[i], i};
    radix_sort(items, most);
    rows_ = Buffer<std::int32_t>(size_);
    for (std::int64_t i = 0; i < size_; ++i) {
      keys_[i] = items[i].key;
      rows_[i] = std::int32_t(items[i].row);
    }
  }

  Buffer<std::int64_t> keys_;
  Buffer<std::int32_t> rows_;
  std::int64_t size_;
  bool distinct_ = true;
};

}  // namespace sparseconv
