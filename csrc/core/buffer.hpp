// Memory without initial values, aligned to a cache line.
#pragma once
#include <cstdint>
#include <new>

namespace sparseconv {

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
