// Products of bfloat16 rows with vdpbf16ps: two channels, or two pairs, are multiplied in one step
// and added in float. The instruction takes denormals for zero, in operands and in sums.
// Included inside the namespace of one instruction set with AVX-512 BF16.

namespace bf16 {

constexpr int vector = 16;         // columns of a register of sums
constexpr int panel_vectors = 4;   // 24 sums, 4 vectors of weights and a broadcast fit in 32
constexpr int gemm_chunk = 48;     // pairs gathered at a time: a multiple of every block height
constexpr int outer_chunk = 96;    // fixed, so that a weight's gradient is always cut alike
constexpr int depth = 128;         // channels of a panel of weights that stays in cache
constexpr int pitch = depth + 32;
// steps of gathered rows, padded so that the rows of a block do not share one cache set
constexpr int outer_pitch = int(outer_limit) + 16;
// rows of a block: those read in place need an address register each
template <int NV>
constexpr int gemm_rows = NV == 4 ? 6 : 8;
template <int NV>
constexpr int outer_rows = NV == 1 ? 16 : 24 / NV;

static std::int64_t padded(std::int64_t width) { return (width + vector - 1) / vector * vector; }
static inline int panel_count(std::int64_t vectors) {
  return int((vectors + panel_vectors - 1) / panel_vectors);
}
static inline int panel_size(std::int64_t vectors, int panel) {
  const int count = panel_count(vectors);
  return int(vectors / count) + (panel < int(vectors % count) ? 1 : 0);
}

// Rows that will be gathered next, fetched while the present ones are multiplied, some in every block:
// all at once would wait for one another.
template <bool far>  // to the second-level cache alone, where the first has no room beside the present rows
struct Ahead {
  const Bf16* x;
  std::int64_t ldx;
  const std::int32_t* rows;
  int count;
  std::int64_t bytes;

  INLINED void touch(int begin, int end) const {
    if (end > count) end = count;
    for (int p = begin; p < end; ++p) {
      const char* row = reinterpret_cast<const char*>(x + rows[p] * ldx);
      for (std::int64_t b = 0; b < bytes; b += 64) far ? PREFETCH_FAR(row + b) : PREFETCH(row + b);
    }
  }
};

#include "simd/bf16_pack.inl.hpp"

static inline __mmask32 first_of_32(std::int64_t n) {
  return n >= 32 ? ~__mmask32(0) : (__mmask32(1) << n) - 1;
}

// Copy n numbers, zeros behind up to a whole register.
static inline void copy_row(const Bf16* from, Bf16* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += 32)
    _mm512_store_si512(to + i, _mm512_maskz_loadu_epi16(first_of_32(n - i), from + i));
}

// Two numbers in every lane.
static inline __m512bh twice(const void* from) {
  int both;
  std::memcpy(&both, from, sizeof both);
  return (__m512bh)_mm512_set1_epi32(both);
}
static inline __m512bh load(const std::uint32_t* from) {
  return (__m512bh)_mm512_load_si512(from);
}
static inline void add(float* to, __m512 v) {
  _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), v));
}

// rows[m][0 : NV vectors] += from[m][0 : steps] w, for m < MR; written as start + product where
// start is given. The sum over channels is taken from zero and then added, so that a row which
// occurs twice in a block gets both products.
template <int NV, int MR, class Step>
static inline void block(const Bf16* const* from, const std::uint32_t* w, std::int64_t steps,
                         float* const* rows, std::int64_t column, const float* start,
                         Step&& meanwhile) {
  const Bf16* a[MR];
  UNROLL for (int m = 0; m < MR; ++m) a[m] = from[m];
  __m512 sum[MR][NV];
  UNROLL for (int m = 0; m < MR; ++m) {
    UNROLL for (int n = 0; n < NV; ++n) sum[m][n] = _mm512_setzero_ps();
  }
  for (std::int64_t k = 0; k < steps; ++k) {
    __m512bh wide[NV];
    UNROLL for (int n = 0; n < NV; ++n) wide[n] = load(w + n * vector);
    w += NV * vector;
    meanwhile();
    UNROLL for (int m = 0; m < MR; ++m) {
      const __m512bh both = twice(a[m] + 2 * k);
      UNROLL for (int n = 0; n < NV; ++n)
        sum[m][n] = _mm512_dpbf16_ps(sum[m][n], both, wide[n]);
    }
  }
  if (start != nullptr) {
    UNROLL for (int m = 0; m < MR; ++m) {
      UNROLL for (int n = 0; n < NV; ++n) {
        const std::int64_t at = column + n * vector;
        _mm512_storeu_ps(rows[m] + at, _mm512_add_ps(_mm512_loadu_ps(start + at), sum[m][n]));
      }
    }
    return;
  }
  UNROLL for (int m = 0; m < MR; ++m) {
    float* row = rows[m] + column;
    UNROLL for (int n = 0; n < NV; ++n) add(row + n * vector, sum[m][n]);
  }
}

