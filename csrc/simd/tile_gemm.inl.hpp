// Products of bfloat16 rows with matrix tiles: 16 rows of 64 bytes, multiplied 16 x 32 by 32 x 16.
// The multiplication takes denormals for zero, in operands and in sums.
//
// Included inside the namespace of one instruction set, after these are defined for tiles 0 to 7:
//   TILE_ZERO(t)  TILE_LOAD(t, from, bytes_between_rows)  TILE_STORE(t, to, bytes_between_rows)
//   TILE_MULTIPLY(c, a, b)  float c[m][n] += sum over k of a[m][k] b[k / 2][2 n + k % 2]
//   static void begin(), end()  what a thread must do before and after

namespace tile {

#include "simd/turn.inl.hpp"

constexpr int side = 16;           // rows of a tile, columns of a tile of sums
constexpr int channels_of = 32;    // channels, or pairs, that one multiplication sums
constexpr int gemm_chunk = 32;     // pairs gathered at a time: two tiles
constexpr int outer_chunk = 128;   // fixed, so that a weight's gradient is always cut alike
constexpr int depth = 512;         // channels gathered at a time
constexpr int pitch = depth + 32;  // gathered rows lie apart by whole cache lines, an odd number
constexpr int outer_steps = outer_chunk / 2;
constexpr int outer_pitch = int(outer_limit) + 16;
// below, weights in tiles would not fit where conv.cpp puts them, nor would they pay
constexpr std::int64_t least_channels = 16;

static Loops<Bf16, float> few_channels;  // the loops of the set below, for those

static std::int64_t padded(std::int64_t width) { return (width + side - 1) / side * side; }
static inline std::int64_t blocks_of(std::int64_t n, std::int64_t size) {
  return (n + size - 1) / size;
}

// to[i] = (even[i], odd[i]) for i < n; odd may be null. Zeros behind, up to `whole`.
static inline void interleave(const Bf16* RESTRICT even, const Bf16* RESTRICT odd,
                              std::uint32_t* RESTRICT to, std::int64_t n, std::int64_t whole) {
  if (odd != nullptr) {
    for (std::int64_t i = 0; i < n; ++i) to[i] = even[i].bits | std::uint32_t(odd[i].bits) << 16;
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i] = even[i].bits;
  }
  for (std::int64_t i = n; i < whole; ++i) to[i] = 0;
}

// Tiles of weights, two channels side by side: those of 16 columns after each other.
static void pack(const Bf16* w, std::int64_t stride_c, std::int64_t stride_d,
                 std::int64_t channels, std::int64_t width, float* packed) {
  if (channels < least_channels)
    return few_channels.pack(w, stride_c, stride_d, channels, width, packed);
  std::uint32_t* to = reinterpret_cast<std::uint32_t*>(packed);
  const std::int64_t steps = blocks_of(channels, channels_of) * side;
  for (std::int64_t column = 0; column < width; column += side) {
    const std::int64_t real = width - column < side ? width - column : side;
    for (std::int64_t s = 0; s < steps; ++s, to += side) {
      const Bf16* even = w + 2 * s * stride_c + column * stride_d;
      const Bf16* odd = 2 * s + 1 < channels ? even + stride_c : nullptr;
      if (stride_c == 1 && real == side && s % side == 0 && 2 * (s + side) <= channels) {
        // the gradient's weights, turned over: 32 channels of a column lie together
        turn(even, 2 * stride_d, to, side);
        s += side - 1;
        to += (side - 1) * side;
      } else if (2 * s >= channels) {
        interleave(nullptr, nullptr, to, 0, side);
      } else if (stride_d == 1) {
        interleave(even, odd, to, real, side);
      } else {
        for (std::int64_t d = 0; d < real; ++d)
          to[d] = even[d * stride_d].bits |
                  (odd != nullptr ? std::uint32_t(odd[d * stride_d].bits) << 16 : 0u);
        for (std::int64_t d = real; d < side; ++d) to[d] = 0;
      }
    }
  }
}

static inline void fetch_rows(const Bf16* x, std::int64_t ldx, const std::int32_t* rows, int count,
                              std::int64_t channels) {
  for (int p = 0; p < count; ++p) {
    const char* row = reinterpret_cast<const char*>(x + rows[p] * ldx);
    for (std::int64_t b = 0; b < 2 * channels; b += 64) PREFETCH(row + b);
  }
}

// 16 rows of one operand: gathered, or where they lie if that is one behind the other.
struct Rows {
  const Bf16* from;
  std::int64_t bytes;  // between rows
};

