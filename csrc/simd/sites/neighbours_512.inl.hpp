// Neighbours by halved lattices, sixteen taps at a time. Included inside the namespace of one
// instruction set.

constexpr int few = 64;  // parents whose neighbours' families are brought together

// First children, and words of kids, of 16 families.
static inline void split(const std::uint64_t* families, __m512i& first, __m512i& kids) {
  const __m512i a = _mm512_loadu_si512(families), b = _mm512_loadu_si512(families + 8);
  const __m512i even =
      _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  first = _mm512_permutex2var_epi32(a, even, b);
  kids = _mm512_permutex2var_epi32(a, _mm512_add_epi32(even, _mm512_set1_epi32(1)), b);
}

// The families of `count` nodes that follow one another in the list.
static inline void bring_families(const SiteTree& tree, std::int64_t place, std::int64_t count,
                                  std::uint64_t* families, std::int32_t* first,
                                  std::uint32_t* kids) {
  const std::int32_t* list = tree.list + place;
  for (std::int64_t i = 0; i < count; ++i) families[i] = tree.families[list[i]];
  for (std::int64_t i = 0; i < count; i += 16) {
    __m512i low, high;
    split(families + i, low, high);
    _mm512_storeu_si512(first + i, low);
    _mm512_storeu_si512(kids + i, high);
  }
}

static std::int64_t neighbour_lists(const SiteTree& tree, std::int64_t begin, std::int64_t end,
                                    const std::int32_t* rows, std::uint64_t* words,
                                    std::int32_t* list, std::int64_t place, std::int64_t* counts) {
  alignas(64) std::uint64_t families[27 * few + 32];
  alignas(64) std::int32_t first[27 * few + 32];
  alignas(64) std::uint32_t kids[27 * few + 32];
  __m512i low_counts = _mm512_setzero_si512(), high_counts = low_counts;
  const __m512i one = _mm512_set1_epi32(1), seven = _mm512_set1_epi32(7);
  while (begin < end) {
    // lists follow one another but where one task of many began
    const std::int64_t from = std::int64_t(tree.words[begin] >> 27);
    std::int64_t stop = begin, count = 0;
    while (stop < end && stop < begin + few && std::int64_t(tree.words[stop] >> 27) == from + count)
      count += __builtin_popcount(std::uint32_t(tree.words[stop++]) & all_taps);
    bring_families(tree, from, count, families, first, kids);
    const std::int64_t lists = place;
    for (std::int64_t at = 0; begin < stop; ++begin) {
      const std::uint32_t around = std::uint32_t(tree.words[begin]) & all_taps;
      const __mmask16 a = __mmask16(around), b = __mmask16(around >> 16);
      const std::int64_t middle = at + __builtin_popcount(a);
      const __m512i low_first = _mm512_maskz_expand_epi32(a, _mm512_loadu_si512(first + at));
      const __m512i high_first = _mm512_maskz_expand_epi32(b, _mm512_loadu_si512(first + middle));
      const __m512i low_kids = _mm512_maskz_expand_epi32(a, _mm512_loadu_si512(kids + at));
      const __m512i high_kids = _mm512_maskz_expand_epi32(b, _mm512_loadu_si512(kids + middle));
      at = middle + __builtin_popcount(b);
      std::int64_t child = first_of(tree.families[begin]);
      for (std::uint32_t left = kids_of(tree.families[begin]) & 255; left; left &= left - 1, ++child) {
        const Octant& octant = octants.of[lowest_bit(left)];
        const auto half = [&](const int first_tap, __m512i& neighbour) {
          const __m512i slot = _mm512_loadu_si512(octant.slot + first_tap);
          const __m512i family = _mm512_permutex2var_epi32(low_kids, slot, high_kids);
          const __m512i before = _mm512_and_si512(
              _mm512_srlv_epi32(family, _mm512_loadu_si512(octant.shift + first_tap)), seven);
          neighbour = _mm512_add_epi32(
              _mm512_permutex2var_epi32(low_first, slot, high_first), before);
          return _mm512_test_epi32_mask(family, _mm512_loadu_si512(octant.bit + first_tap));
        };
        __m512i low, high;
        const __mmask16 in_low = half(0, low), in_high = half(16, high);
        const std::uint32_t mask = std::uint32_t(in_low) | std::uint32_t(in_high) << 16;
        words[rows ? rows[child] : child] = mask | std::uint64_t(place) << 27;
        _mm512_storeu_si512(list + place, _mm512_maskz_compress_epi32(in_low, low));
        place += __builtin_popcount(in_low);
        _mm512_storeu_si512(list + place, _mm512_maskz_compress_epi32(in_high, high));
        place += __builtin_popcount(in_high);
        low_counts = _mm512_mask_add_epi32(low_counts, in_low, low_counts, one);
        high_counts = _mm512_mask_add_epi32(high_counts, in_high, high_counts, one);
      }
    }
    if (rows) rename(rows, list + lists, place - lists);
  }
  std::int32_t sums[32];
  _mm512_storeu_si512(sums, low_counts);
  _mm512_storeu_si512(sums + 16, high_counts);
  for (int t = 0; t < 27; ++t) counts[t] += sums[t];
  return place;
}