template <int NV, int MR>
static inline void last_block(int rest, const Bf16* const* from, const std::uint32_t* w,
                              std::int64_t steps, float* const* rows, std::int64_t column,
                              const float* start) {
  if constexpr (MR > 0) {
    if (rest == MR)
      block<NV, MR>(from, w, steps, rows, column, start, [] {});
    else
      last_block<NV, MR - 1>(rest, from, w, steps, rows, column, start);
  }
}

template <int NV, class Step>
static void panel_gemm(const Bf16* const* from, const std::uint32_t* w, std::int64_t steps, int n,
                       float* const* rows, std::int64_t column, const float* start,
                       const Ahead<false>& ahead, Step&& meanwhile) {
  constexpr int MR = gemm_rows<NV>;
  const int share = n >= MR ? (ahead.count + n / MR - 1) / (n / MR) : ahead.count;
  int p = 0, touched = 0;
  for (; p + MR <= n; p += MR, touched += share) {
    ahead.touch(touched, touched + share);
    block<NV, MR>(from + p, w, steps, rows + p, column, start, meanwhile);
  }
  if (n < MR) ahead.touch(0, ahead.count);
  last_block<NV, MR - 1>(n - p, from + p, w, steps, rows + p, column, start);
}

// Rows are read in place; those of an odd number of channels are copied, with a zero behind.
static void gather_gemm(const Bf16* x, std::int64_t ldx, std::int64_t channels,
                        const float* packed, std::int64_t width, const std::int32_t* in,
                        const std::int32_t* out, std::int64_t n, std::int64_t first, float* y,
                        std::int64_t ldy, const float* start, const std::int32_t* next,
                        std::int64_t next_n, const Later& what) {
  alignas(64) Bf16 copies[gemm_chunk * pitch];
  const Bf16* from[gemm_chunk];
  float* rows[gemm_chunk];
  const std::int64_t vectors = padded(width) / vector;
  const std::int64_t all_steps = (channels + 1) / 2;
  const std::int64_t bytes = channels * std::int64_t(sizeof(Bf16));
  LaterWalk later(what, n / gemm_rows<panel_vectors> * panel_count(vectors) * all_steps);
  for (std::int64_t p0 = 0; p0 < n; p0 += gemm_chunk) {
    const int now = int(n - p0 < gemm_chunk ? n - p0 : gemm_chunk);
    for (int p = 0; p < now; ++p) rows[p] = y + (out[p0 + p] - first) * ldy;
    const bool last = p0 + gemm_chunk >= n;
    const std::int64_t left = last ? next_n : n - p0 - gemm_chunk;
    const int soon = int(left < gemm_chunk ? left : gemm_chunk);
    const Ahead<false> some = {x, ldx, last ? next : in + p0 + gemm_chunk, soon, bytes};
    const Ahead<false> none = {x, ldx, nullptr, 0, bytes};
    for (std::int64_t k = 0; k < channels; k += depth) {
      const std::int64_t deep = channels - k < depth ? channels - k : depth;
      for (int p = 0; p < now; ++p) {
        from[p] = x + in[p0 + p] * ldx + k;
        if (deep % 2 != 0) {
          copy_row(from[p], copies + p * pitch, deep);
          from[p] = copies + p * pitch;
        }
      }
      const std::int64_t steps = (deep + 1) / 2;
      const float* begin = k == 0 ? start : nullptr;
      const std::uint32_t* w = reinterpret_cast<const std::uint32_t*>(packed);
      std::int64_t column = 0;
      for (int panel = 0; panel < panel_count(vectors); ++panel) {
        const int size = panel_size(vectors, panel);
        const std::uint32_t* part = w + k / 2 * size * vector;
        const bool end = k + depth >= channels && panel + 1 == panel_count(vectors);
        const Ahead<false>& ahead = end ? some : none;
        const auto multiply = [&](auto&& step) {
          if (size == 1) panel_gemm<1>(from, part, steps, now, rows, column, begin, ahead, step);
          if (size == 2) panel_gemm<2>(from, part, steps, now, rows, column, begin, ahead, step);
          if (size == 3) panel_gemm<3>(from, part, steps, now, rows, column, begin, ahead, step);
          if (size == 4) panel_gemm<4>(from, part, steps, now, rows, column, begin, ahead, step);
        };
        if (later.any())
          multiply([&] { later.step(); });
        else
          multiply([] {});
        w += all_steps * size * vector;
        column += size * std::int64_t(vector);
      }
    }
  }
}