static inline Rows gather(const Bf16* x, std::int64_t ldx, const std::int32_t* rows, int count,
                          std::int64_t deep, Bf16* copies) {
  bool in_place = count == side && deep % channels_of == 0;
  for (int p = 1; p < count; ++p) in_place &= rows[p] == rows[0] + p;
  if (in_place) return {x + rows[0] * ldx, ldx * std::int64_t(sizeof(Bf16))};
  const std::int64_t whole = blocks_of(deep, channels_of) * channels_of;
  for (int p = 0; p < side; ++p) {
    Bf16* RESTRICT to = copies + p * pitch;
    const std::int64_t real = p < count ? deep : 0;
    if (p < count) {
      const Bf16* from = x + rows[p] * ldx;
      std::int64_t c = 0;
      for (; c + channels_of <= real; c += channels_of) {
        std::memcpy(to + c, from + c, 64);
        KEEP_LOOP;
      }
      for (; c < real; ++c) {
        to[c] = from[c];
        KEEP_LOOP;
      }
    }
    for (std::int64_t c = real; c < whole; ++c) to[c].bits = 0;
  }
  return {copies, pitch * std::int64_t(sizeof(Bf16))};
}

// sums [32][32] = up to 2 x 2 tiles of products, from zero.
template <bool two_rows, bool two_columns>
static inline void block(const Rows* a, const std::uint32_t* left, const std::uint32_t* right,
                         std::int64_t blocks, float* sums) {
  constexpr std::int64_t row = 4 * side, sums_row = 2 * row;
  TILE_ZERO(0);
  if (two_columns) TILE_ZERO(1);
  if (two_rows) TILE_ZERO(2);
  if (two_rows && two_columns) TILE_ZERO(3);
  for (std::int64_t k = 0; k < blocks; ++k) {
    TILE_LOAD(4, a[0].from + k * channels_of, a[0].bytes);
    TILE_LOAD(6, left + k * side * side, row);
    TILE_MULTIPLY(0, 4, 6);
    if (two_rows) {
      TILE_LOAD(5, a[1].from + k * channels_of, a[1].bytes);
      TILE_MULTIPLY(2, 5, 6);
    }
    if (two_columns) {
      TILE_LOAD(7, right + k * side * side, row);
      TILE_MULTIPLY(1, 4, 7);
      if (two_rows) TILE_MULTIPLY(3, 5, 7);
    }
  }
  TILE_STORE(0, sums, sums_row);
  if (two_columns) TILE_STORE(1, sums + side, sums_row);
  if (two_rows) TILE_STORE(2, sums + side * 2 * side, sums_row);
  if (two_rows && two_columns) TILE_STORE(3, sums + side * 2 * side + side, sums_row);
}

static void gather_gemm(const Bf16* x, std::int64_t ldx, std::int64_t channels,
                        const float* packed, std::int64_t width, const std::int32_t* in,
                        const std::int32_t* out, std::int64_t n, std::int64_t first, float* y,
                        std::int64_t ldy, const float* start, const std::int32_t* next,
                        std::int64_t next_n, const Later& later) {
  if (channels < least_channels)
    return few_channels.gather_gemm(x, ldx, channels, packed, width, in, out, n, first, y, ldy,
                                    start, next, next_n, later);
  alignas(64) Bf16 copies[gemm_chunk * pitch];
  alignas(64) float sums[gemm_chunk * 2 * side];
  const std::uint32_t* weights = reinterpret_cast<const std::uint32_t*>(packed);
  const std::int64_t of_columns = blocks_of(channels, channels_of) * side * side;
  for (std::int64_t p0 = 0; p0 < n; p0 += gemm_chunk) {
    const int now = int(n - p0 < gemm_chunk ? n - p0 : gemm_chunk);
    const bool last = p0 + gemm_chunk >= n;
    const std::int64_t left = last ? next_n : n - p0 - gemm_chunk;
    fetch_rows(x, ldx, last ? next : in + p0 + gemm_chunk,
               int(left < gemm_chunk ? left : gemm_chunk), channels);
    const bool two = now > side;
    for (std::int64_t k = 0; k < channels; k += depth) {
      const std::int64_t deep = channels - k < depth ? channels - k : depth;
      const std::int64_t blocks = blocks_of(deep, channels_of);
      Rows a[2] = {gather(x + k, ldx, in + p0, two ? side : now, deep, copies), {}};
      if (two) a[1] = gather(x + k, ldx, in + p0 + side, now - side, deep, copies + side * pitch);
      const float* begin = k == 0 ? start : nullptr;
      const std::uint32_t* w = weights + k / channels_of * side * side;
      for (std::int64_t column = 0; column < width; column += 2 * side, w += 2 * of_columns) {
        const bool wide = column + side < width;
        if (two && wide)
          block<true, true>(a, w, w + of_columns, blocks, sums);
        else if (two)
          block<true, false>(a, w, nullptr, blocks, sums);
        else if (wide)
          block<false, true>(a, w, w + of_columns, blocks, sums);
        else
          block<false, false>(a, w, nullptr, blocks, sums);
        // a sum is taken from zero and then added, so a row that occurs twice gets both
        const int columns = wide ? 2 * side : side;
        for (int p = 0; p < now; ++p) {
          float* RESTRICT to = y + (out[p0 + p] - first) * ldy + column;
          const float* RESTRICT from = sums + p * 2 * side;
          if (begin != nullptr) {
            for (int d = 0; d < columns; ++d) to[d] = begin[column + d] + from[d];
          } else {
            for (int d = 0; d < columns; ++d) to[d] += from[d];
          }
        }
      }
    }
  }
}

