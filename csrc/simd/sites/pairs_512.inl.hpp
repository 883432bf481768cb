// Pairs from lists of neighbours and of children, sixteen rows at a time. Included inside the namespace
// of one instruction set.

static void count_lists(const std::uint64_t* words, std::int64_t begin, std::int64_t end,
                        std::int64_t* counts) {
  __m512i low = _mm512_setzero_si512(), high = low;
  const __m512i one = _mm512_set1_epi32(1);
  for (std::int64_t row = begin; row < end; ++row) {
    low = _mm512_mask_add_epi32(low, __mmask16(words[row]), low, one);
    high = _mm512_mask_add_epi32(high, __mmask16(words[row] >> 16 & 0x7ff), high, one);
  }
  std::int32_t sums[32];
  _mm512_storeu_si512(sums, low);
  _mm512_storeu_si512(sums + 16, high);
  for (int t = 0; t < 27; ++t) counts[t] = sums[t];
}

static void count_kids(const SiteTree& tree, std::int64_t begin, std::int64_t end,
                       std::int64_t* counts) {
  for (int o = 0; o < 8; ++o) counts[o] = 0;
  for (; begin < end; begin += 16) {
    const __mmask16 inside = end - begin >= 16 ? 0xffff : __mmask16((1u << (end - begin)) - 1);
    __m512i first, kids;
    split(tree.families + begin, first, kids);
    kids = _mm512_maskz_mov_epi32(inside, kids);
    UNROLL
    for (int o = 0; o < 8; ++o)
      counts[o] += __builtin_popcount(_mm512_test_epi32_mask(kids, _mm512_set1_epi32(1 << o)));
  }
}

static inline void transpose(__m512i* rows) {
  __m512i a[16];
  UNROLL
  for (int i = 0; i < 16; i += 4) {
    const __m512i ab = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    const __m512i AB = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    const __m512i cd = _mm512_unpacklo_epi32(rows[i + 2], rows[i + 3]);
    const __m512i CD = _mm512_unpackhi_epi32(rows[i + 2], rows[i + 3]);
    a[i] = _mm512_unpacklo_epi64(ab, cd);
    a[i + 1] = _mm512_unpackhi_epi64(ab, cd);
    a[i + 2] = _mm512_unpacklo_epi64(AB, CD);
    a[i + 3] = _mm512_unpackhi_epi64(AB, CD);
  }
  UNROLL
  for (int i = 0; i < 4; ++i) {
    const __m512i even = _mm512_shuffle_i32x4(a[i], a[i + 4], 0x88);
    const __m512i odd = _mm512_shuffle_i32x4(a[i], a[i + 4], 0xdd);
    const __m512i even2 = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0x88);
    const __m512i odd2 = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0xdd);
    rows[i] = _mm512_shuffle_i32x4(even, even2, 0x88);
    rows[i + 4] = _mm512_shuffle_i32x4(odd, odd2, 0x88);
    rows[i + 8] = _mm512_shuffle_i32x4(even, even2, 0xdd);
    rows[i + 12] = _mm512_shuffle_i32x4(odd, odd2, 0xdd);
  }
}

constexpr int ahead = 64;  // pairs of a tap to fetch before they are written

// Append those of 16 pairs that are there.
static inline void append(__mmask16 there, __m512i ins, __m512i outs, std::int64_t& at,
                          std::int64_t stop, std::int32_t* in, std::int32_t* out) {
  ins = _mm512_maskz_compress_epi32(there, ins);
  outs = _mm512_maskz_compress_epi32(there, outs);
  const std::int64_t place = at;
  const int count = __builtin_popcount(there);
  at = place + count;
  // too many streams for the processor to foresee
  PREFETCH(in + place + ahead);
  PREFETCH(out + place + ahead);
  if (place + 16 <= stop) {
    _mm512_storeu_si512(in + place, ins);
    _mm512_storeu_si512(out + place, outs);
  } else {
    // what follows belongs to another tap
    const __mmask16 kept = __mmask16((1u << count) - 1);
    _mm512_mask_storeu_epi32(in + place, kept, ins);
    _mm512_mask_storeu_epi32(out + place, kept, outs);
  }
}