// to[i] = (even[i], odd[i]) for i < n, zeros behind up to a whole register.
static inline void interleave(const Bf16* even, const Bf16* odd, std::uint32_t* to,
                              std::int64_t n) {
  // words 0 to 31 are those of even, 32 to 63 those of odd: one of each to every lane
  const __m512i low = _mm512_set_epi32(0x2f000f, 0x2e000e, 0x2d000d, 0x2c000c, 0x2b000b, 0x2a000a,
                                       0x290009, 0x280008, 0x270007, 0x260006, 0x250005, 0x240004,
                                       0x230003, 0x220002, 0x210001, 0x200000);
  const __m512i high = _mm512_or_si512(low, _mm512_set1_epi16(16));
  std::int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const __m512i a = _mm512_loadu_si512(even + i), b = _mm512_loadu_si512(odd + i);
    _mm512_store_si512(to + i, _mm512_permutex2var_epi16(a, low, b));
    _mm512_store_si512(to + i + vector, _mm512_permutex2var_epi16(a, high, b));
  }
  if (i == n) return;
  const __mmask32 here = first_of_32(n - i);
  const __m512i a = _mm512_maskz_loadu_epi16(here, even + i);
  const __m512i b = _mm512_maskz_loadu_epi16(here, odd + i);
  _mm512_store_si512(to + i, _mm512_permutex2var_epi16(a, low, b));
  if (n - i > vector) _mm512_store_si512(to + i + vector, _mm512_permutex2var_epi16(a, high, b));
}

// acc[m][0 : NV vectors] += sum over steps of a[s][m] b[s][0 : NV vectors], for m < MR; or = where nothing
// has begun, past the caches where told so.
template <int NV, int MR>
static inline void outer_block(const std::uint32_t* a, const std::uint32_t* b, int steps,
                               Write how, float* acc, std::int64_t lda) {
  __m512 sum[MR][NV];
  UNROLL for (int m = 0; m < MR; ++m) {
    UNROLL for (int n = 0; n < NV; ++n) sum[m][n] = _mm512_setzero_ps();
  }
  for (int s = 0; s < steps; ++s) {
    __m512bh wide[NV];
    UNROLL for (int n = 0; n < NV; ++n) wide[n] = load(b + n * vector);
    UNROLL for (int m = 0; m < MR; ++m) {
      const __m512bh both = twice(a + m);
      UNROLL for (int n = 0; n < NV; ++n)
        sum[m][n] = _mm512_dpbf16_ps(sum[m][n], both, wide[n]);
    }
    a += outer_pitch;
    b += outer_pitch;
  }
  UNROLL for (int m = 0; m < MR; ++m) {
    float* row = acc + m * lda;
    if (how == Write::add) {
      UNROLL for (int n = 0; n < NV; ++n) add(row + n * vector, sum[m][n]);
    } else if (how == Write::past) {
      UNROLL for (int n = 0; n < NV; ++n) _mm512_stream_ps(row + n * vector, sum[m][n]);
    } else {
      UNROLL for (int n = 0; n < NV; ++n) _mm512_storeu_ps(row + n * vector, sum[m][n]);
    }
  }
}

