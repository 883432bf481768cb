// Keys of sites in Z-order, eight at a time: see core/zkey.hpp. Included inside the namespace of one
// instruction set.

static void box(const std::int32_t* sites, std::int64_t n, std::int32_t* low, std::int32_t* high) {
  const auto site = [&](std::int64_t i) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(sites + 4 * i));
  };
  __m256i least[2], most[2];
  for (int i = 0; i < 2; ++i) least[i] = most[i] = _mm256_broadcastsi128_si256(site(0));
  std::int64_t at = 0;
  for (; at + 4 <= n; at += 4)
    for (int i = 0; i < 2; ++i) {
      const __m256i two = load8(sites + 4 * at + 8 * i);
      least[i] = _mm256_min_epi32(least[i], two);
      most[i] = _mm256_max_epi32(most[i], two);
    }
  least[0] = _mm256_min_epi32(least[0], least[1]);
  most[0] = _mm256_max_epi32(most[0], most[1]);
  __m128i lows = _mm_min_epi32(_mm256_castsi256_si128(least[0]),
                               _mm256_extracti128_si256(least[0], 1));
  __m128i highs =
      _mm_max_epi32(_mm256_castsi256_si128(most[0]), _mm256_extracti128_si256(most[0], 1));
  for (; at < n; ++at) {
    lows = _mm_min_epi32(lows, site(at));
    highs = _mm_max_epi32(highs, site(at));
  }
  _mm_storeu_si128(reinterpret_cast<__m128i*>(low), lows);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(high), highs);
}

// Keys of eight sites.
static inline __m256i eight_keys(const ZSpread& spread, const std::int32_t* sites) {
  __m256i columns[4];
  {
    const __m256i a = load8(sites), b = load8(sites + 8), c = load8(sites + 16), d = load8(sites + 24);
    // sites 0 and 4, 1 and 5, 2 and 6, 3 and 7
    const __m256i ac = _mm256_permute2x128_si256(a, c, 0x20), AC = _mm256_permute2x128_si256(a, c, 0x31);
    const __m256i bd = _mm256_permute2x128_si256(b, d, 0x20), BD = _mm256_permute2x128_si256(b, d, 0x31);
    const __m256i front = _mm256_unpacklo_epi32(ac, AC), later = _mm256_unpacklo_epi32(bd, BD);
    const __m256i FRONT = _mm256_unpackhi_epi32(ac, AC), LATER = _mm256_unpackhi_epi32(bd, BD);
    columns[0] = _mm256_unpacklo_epi64(front, later);
    columns[1] = _mm256_unpackhi_epi64(front, later);
    columns[2] = _mm256_unpacklo_epi64(FRONT, LATER);
    columns[3] = _mm256_unpackhi_epi64(FRONT, LATER);
  }
  __m256i key = _mm256_sll_epi32(
      _mm256_sub_epi32(columns[0], _mm256_set1_epi32(std::int32_t(spread.base[0]))),
      _mm_cvtsi32_si128(spread.batch_bit));
  UNROLL
  for (int a = 0; a < 3; ++a) {
    __m256i left =
        _mm256_sub_epi32(columns[a + 1], _mm256_set1_epi32(std::int32_t(spread.base[a + 1])));
    for (int chunk = 0; chunk < spread.chunks; ++chunk) {
      // permutations read the lowest three bits, the fourth chooses between two
      const std::uint32_t* of = spread.of[a][chunk];
      const __m256 low = _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(load8(of), left));
      const __m256 high = _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(load8(of + 8), left));
      const __m256 fourth = _mm256_castsi256_ps(_mm256_slli_epi32(left, 28));
      key = _mm256_or_si256(key, _mm256_castps_si256(_mm256_blendv_ps(low, high, fourth)));
      left = _mm256_srli_epi32(left, 4);
    }
  }
  return key;
}

static std::int64_t z_keys(const ZSpread& spread, const std::int32_t* sites, std::int64_t begin,
                           std::int64_t end, std::uint32_t* keys) {
  std::int64_t i = begin;
  for (; i + 8 <= end; i += 8) store8(keys + i, eight_keys(spread, sites + 4 * i));
  if (i < end) {
    std::int32_t last[32] = {};
    std::uint32_t made[8];
    std::memcpy(last, sites + 4 * i, std::size_t(end - i) * 16);
    store8(made, eight_keys(spread, last));
    std::memcpy(keys + i, made, std::size_t(end - i) * 4);
  }
  std::int64_t falls = 0;
  for (i = begin + 1; i + 8 <= end; i += 8)
    falls += __builtin_popcount(
        unsigned(signs_of(unsigned_above(load8(keys + i - 1), load8(keys + i)))));
  for (; i < end; ++i) falls += keys[i] < keys[i - 1];
  return falls;
}

static void count_steps(const std::uint32_t* keys, std::int64_t n, const int* bits, int levels,
                        std::int64_t* counts) {
  constexpr int group = 6;
  const __m256i side = _mm256_set1_epi32(INT32_MIN);
  for (int first = 0; first < levels; first += group) {
    __m256i below[group], sums[group];
    const int now = levels - first < group ? levels - first : group;
    for (int l = 0; l < group; ++l) {
      const std::uint32_t most =
          l < now ? (std::uint32_t(1) << bits[first + l]) - 1 : ~std::uint32_t(0);
      below[l] = _mm256_xor_si256(_mm256_set1_epi32(std::int32_t(most)), side);
      sums[l] = _mm256_setzero_si256();
    }
    std::int64_t i = 1;
    for (; i + 8 <= n; i += 8) {
      const __m256i step =
          _mm256_xor_si256(_mm256_xor_si256(load8(keys + i), load8(keys + i - 1)), side);
      UNROLL
      for (int l = 0; l < group; ++l)
        sums[l] = _mm256_sub_epi32(sums[l], _mm256_cmpgt_epi32(step, below[l]));
    }
    for (int l = 0; l < now; ++l) {
      std::uint32_t found[8];
      store8(found, sums[l]);
      counts[first + l] = 0;
      for (const std::uint32_t lane : found) counts[first + l] += lane;
      for (std::int64_t j = i; j < n; ++j)
        counts[first + l] += (keys[j] ^ keys[j - 1]) >> bits[first + l] != 0;
    }
  }
}

constexpr decltype(SiteLoops::gather_families) gather_families = nullptr;