static inline __m512i sixteen_from(std::int64_t first) {
  return _mm512_add_epi32(
      _mm512_set1_epi32(std::int32_t(first)),
      _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}

// Append the pairs of up to 16 columns of 16 rows, tap by tap.
static inline void append_columns(__m512i* rows, int columns, std::int64_t first, std::int64_t* at,
                                  const std::int64_t* stop, std::int32_t* in, std::int32_t* out) {
  transpose(rows);
  const __m512i numbers = sixteen_from(first);
  UNROLL
  for (int t = 0; t < columns; ++t)
    append(__mmask16(~_mm512_movepi32_mask(rows[t])), rows[t], numbers, at[t], stop[t], in, out);
}

static void pairs_of_lists(const std::uint64_t* words, const std::int32_t* list,
                           std::int64_t begin, std::int64_t end, std::int64_t* at,
                           const std::int64_t* stop, std::int32_t* in, std::int32_t* out) {
  const __m512i absent = _mm512_set1_epi32(-1);
  for (std::int64_t first = begin; first < end; first += 16) {
    __m512i low[16], high[16];
    UNROLL
    for (int i = 0; i < 16; ++i) {
      low[i] = high[i] = absent;
      if (first + i >= end) continue;
      const std::uint64_t word = words[first + i];
      // rows that are neighbours here need not have been written together
      if (first + i + 32 < end) {
        const std::int32_t* next = list + (words[first + i + 32] >> 27);
        PREFETCH(next);
        PREFETCH(next + 16);
      }
      const std::int32_t* from = list + (word >> 27);
      const __mmask16 a = __mmask16(word), b = __mmask16(word >> 16 & 0x7ff);
      low[i] = _mm512_mask_expand_epi32(absent, a, _mm512_loadu_si512(from));
      high[i] = _mm512_mask_expand_epi32(absent, b,
                                         _mm512_loadu_si512(from + __builtin_popcount(a)));
    }
    append_columns(low, 16, first, at, stop, in, out);
    append_columns(high, 11, first, at + 16, stop + 16, in, out);
  }
}

static void pairs_of_kids(const SiteTree& tree, const std::int32_t* rows, std::int64_t begin,
                          std::int64_t end, std::int64_t* at, const std::int64_t* stop,
                          std::int32_t* in, std::int32_t* out) {
  std::int64_t from[8];
  for (int o = 0; o < 8; ++o) from[o] = at[o];
  for (; begin < end; begin += 16) {
    const __mmask16 inside = end - begin >= 16 ? 0xffff : __mmask16((1u << (end - begin)) - 1);
    __m512i first, kids;
    split(tree.families + begin, first, kids);
    kids = _mm512_maskz_mov_epi32(inside, kids);
    const __m512i numbers = sixteen_from(begin);
    UNROLL
    for (int o = 0; o < 8; ++o) {
      const __m512i before =
          _mm512_and_si512(_mm512_srli_epi32(kids, 8 + 3 * o), _mm512_set1_epi32(7));
      append(_mm512_test_epi32_mask(kids, _mm512_set1_epi32(1 << o)),
             _mm512_add_epi32(first, before), numbers, at[o], stop[o], in, out);
    }
  }
  if (rows)
    for (int o = 0; o < 8; ++o) rename(rows, in + from[o], at[o] - from[o]);
}

static void halve_sites(const std::int32_t* sites, const std::uint64_t* families,
                        const std::int32_t* rows, std::int64_t begin, std::int64_t end,
                        std::int32_t* halved) {
  const __m512i step = _mm512_setr_epi32(0, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1);
  const auto child = [&](std::int64_t node) {
    const std::int32_t first = first_of(families[node]);
    return sites + 4 * std::int64_t(rows ? rows[first] : first);
  };
  const auto load = [&](std::int64_t node) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(child(node)));
  };
  constexpr std::int64_t far = 16;  // rows may lie anywhere
  for (; begin + 4 <= end; begin += 4) {
    if (rows)
      for (std::int64_t i = begin + far; i < begin + far + 4 && i < end; ++i) PREFETCH(child(i));
    __m512i four = _mm512_castsi128_si512(load(begin));
    four = _mm512_inserti32x4(four, load(begin + 1), 1);
    four = _mm512_inserti32x4(four, load(begin + 2), 2);
    four = _mm512_inserti32x4(four, load(begin + 3), 3);
    _mm512_storeu_si512(halved + 4 * begin, _mm512_srav_epi32(four, step));
  }
  for (; begin < end; ++begin)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(halved + 4 * begin),
                     _mm_srav_epi32(load(begin), _mm512_castsi512_si128(step)));
}
