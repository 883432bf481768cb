// Weights laid out for products of bfloat16 in pairs of channels. Included inside the namespace of one
// instruction set with AVX-512 BF16, where `vector` and the panels are known.

#if defined(__clang__) || __GNUC__ >= 12
#define CAN_TURN
#include "simd/turn.inl.hpp"
#endif

// Weights of two channels side by side, columns in panels; an odd last channel gets a zero.
static void pack(const Bf16* w, std::int64_t stride_c, std::int64_t stride_d,
                 std::int64_t channels, std::int64_t width, float* to) {
  std::uint32_t* packed = reinterpret_cast<std::uint32_t*>(to);
  const std::int64_t vectors = padded(width) / vector;
  const std::int64_t steps = (channels + 1) / 2;
  std::int64_t column = 0;
  for (int panel = 0; panel < panel_count(vectors); ++panel) {
    const std::int64_t columns = panel_size(vectors, panel) * std::int64_t(vector);
    const std::int64_t real = width - column < columns ? width - column : columns;
    const Bf16* from = w + column * stride_d;
    // blocks of channels: where columns are far apart, reads still meet whole cache lines
    for (std::int64_t s0 = 0; s0 < steps; s0 += 16) {
      const std::int64_t s1 = s0 + 16 < steps ? s0 + 16 : steps;
#ifdef CAN_TURN
      // the gradient's weights: channels of a column lie together
      if (stride_c == 1 && real == columns && 2 * (s0 + 16) <= channels) {
        for (std::int64_t d = 0; d < columns; d += vector)
          turn(from + 2 * s0 + d * stride_d, 2 * stride_d, packed + s0 * columns + d, columns);
        continue;
      }
#endif
      for (std::int64_t s = s0; s < s1; ++s) {
        std::uint32_t* row = packed + s * columns;
        const Bf16* even = from + 2 * s * stride_c;
        const Bf16* odd = 2 * s + 1 < channels ? even + stride_c : nullptr;
        if (stride_d == 1 && odd != nullptr) {
          for (std::int64_t d = 0; d < real; ++d)
            row[d] = even[d].bits | std::uint32_t(odd[d].bits) << 16;
        } else {
          for (std::int64_t d = 0; d < real; ++d)
            row[d] = even[d * stride_d].bits |
                     (odd != nullptr ? std::uint32_t(odd[d * stride_d].bits) << 16 : 0u);
        }
        for (std::int64_t d = real; d < columns; ++d) row[d] = 0;
      }
    }
    packed += steps * columns;
    column += columns;
  }
}

constexpr std::int64_t ahead_rows = 8;  // fetched while rows are rounded

// Sixteen words of two numbers each, the first in the low half.
static inline __m512i round_pairs(__m512 low, __m512 high) {
  const __m512i order = _mm512_set_epi32(0x1f000f, 0x1e000e, 0x1d000d, 0x1c000c, 0x1b000b, 0x1a000a,
                                         0x190009, 0x180008, 0x170007, 0x160006, 0x150005, 0x140004,
                                         0x130003, 0x120002, 0x110001, 0x100000);
  return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}

static inline __mmask16 first_of_16(std::int64_t n) {
  return n >= 16 ? __mmask16(~0) : n <= 0 ? __mmask16(0) : __mmask16((1 << n) - 1);
}

// Weights whose columns lie side by side, two channels at a time over all columns.
static void pack_wide_rows(const float* w, std::int64_t stride_c, std::int64_t channels,
                           std::int64_t width, std::uint32_t* packed) {
  const std::int64_t vectors = padded(width) / vector, steps = (channels + 1) / 2;
  for (std::int64_t s = 0; s < steps; ++s) {
    const float* even = w + 2 * s * stride_c;
    const float* odd = even + stride_c;
    const bool both = 2 * s + 1 < channels;
    std::uint32_t* to = packed;
    std::int64_t d = 0;
    for (int panel = 0; panel < panel_count(vectors); ++panel) {
      const std::int64_t columns = panel_size(vectors, panel) * std::int64_t(vector);
      std::uint32_t* row = to + s * columns;
      for (std::int64_t i = 0; i < columns; i += vector, d += vector) {
        const __mmask16 here = first_of_16(width - d);
        // rows are far apart: the processor does not see where they lead
        PREFETCH(even + d + ahead_rows * stride_c);
        PREFETCH(odd + d + ahead_rows * stride_c);
        const __m512 low = _mm512_maskz_loadu_ps(here, even + d);
        const __m512 high = _mm512_maskz_loadu_ps(both ? here : __mmask16(0), odd + d);
        _mm512_store_si512(row + i, round_pairs(low, high));
      }
      to += steps * columns;
    }
  }
}

// Any sixteen columns of a panel, from their first one.
static void pack_wide_columns(const float* w, std::int64_t stride_c, std::int64_t stride_d,
                              std::int64_t channels, std::int64_t real, std::int64_t columns,
                              std::uint32_t* packed) {
  const std::int64_t steps = (channels + 1) / 2;
  std::int64_t s = 0;
#ifdef CAN_TURN
  if (stride_c == 1 && real >= vector)
    for (; 2 * (s + 16) <= channels; s += 16) {
      alignas(64) std::uint32_t words[16 * vector];
      for (int d = 0; d < vector; ++d) {
        const float* from = w + d * stride_d + 2 * s;
        // of the next sixteen columns
        PREFETCH(from + vector * stride_d);
        PREFETCH(from + vector * stride_d + vector);
        const __m512 low = _mm512_loadu_ps(from), high = _mm512_loadu_ps(from + vector);
        _mm512_store_si512(words + d * vector, (__m512i)_mm512_cvtne2ps_pbh(high, low));
      }
      turn(words, 64, packed + s * columns, columns);
    }
#endif
  for (; s < steps; ++s) {
    alignas(64) float low[vector] = {}, high[vector] = {};
    for (std::int64_t d = 0; d < vector && d < real; ++d) {
      const float* from = w + 2 * s * stride_c + d * stride_d;
      low[d] = from[0];
      if (2 * s + 1 < channels) high[d] = from[stride_c];
    }
    _mm512_store_si512(packed + s * columns,
                       round_pairs(_mm512_load_ps(low), _mm512_load_ps(high)));
  }
}

// The same of weights in float. What is rounded to a denormal becomes zero, as products take it.
static void pack_wide(const float* w, std::int64_t stride_c, std::int64_t stride_d,
                      std::int64_t channels, std::int64_t width, float* to) {
  std::uint32_t* packed = reinterpret_cast<std::uint32_t*>(to);
  if (stride_d == 1) return pack_wide_rows(w, stride_c, channels, width, packed);
  const std::int64_t vectors = padded(width) / vector, steps = (channels + 1) / 2;
  std::int64_t column = 0;
  for (int panel = 0; panel < panel_count(vectors); ++panel) {
    const std::int64_t columns = panel_size(vectors, panel) * std::int64_t(vector);
    for (std::int64_t d = 0; d < columns; d += vector)
      pack_wide_columns(w + (column + d) * stride_d, stride_c, stride_d, channels,
                        width - column - d, columns, packed + d);
    packed += steps * columns;
    column += columns;
  }
}
