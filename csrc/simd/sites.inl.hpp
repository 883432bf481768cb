// Neighbours by halved lattices, and pair lists from tables of rows: see kernels/pyramid.hpp.
// Included inside the namespace of one instruction set.

// For a child in one of the eight octants of its parent: which of the parent's 27 neighbours (and
// itself) hold the child's neighbours, and in which of the 8 x 8 octants of those each one is.
struct Octant {
  std::uint8_t parent[8];       // of the parent's cube
  std::uint8_t source[27];      // 8 * number in `parent` + octant
  std::int32_t lane[32];        // source modulo 32
  std::uint32_t upper;          // bit t: source[t] >= 32
};
struct Octants {
  Octant of[8];
};

constexpr Octants make_octants() {
  Octants made{};
  for (int o = 0; o < 8; ++o) {
    Octant& octant = made.of[o];
    const int at[3] = {o >> 2 & 1, o >> 1 & 1, o & 1};
    for (int j = 0; j < 8; ++j) {
      const int away[3] = {j >> 2 & 1, j >> 1 & 1, j & 1};
      int slot = 0;
      for (int a = 0; a < 3; ++a) slot = 3 * slot + 1 + (away[a] ? 2 * at[a] - 1 : 0);
      octant.parent[j] = std::uint8_t(slot);
    }
    for (int t = 0; t < 27; ++t) {
      const int step[3] = {t / 9 - 1, t / 3 % 3 - 1, t % 3 - 1};
      int parent = 0, inside = 0;
      for (int a = 0; a < 3; ++a) {
        const int to = at[a] + step[a];
        parent = 2 * parent + (to < 0 || to > 1);
        inside = 2 * inside + (to & 1);
      }
      octant.source[t] = std::uint8_t(8 * parent + inside);
      octant.lane[t] = (8 * parent + inside) % 32;
      octant.upper |= std::uint32_t(parent >= 4) << t;
    }
  }
  return made;
}

static constexpr Octants octants = make_octants();
constexpr std::uint32_t all_taps = (std::uint32_t(1) << 27) - 1;

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && \
    !defined(SPARSECONV_PLAIN_VECTORS)

#if defined(__GNUC__) && !defined(__clang__)
// gcc 12 takes the undefined operand of its own intrinsics for a mistake
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

struct Cube {
  __m512i low, high;  // taps 0 to 15, and 16 to 26
  std::uint32_t mask;
};

constexpr int far = 24;  // children whose row is fetched before it is written

static inline __m512i two_families(const std::int32_t* kids, std::int32_t a, std::int32_t b) {
  const __m256i first = _mm256_loadu_si256((const __m256i*)(kids + 8 * std::int64_t(a)));
  const __m256i second = _mm256_loadu_si256((const __m256i*)(kids + 8 * std::int64_t(b)));
  return _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
}

static inline Cube cube_of(const SiteTree& tree, std::int64_t child) {
  const std::uint32_t where = tree.where[child];
  const Octant& octant = octants.of[where & 7];
  const std::int32_t* around = tree.table + 27 * std::int64_t(where >> 3);
  const auto parent = [&](int j) { return around[octant.parent[j]]; };
  const __m512i z0 = two_families(tree.kids, parent(0), parent(1));
  const __m512i z1 = two_families(tree.kids, parent(2), parent(3));
  const __m512i z2 = two_families(tree.kids, parent(4), parent(5));
  const __m512i z3 = two_families(tree.kids, parent(6), parent(7));
  const __m512i first = _mm512_loadu_si512(octant.lane);
  const __m512i second = _mm512_loadu_si512(octant.lane + 16);
  Cube cube;
  cube.low = _mm512_mask_blend_epi32(__mmask16(octant.upper),
                                     _mm512_permutex2var_epi32(z0, first, z1),
                                     _mm512_permutex2var_epi32(z2, first, z3));
  cube.high = _mm512_mask_blend_epi32(__mmask16(octant.upper >> 16),
                                      _mm512_permutex2var_epi32(z0, second, z1),
                                      _mm512_permutex2var_epi32(z2, second, z3));
  const std::uint32_t absent = std::uint32_t(_mm512_movepi32_mask(cube.low)) |
                               std::uint32_t(_mm512_movepi32_mask(cube.high)) << 16;
  cube.mask = ~absent & all_taps;
  return cube;
}

static void neighbour_rows(const SiteTree& tree, std::int64_t begin, std::int64_t end,
                           std::int32_t* table) {
  for (std::int64_t child = begin; child < end; ++child) {
    const Cube cube = cube_of(tree, child);
    _mm512_storeu_si512(table + 27 * child, cube.low);
    _mm512_mask_storeu_epi32(table + 27 * child + 16, 0x7ff, cube.high);
  }
}

