// The weights of a convolution as they were given, and what is made of them.
#pragma once
#include <cstdint>

#include "core/buffer.hpp"
#include "simd/table.hpp"

namespace sparseconv {

// W [taps, C / G, D] of any strides, in the type of rows or in that of sums, then rounded as it is read.
template <class S, class T>
struct ConvWeights {
  const Loops<S, T>& loops;
  const S* narrow;  // or null
  const T* wide;    // instead of narrow, or null
  const std::int64_t* strides;

  const void* data() const { return wide != nullptr ? static_cast<const void*>(wide) : narrow; }

  // One weight in the type of sums.
  T at(std::int64_t place) const {
    S rounded;
    T made;
    widen(place, 1, &rounded, &made);
    return made;
  }

  // Those of a depthwise layer in the type of sums, [taps, width].
  void widen_channels(std::int64_t taps, std::int64_t width, T* to) const {
    // weights of a tap mostly lie side by side
    const std::int64_t step = strides[2] == 1 ? width : 1;
    Buffer<S> rounded(step);
    for (std::int64_t t = 0; t < taps; ++t)
      for (std::int64_t c = 0; c < width; c += step)
        widen(t * strides[0] + c * strides[2], step, rounded.data(), to + t * width + c);
  }

  // Pack the weights of a tap from its first one in a block of columns. Those in the type of sums
  // are rounded first, along the direction in which they lie.
  void pack(std::int64_t place, std::int64_t channels, std::int64_t width, T* to) const {
    if (wide == nullptr) {
      loops.pack(narrow + place, strides[1], strides[2], channels, width, to);
      return;
    }
    if (loops.pack_wide != nullptr) {
      loops.pack_wide(wide + place, strides[1], strides[2], channels, width, to);
      return;
    }
    const bool by_column = strides[1] == 1 && strides[2] != 1;
    const std::int64_t lines = by_column ? width : channels, length = by_column ? channels : width;
    const std::int64_t step = strides[by_column ? 2 : 1], apart = strides[by_column ? 1 : 2];
    Buffer<S> rounded(lines * length);
    for (std::int64_t line = 0; line < lines; ++line) {
      const T* from = wide + place + line * step;
      S* into = rounded.data() + line * length;
      if (apart == 1)
        loops.narrow(from, into, length);
      else
        for (std::int64_t i = 0; i < length; ++i) loops.narrow(from + i * apart, into + i, 1);
    }
    loops.pack(rounded.data(), by_column ? 1 : length, by_column ? length : 1, channels, width, to);
  }

 private:
  // Weights that lie side by side, by way of `rounded` where they are wide.
  void widen(std::int64_t place, std::int64_t count, S* rounded, T* to) const {
    if (wide != nullptr) loops.narrow(wide + place, rounded, count);
    loops.widen(wide != nullptr ? rounded : narrow + place, to, count);
  }
};

}  // namespace sparseconv
