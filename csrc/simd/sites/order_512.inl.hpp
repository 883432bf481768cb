// Keys of sites in Z-order, sixteen at a time: see core/zkey.hpp. Included inside the namespace of
// one instruction set.

#if defined(__GNUC__) && !defined(__clang__)
// gcc 12 takes the undefined operand of its own intrinsics for a mistake
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

static void box(const std::int32_t* sites, std::int64_t n, std::int32_t* low, std::int32_t* high) {
  __m512i least[2], most[2];
  for (int i = 0; i < 2; ++i) {
    least[i] = _mm512_set1_epi32(INT32_MAX);
    most[i] = _mm512_set1_epi32(INT32_MIN);
  }
  std::int64_t at = 0;
  for (; at + 8 <= n; at += 8)
    for (int i = 0; i < 2; ++i) {
      const __m512i four = _mm512_loadu_si512(sites + 4 * at + 16 * i);
      least[i] = _mm512_min_epi32(least[i], four);
      most[i] = _mm512_max_epi32(most[i], four);
    }
  std::int32_t lows[16], highs[16];
  _mm512_storeu_si512(lows, _mm512_min_epi32(least[0], least[1]));
  _mm512_storeu_si512(highs, _mm512_max_epi32(most[0], most[1]));
  for (int a = 0; a < 4; ++a) {
    low[a] = lows[a];
    high[a] = highs[a];
    const auto add = [&](std::int32_t smallest, std::int32_t largest) {
      low[a] = smallest < low[a] ? smallest : low[a];
      high[a] = largest > high[a] ? largest : high[a];
    };
    for (int i = 4 + a; i < 16; i += 4) add(lows[i], highs[i]);
    for (std::int64_t i = at; i < n; ++i) add(sites[4 * i + a], sites[4 * i + a]);
  }
}

// Keys of sixteen sites.
static inline __m512i sixteen_keys(const ZSpread& spread, const std::int32_t* sites) {
  // columns of batch and x, and of y and z, eight sites each
  const __m512i pairs = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
  const __m512i two = _mm512_set1_epi32(2);
  __m512i columns[4];
  {
    const __m512i a = _mm512_loadu_si512(sites), b = _mm512_loadu_si512(sites + 16);
    const __m512i c = _mm512_loadu_si512(sites + 32), d = _mm512_loadu_si512(sites + 48);
    const __m512i later = _mm512_add_epi32(pairs, two);
    const __m512i ab = _mm512_permutex2var_epi32(a, pairs, b), AB = _mm512_permutex2var_epi32(a, later, b);
    const __m512i cd = _mm512_permutex2var_epi32(c, pairs, d), CD = _mm512_permutex2var_epi32(c, later, d);
    columns[0] = _mm512_shuffle_i64x2(ab, cd, 0x44);
    columns[1] = _mm512_shuffle_i64x2(ab, cd, 0xee);
    columns[2] = _mm512_shuffle_i64x2(AB, CD, 0x44);
    columns[3] = _mm512_shuffle_i64x2(AB, CD, 0xee);
  }
  __m512i key = _mm512_sll_epi32(
      _mm512_sub_epi32(columns[0], _mm512_set1_epi32(std::int32_t(spread.base[0]))),
      _mm_cvtsi32_si128(spread.batch_bit));
  for (int a = 0; a < 3; ++a) {
    __m512i left =
        _mm512_sub_epi32(columns[a + 1], _mm512_set1_epi32(std::int32_t(spread.base[a + 1])));
    for (int chunk = 0; chunk < spread.chunks; ++chunk) {
      // the permutation reads the lowest four bits
      key = _mm512_or_si512(
          key, _mm512_permutexvar_epi32(left, _mm512_load_si512(spread.of[a][chunk])));
      left = _mm512_srli_epi32(left, 4);
    }
  }
  return key;
}

static std::int64_t z_keys(const ZSpread& spread, const std::int32_t* sites, std::int64_t begin,
                           std::int64_t end, std::uint32_t* keys) {
  std::int64_t falls = 0;
  for (std::int64_t i = begin; i < end; i += 16) {
    if (end - i >= 16) {
      _mm512_storeu_si512(keys + i, sixteen_keys(spread, sites + 4 * i));
    } else {
      std::int32_t last[64] = {};
      std::memcpy(last, sites + 4 * i, std::size_t(end - i) * 16);
      _mm512_mask_storeu_epi32(keys + i, __mmask16((1u << (end - i)) - 1),
                               sixteen_keys(spread, last));
    }
  }
  std::int64_t i = begin + 1;
  for (; i + 16 <= end; i += 16)
    falls += __builtin_popcount(_mm512_cmplt_epu32_mask(_mm512_loadu_si512(keys + i),
                                                        _mm512_loadu_si512(keys + i - 1)));
  for (; i < end; ++i) falls += keys[i] < keys[i - 1];
  return falls;
}