// A tile of sums, 16 channels x 16 columns, += products of `blocks` times 32 pairs; two side by
// side where `two`; or = where nothing has begun.
static inline void outer_block(const std::uint32_t* a, const std::uint32_t* b, bool two,
                               std::int64_t blocks, bool begun, float* acc, std::int64_t lda) {
  constexpr std::int64_t a_row = 4 * (outer_steps + side), b_row = 4 * outer_pitch;
  const std::int64_t row = 4 * lda;
  if (begun) {
    TILE_LOAD(0, acc, row);
    if (two) TILE_LOAD(1, acc + side, row);
  } else {
    TILE_ZERO(0);
    TILE_ZERO(1);
  }
  for (std::int64_t k = 0; k < blocks; ++k) {
    TILE_LOAD(4, a + k * side, a_row);
    TILE_LOAD(6, b + k * side * outer_pitch, b_row);
    TILE_MULTIPLY(0, 4, 6);
    if (two) {
      TILE_LOAD(7, b + k * side * outer_pitch + side, b_row);
      TILE_MULTIPLY(1, 4, 7);
    }
  }
  TILE_STORE(0, acc, row);
  if (two) TILE_STORE(1, acc + side, row);
}

static void gather_outer(const Bf16* x, std::int64_t ldx, std::int64_t channels, const Bf16* g,
                         std::int64_t ldg, std::int64_t width, const std::int32_t* in,
                         const std::int32_t* out, std::int64_t n, const std::int32_t* next_in,
                         const std::int32_t* next_out, std::int64_t next_n, bool begun, float* acc,
                         std::int64_t lda, bool) {
  // steps are two pairs: of x channels by steps, of g steps by columns
  constexpr std::int64_t a_pitch = outer_steps + side;
  alignas(64) std::uint32_t a[outer_limit * a_pitch];
  alignas(64) std::uint32_t b[outer_steps * outer_pitch];
  alignas(64) std::uint32_t square[side * side];
  alignas(64) float rest[side * outer_limit];
  const std::int64_t wide = padded(width);
  for (std::int64_t c = 0; n == 0 && !begun && c < channels; ++c)
    std::memset(acc + c * lda, 0, sizeof(float) * wide);
  for (std::int64_t p0 = 0; p0 < n; p0 += outer_chunk, begun = true) {
    const int now = int(n - p0 < outer_chunk ? n - p0 : outer_chunk);
    const std::int32_t* i = in + p0;
    const std::int32_t* o = out + p0;
    const bool last = p0 + outer_chunk >= n;
    const std::int64_t left = last ? next_n : n - p0 - outer_chunk;
    const int soon = int(left < outer_chunk ? left : outer_chunk);
    fetch_rows(x, ldx, last ? next_in : i + outer_chunk, soon, channels);
    fetch_rows(g, ldg, last ? next_out : o + outer_chunk, soon, width);
    const std::int64_t blocks = blocks_of(now, channels_of);
    for (int s = 0; s < blocks * side; ++s) {
      const int p = 2 * s;
      const Bf16* odd = p + 1 < now ? g + o[p + 1] * ldg : nullptr;
      interleave(p < now ? g + o[p] * ldg : nullptr, odd, b + s * outer_pitch,
                 p < now ? width : 0, wide);
    }
    for (std::int64_t c = 0; c < channels; c += side) {
      const std::int64_t real = channels - c < side ? channels - c : side;
      for (int s = 0; s < blocks * side; ++s) {
        const int p = 2 * s;
        const Bf16* odd = p + 1 < now ? x + i[p + 1] * ldx + c : nullptr;
        interleave(p < now ? x + i[p] * ldx + c : nullptr, odd, square + s % side * side,
                   p < now ? real : 0, side);
        if (s % side == side - 1) turn(square, 4 * side, a + c * a_pitch + s - s % side, a_pitch);
      }
    }
    for (std::int64_t c = 0; c < channels; c += side) {
      const std::int64_t real = channels - c < side ? channels - c : side;
      // a tile has 16 rows, of which acc may lack the last
      const bool aside = real < side;
      float* sums = aside ? rest : acc + c * lda;
      const std::int64_t ld = aside ? wide : lda;
      for (std::int64_t r = 0; aside && begun && r < side; ++r)
        if (r < real)
          std::memcpy(rest + r * wide, acc + (c + r) * lda, sizeof(float) * wide);
        else
          std::memset(rest + r * wide, 0, sizeof(float) * wide);
      for (std::int64_t d = 0; d < wide; d += 2 * side)
        outer_block(a + c * a_pitch, b + d, d + side < wide, blocks, begun, sums + d, ld);
      for (std::int64_t r = 0; aside && r < real; ++r)
        std::memcpy(acc + (c + r) * lda, rest + r * wide, sizeof(float) * wide);
    }
  }
}

static void improve(Loops<Bf16, float>& loops) {
  few_channels = loops;
  loops.padded = padded;
  loops.shared_by = 1;
  loops.pack = pack;
  loops.pack_wide = nullptr;
  loops.gather_gemm = gather_gemm;
  loops.gather_outer = gather_outer;
  loops.begin = begin;
  loops.end = end;
}

}  // namespace tile
