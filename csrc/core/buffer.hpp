// Memory without initial values, aligned to a cache line.
#pragma once
#include <cstdint>
#include <new>

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
  explicit Buffer(std::int64_t n) : size_(n), data_(n > 0 ? allocate(n) : nullptr) {}
  Buffer(Buffer&& other) noexcept : size_(other.size_), data_(other.data_) {
    other.size_ = 0;
    other.data_ = nullptr;
  }
  Buffer& operator=(Buffer&& other) noexcept {
    if (this != &other) {
      free();
      size_ = other.size_;
      data_ = other.data_;
      other.size_ = 0;
      other.data_ = nullptr;
    }
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { free(); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](std::int64_t i) { return data_[i]; }
  const T& operator[](std::int64_t i) const { return data_[i]; }
  std::int64_t size() const { return size_; }
  // Forget the items from `n` on; the memory stays.
  void shrink(std::int64_t n) { size_ = n; }

 private:
  static T* allocate(std::int64_t n) {
    return static_cast<T*>(::operator new(std::size_t(n) * sizeof(T), std::align_val_t(64)));
  }
  void free() {
    if (data_) ::operator delete(data_, std::align_val_t(64));
  }

  std::int64_t size_ = 0;
  T* data_ = nullptr;
};

}  // namespace sparseconv