static void neighbour_lists(const SiteTree& tree, std::int64_t begin, std::int64_t end,
                            std::uint64_t* words, std::int32_t* list, std::int64_t place) {
  for (std::int64_t child = begin; child < end; ++child) {
    // rows may lie anywhere
    if (child + far < end) PREFETCH(words + tree.kids[tree.where[child + far]]);
    const Cube cube = cube_of(tree, child);
    words[tree.kids[tree.where[child]]] = cube.mask | std::uint64_t(place) << 27;
    const __mmask16 low = __mmask16(cube.mask), high = __mmask16(cube.mask >> 16);
    _mm512_storeu_si512(list + place, _mm512_maskz_compress_epi32(low, cube.low));
    place += __builtin_popcount(low);
    _mm512_storeu_si512(list + place, _mm512_maskz_compress_epi32(high, cube.high));
    place += __builtin_popcount(high);
  }
}

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

template <int columns>
static void count_columns(const std::int32_t* table, std::int64_t begin, std::int64_t end,
                          std::int64_t* counts) {
  __m512i low = _mm512_setzero_si512(), high = low;
  const __m512i one = _mm512_set1_epi32(1);
  const __mmask16 wide = columns == 27 ? 0xffff : 0xff, rest = columns == 27 ? 0x7ff : 0;
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int32_t* from = table + columns * row;
    const __m512i absent = _mm512_set1_epi32(-1);
    const __m512i a = _mm512_mask_loadu_epi32(absent, wide, from);
    const __m512i b = _mm512_mask_loadu_epi32(absent, rest, from + 16);
    low = _mm512_mask_add_epi32(low, __mmask16(~_mm512_movepi32_mask(a)), low, one);
    high = _mm512_mask_add_epi32(high, __mmask16(~_mm512_movepi32_mask(b)), high, one);
  }
  std::int32_t sums[32];
  _mm512_storeu_si512(sums, low);
  _mm512_storeu_si512(sums + 16, high);
  for (int t = 0; t < columns; ++t) counts[t] = sums[t];
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

// Append the pairs of up to 16 columns of 16 rows, tap by tap.
static inline void append(__m512i* rows, int columns, std::int64_t first, std::int64_t* at,
                          const std::int64_t* stop, std::int32_t* in, std::int32_t* out) {
  transpose(rows);
  const __m512i numbers =
      _mm512_add_epi32(_mm512_set1_epi32(std::int32_t(first)),
                       _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  UNROLL
  for (int t = 0; t < columns; ++t) {
    const __mmask16 there = __mmask16(~_mm512_movepi32_mask(rows[t]));
    const __m512i ins = _mm512_maskz_compress_epi32(there, rows[t]);
    const __m512i outs = _mm512_maskz_compress_epi32(there, numbers);
    const std::int64_t place = at[t];
    const int count = __builtin_popcount(there);
    at[t] = place + count;
    // too many streams for the processor to foresee
    PREFETCH(in + place + ahead);
    PREFETCH(out + place + ahead);
    if (place + 16 <= stop[t]) {
      _mm512_storeu_si512(in + place, ins);
      _mm512_storeu_si512(out + place, outs);
    } else {
      // what follows belongs to another tap
      const __mmask16 kept = __mmask16((1u << count) - 1);
      _mm512_mask_storeu_epi32(in + place, kept, ins);
      _mm512_mask_storeu_epi32(out + place, kept, outs);
    }
  }
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
    append(low, 16, first, at, stop, in, out);
    append(high, 11, first, at + 16, stop + 16, in, out);
  }
}

template <int columns>
static void pairs_of_columns(const std::int32_t* table, std::int64_t begin, std::int64_t end,
                             std::int64_t* at, const std::int64_t* stop, std::int32_t* in,
                             std::int32_t* out) {
  const __m512i absent = _mm512_set1_epi32(-1);
  for (std::int64_t first = begin; first < end; first += 16) {
    __m512i low[16], high[16];
    const std::int32_t* from = table + columns * first;
    UNROLL
    for (int i = 0; i < 16; ++i) {
      const bool inside = first + i < end;
      const __mmask16 wide = !inside ? 0 : columns == 27 ? 0xffff : 0xff;
      const __mmask16 rest = !inside || columns != 27 ? 0 : 0x7ff;
      low[i] = _mm512_mask_loadu_epi32(absent, wide, from + columns * i);
      high[i] = _mm512_mask_loadu_epi32(absent, rest, from + columns * i + 16);
    }
    if (columns == 27) {
      append(low, 16, first, at, stop, in, out);
      append(high, 11, first, at + 16, stop + 16, in, out);
    } else {
      append(low, 8, first, at, stop, in, out);
    }
  }
}

static void count_rows(const std::int32_t* table, int columns, std::int64_t begin,
                       std::int64_t end, std::int64_t* counts) {
  (columns == 27 ? count_columns<27> : count_columns<8>)(table, begin, end, counts);
}

