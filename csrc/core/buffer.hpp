// Memory without initial values, aligned to a cache line.
#pragma once
#include <cstdint>
#include <utility>

#include "core/spare.hpp"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace sparseconv {

// Ask for large pages under memory that is about to be written whole: the first touch of 4 KiB
// pages can take as long as the sums that are stored there.
inline void prefer_large_pages(void* data, std::int64_t bytes) {
#ifdef MADV_HUGEPAGE
  constexpr std::uintptr_t page = std::uintptr_t(2) << 20;
  const std::uintptr_t begin = (reinterpret_cast<std::uintptr_t>(data) + page - 1) / page * page;
  const std::uintptr_t end =
      (reinterpret_cast<std::uintptr_t>(data) + std::uintptr_t(bytes)) / page * page;
  // advice alone: a refusal changes nothing
  if (begin < end) (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data;
  (void)bytes;
#endif
}

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::int64_t n) : size_(n) {
    if (n > 0) block_ = SpareBlocks::shared().take(n * std::int64_t(sizeof(T)));
  }
  Buffer(Buffer&& other) noexcept
      : size_(std::exchange(other.size_, 0)), block_(std::exchange(other.block_, {})) {}
  Buffer& operator=(Buffer&& other) noexcept {
    if (this != &other) {
      free();
      size_ = std::exchange(other.size_, 0);
      block_ = std::exchange(other.block_, {});
    }
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { free(); }

  T* data() { return static_cast<T*>(block_.data); }
  const T* data() const { return static_cast<const T*>(block_.data); }
  T& operator[](std::int64_t i) { return data()[i]; }
  const T& operator[](std::int64_t i) const { return data()[i]; }
  std::int64_t size() const { return size_; }
  // Forget the items from `n` on; the memory stays.
  void shrink(std::int64_t n) { size_ = n; }

 private:
  void free() noexcept {
    if (block_.data) SpareBlocks::shared().give(block_);
  }

  std::int64_t size_ = 0;
  SpareBlocks::Block block_{};
};

}  // namespace sparseconv
