// Weights as products read them, kept from one call of a layer to the next.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <tuple>
#include <utility>

namespace sparseconv {

// Of one weight, packed in one way: for other rows or threads it may be cut otherwise, then the new one is
// kept instead. The weight must not change while this lives. Calls at the same time may each pack it.
class KeptWeights {
 public:
  // What the packed weights depend on: where the weight lies and how, who multiplies it, how it is cut.
  struct Cut {
    const void *weight, *product;
    std::int64_t stride_t, stride_c, stride_d, taps, per_group, width, groups, step;
    bool wide;

    auto all() const {
      return std::tie(weight, product, stride_t, stride_c, stride_d, taps, per_group, width, groups,
                      step, wide);
    }
  };

  std::shared_ptr<const void> find(const Cut& cut) const {
    const std::lock_guard<std::mutex> lock(guard_);
    return packed_ != nullptr && cut_.all() == cut.all() ? packed_ : nullptr;
  }

  void keep(const Cut& cut, std::shared_ptr<const void> packed, std::int64_t bytes) {
    const std::lock_guard<std::mutex> lock(guard_);
    cut_ = cut;
    packed_ = std::move(packed);
    bytes_ = bytes;
  }

  std::int64_t bytes() const {
    const std::lock_guard<std::mutex> lock(guard_);
    return bytes_;
  }

 private:
  mutable std::mutex guard_;
  Cut cut_{};
  std::shared_ptr<const void> packed_;
  std::int64_t bytes_ = 0;
};

}  // namespace sparseconv