template <int NV, int MR>
static inline void last_outer(int rest, const std::uint32_t* a, const std::uint32_t* b, int steps,
                              Write how, float* acc, std::int64_t lda) {
  if constexpr (MR > 0) {
    if (rest == MR)
      outer_block<NV, MR>(a, b, steps, how, acc, lda);
    else
      last_outer<NV, MR - 1>(rest, a, b, steps, how, acc, lda);
  }
}

template <int NV>
static void panel_outer(const std::uint32_t* a, int channels, const std::uint32_t* b, int steps,
                        Write how, float* acc, std::int64_t lda, const Ahead<true>& ahead_a,
                        const Ahead<true>& ahead_b) {
  constexpr int MR = outer_rows<NV>;
  const int share = (outer_chunk * MR + channels - 1) / channels;
  int c = 0, touched = 0;
  for (; c + MR <= channels; c += MR, touched += share) {
    ahead_a.touch(touched, touched + share);
    ahead_b.touch(touched, touched + share);
    outer_block<NV, MR>(a + c, b, steps, how, acc + c * lda, lda);
  }
  last_outer<NV, MR - 1>(channels - c, a + c, b, steps, how, acc + c * lda, lda);
}

static void gather_outer(const Bf16* x, std::int64_t ldx, std::int64_t channels, const Bf16* g,
                         std::int64_t ldg, std::int64_t width, const std::int32_t* in,
                         const std::int32_t* out, std::int64_t n, const std::int32_t* next_in,
                         const std::int32_t* next_out, std::int64_t next_n, bool begun, float* acc,
                         std::int64_t lda, bool past) {
  alignas(64) std::uint32_t a[outer_chunk / 2 * outer_pitch];
  alignas(64) std::uint32_t b[outer_chunk / 2 * outer_pitch];
  alignas(64) const Bf16 none[outer_limit] = {};  // the partner of an odd last pair
  const std::int64_t wide = padded(width);
  for (std::int64_t c = 0; n == 0 && !begun && c < channels; ++c)
    for (std::int64_t d = 0; d < wide; d += vector)
      _mm512_storeu_ps(acc + c * lda + d, _mm512_setzero_ps());
  for (std::int64_t p0 = 0; p0 < n; p0 += outer_chunk, begun = true) {
    const int now = int(n - p0 < outer_chunk ? n - p0 : outer_chunk);
    const std::int32_t* i = in + p0;
    const std::int32_t* o = out + p0;
    for (int p = 0; p < now; p += 2) {
      const bool two = p + 1 < now;
      interleave(x + i[p] * ldx, two ? x + i[p + 1] * ldx : none, a + p / 2 * outer_pitch,
                 channels);
      interleave(g + o[p] * ldg, two ? g + o[p + 1] * ldg : none, b + p / 2 * outer_pitch, width);
    }
    const bool last = p0 + outer_chunk >= n;
    const std::int64_t left = last ? next_n : n - p0 - outer_chunk;
    const int soon = int(left < outer_chunk ? left : outer_chunk);
    const std::int64_t bytes = sizeof(Bf16);
    Ahead<true> ahead_a = {x, ldx, last ? next_in : i + outer_chunk, soon, channels * bytes};
    Ahead<true> ahead_b = {g, ldg, last ? next_out : o + outer_chunk, soon, width * bytes};
    const int steps = (now + 1) / 2;
    const Write how = write_mode(begun, past && last, acc, lda);
    std::int64_t column = 0;
    for (int panel = 0; panel < panel_count(wide / vector); ++panel) {
      const int size = panel_size(wide / vector, panel);
      const std::uint32_t* from = b + column;
      float* to = acc + column;
      const int rows = int(channels);
      if (size == 1) panel_outer<1>(a, rows, from, steps, how, to, lda, ahead_a, ahead_b);
      if (size == 2) panel_outer<2>(a, rows, from, steps, how, to, lda, ahead_a, ahead_b);
      if (size == 3) panel_outer<3>(a, rows, from, steps, how, to, lda, ahead_a, ahead_b);
      if (size == 4) panel_outer<4>(a, rows, from, steps, how, to, lda, ahead_a, ahead_b);
      ahead_a.count = ahead_b.count = 0;
      column += size * std::int64_t(vector);
    }
    end_writes(how);
  }
}

}  // namespace bf16