static void pairs_of_rows(const std::int32_t* table, int columns, std::int64_t begin,
                          std::int64_t end, std::int64_t* at, const std::int64_t* stop,
                          std::int32_t* in, std::int32_t* out) {
  (columns == 27 ? pairs_of_columns<27> : pairs_of_columns<8>)(table, begin, end, at, stop, in,
                                                               out);
}

#else

static inline std::uint32_t cube_of(const SiteTree& tree, std::int64_t child, std::int32_t* cube) {
  const std::uint32_t where = tree.where[child];
  const Octant& octant = octants.of[where & 7];
  const std::int32_t* around = tree.table + 27 * std::int64_t(where >> 3);
  std::int32_t families[64];
  for (int j = 0; j < 8; ++j)
    std::memcpy(families + 8 * j, tree.kids + 8 * std::int64_t(around[octant.parent[j]]), 32);
  std::uint32_t mask = 0;
  UNROLL
  for (int t = 0; t < 27; ++t) {
    cube[t] = families[octant.source[t]];
    mask |= std::uint32_t(cube[t] >= 0) << t;
  }
  return mask;
}

static void neighbour_rows(const SiteTree& tree, std::int64_t begin, std::int64_t end,
                           std::int32_t* table) {
  for (std::int64_t child = begin; child < end; ++child) (void)cube_of(tree, child, table + 27 * child);
}

static void neighbour_lists(const SiteTree& tree, std::int64_t begin, std::int64_t end,
                            std::uint64_t* words, std::int32_t* list, std::int64_t place) {
  for (std::int64_t child = begin; child < end; ++child) {
    std::int32_t cube[27];
    const std::uint32_t mask = cube_of(tree, child, cube);
    words[tree.kids[tree.where[child]]] = mask | std::uint64_t(place) << 27;
    UNROLL
    for (int t = 0; t < 27; ++t) {
      list[place] = cube[t];
      place += cube[t] >= 0;
    }
  }
}

static inline int lowest_bit(std::uint32_t mask) {
#if defined(__GNUC__) || defined(__clang__)
  return __builtin_ctz(mask);
#else
  int bit = 0;
  while (!(mask >> bit & 1)) ++bit;
  return bit;
#endif
}

static void count_lists(const std::uint64_t* words, std::int64_t begin, std::int64_t end,
                        std::int64_t* counts) {
  std::int32_t sums[32] = {};
  for (std::int64_t row = begin; row < end; ++row) {
    const std::uint32_t mask = std::uint32_t(words[row]) & all_taps;
    for (int t = 0; t < 32; ++t) sums[t] += std::int32_t(mask >> t & 1);
  }
  for (int t = 0; t < 27; ++t) counts[t] = sums[t];
}

static void count_rows(const std::int32_t* table, int columns, std::int64_t begin,
                       std::int64_t end, std::int64_t* counts) {
  std::int32_t sums[27] = {};
  for (std::int64_t row = begin; row < end; ++row)
    for (int t = 0; t < columns; ++t) sums[t] += table[columns * row + t] >= 0;
  for (int t = 0; t < columns; ++t) counts[t] = sums[t];
}

static void pairs_of_lists(const std::uint64_t* words, const std::int32_t* list,
                           std::int64_t begin, std::int64_t end, std::int64_t* at,
                           const std::int64_t* stop, std::int32_t* in, std::int32_t* out) {
  (void)stop;
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int32_t* from = list + (words[row] >> 27);
    for (std::uint32_t mask = std::uint32_t(words[row]) & all_taps; mask; mask &= mask - 1) {
      const std::int64_t place = at[lowest_bit(mask)]++;
      in[place] = *from++;
      out[place] = std::int32_t(row);
    }
  }
}

static void pairs_of_rows(const std::int32_t* table, int columns, std::int64_t begin,
                          std::int64_t end, std::int64_t* at, const std::int64_t* stop,
                          std::int32_t* in, std::int32_t* out) {
  (void)stop;
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int32_t* from = table + columns * row;
    std::uint32_t mask = 0;
    for (int t = 0; t < columns; ++t) mask |= std::uint32_t(from[t] >= 0) << t;
    for (; mask; mask &= mask - 1) {
      const int t = lowest_bit(mask);
      const std::int64_t place = at[t]++;
      in[place] = from[t];
      out[place] = std::int32_t(row);
    }
  }
}

#endif

static SiteLoops site_loops() {
  SiteLoops made;
  made.neighbour_rows = neighbour_rows;
  made.neighbour_lists = neighbour_lists;
  made.count_lists = count_lists;
  made.count_rows = count_rows;
  made.pairs_of_lists = pairs_of_lists;
  made.pairs_of_rows = pairs_of_rows;
  return made;
}