static void count_steps(const std::uint32_t* keys, std::int64_t n, const int* bits, int levels,
                        std::int64_t* counts) {
  constexpr int group = 12;
  for (int first = 0; first < levels; first += group) {
    __m512i below[group], sums[group];
    for (int l = 0; l < group; ++l) {
      const bool inside = first + l < levels;
      below[l] = _mm512_set1_epi32(
          std::int32_t(inside ? (std::uint32_t(1) << bits[first + l]) - 1 : ~std::uint32_t(0)));
      sums[l] = _mm512_setzero_si512();
    }
    const __m512i one = _mm512_set1_epi32(1);
    for (std::int64_t i = 1; i < n; i += 16) {
      const __mmask16 there = n - i >= 16 ? 0xffff : __mmask16((1u << (n - i)) - 1);
      const __m512i step = _mm512_xor_si512(_mm512_maskz_loadu_epi32(there, keys + i),
                                            _mm512_maskz_loadu_epi32(there, keys + i - 1));
      UNROLL
      for (int l = 0; l < group; ++l)
        sums[l] = _mm512_mask_add_epi32(sums[l], _mm512_cmpgt_epu32_mask(step, below[l]), sums[l],
                                        one);
    }
    for (int l = 0; l < group && first + l < levels; ++l)
      counts[first + l] = _mm512_reduce_add_epi32(sums[l]);
  }
}

// The upper halves of families whose kids are all in the first four octants, or all in the others:
// their sum is that of any family.
struct HalfFamilies {
  std::uint32_t low[16], high[16];
};
constexpr HalfFamilies make_half_families() {
  HalfFamilies made{};
  for (std::uint32_t mask = 0; mask < 16; ++mask)
    for (int octant = 0; octant < 8; ++octant) {
      const std::uint32_t below = (std::uint32_t(1) << octant) - 1;
      for (std::uint32_t left = mask & below; left; left &= left - 1)
        made.low[mask] += std::uint32_t(1) << (8 + 3 * octant);
      for (std::uint32_t left = mask << 4 & below; left; left &= left - 1)
        made.high[mask] += std::uint32_t(1) << (8 + 3 * octant);
      if (octant < 4) {
        made.low[mask] |= mask & std::uint32_t(1) << octant;
        made.high[mask] |= (mask & std::uint32_t(1) << octant) << 4;
      }
    }
  return made;
}
static constexpr HalfFamilies half_families = make_half_families();

static std::int64_t gather_families(const std::uint32_t* keys, std::int64_t n,
                                    std::uint64_t* families, std::uint32_t* parents) {
  const __m512i one = _mm512_set1_epi32(1), seven = _mm512_set1_epi32(7);
  const __m512i low_half = _mm512_loadu_si512(half_families.low);
  const __m512i high_half = _mm512_loadu_si512(half_families.high);
  const __m512i index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i evens = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  // of the sixteen children before: parents, and octants of the parent up to 1, 2 or 4 children
  // before and the child itself
  __m512i last_parent = _mm512_set1_epi32(-1), last[3] = {};
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < n; i += 16) {
    const std::int64_t left = n - i;
    const __mmask16 there = left >= 16 ? 0xffff : __mmask16((1u << left) - 1);
    const __m512i key = _mm512_maskz_loadu_epi32(there, keys + i);
    const __m512i parent = _mm512_srli_epi32(key, 3);
    __m512i kids = _mm512_sllv_epi32(one, _mm512_and_si512(key, seven));
#define WIDEN(step, distance)                                                               \
  {                                                                                         \
    const __m512i before = _mm512_alignr_epi32(kids, last[step], 16 - distance);            \
    const __mmask16 alike = _mm512_cmpeq_epi32_mask(                                        \
        parent, _mm512_alignr_epi32(parent, last_parent, 16 - distance));                   \
    last[step] = kids;                                                                      \
    kids = _mm512_mask_or_epi32(kids, alike, kids, before);                                 \
  }
    WIDEN(0, 1)
    WIDEN(1, 2)
    WIDEN(2, 4)
#undef WIDEN
    last_parent = parent;
    // the last child of each parent knows all of them
    const __mmask16 followed = left > 16 ? 0xffff : __mmask16((1u << (left - 1)) - 1);
    const __m512i next = _mm512_srli_epi32(_mm512_maskz_loadu_epi32(followed, keys + i + 1), 3);
    const __mmask16 ends =
        __mmask16(there & (_mm512_cmpneq_epi32_mask(parent, next) | __mmask16(~followed)));
    kids = _mm512_add_epi32(_mm512_permutexvar_epi32(kids, low_half),
                            _mm512_permutexvar_epi32(_mm512_srli_epi32(kids, 4), high_half));
    // those before octant 7, and that one
    const __m512i number = _mm512_add_epi32(
        _mm512_srli_epi32(kids, 29), _mm512_and_si512(_mm512_srli_epi32(kids, 7), one));
    const __m512i first = _mm512_sub_epi32(
        _mm512_add_epi32(index, _mm512_set1_epi32(std::int32_t(i) + 1)), number);
    const __m512i firsts = _mm512_maskz_compress_epi32(ends, first);
    const __m512i words = _mm512_maskz_compress_epi32(ends, kids);
    _mm512_storeu_si512(families + count, _mm512_permutex2var_epi32(firsts, evens, words));
    _mm512_storeu_si512(families + count + 8,
                        _mm512_permutex2var_epi32(
                            firsts, _mm512_add_epi32(evens, _mm512_set1_epi32(8)), words));
    _mm512_storeu_si512(parents + count, _mm512_maskz_compress_epi32(ends, parent));
    count += __builtin_popcount(ends);
  }
  return count;
}
