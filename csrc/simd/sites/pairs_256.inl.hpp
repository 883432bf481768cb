// Pairs from lists of neighbours and of children, eight rows at a time. Included inside the namespace
// of one instruction set.

static void count_lists(const std::uint64_t* words, std::int64_t begin, std::int64_t end,
                        std::int64_t* counts) {
  const __m256i one = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  __m256i bits[4], sums[4];
  UNROLL
  for (int g = 0; g < 4; ++g) {
    bits[g] = _mm256_slli_epi32(one, 8 * g);
    sums[g] = _mm256_setzero_si256();
  }
  for (std::int64_t row = begin; row < end; ++row) {
    const __m256i mask = _mm256_set1_epi32(std::int32_t(words[row]));
    UNROLL
    for (int g = 0; g < 4; ++g)
      sums[g] = _mm256_sub_epi32(sums[g],
                                 _mm256_cmpeq_epi32(_mm256_and_si256(mask, bits[g]), bits[g]));
  }
  std::int32_t found[32];
  UNROLL
  for (int g = 0; g < 4; ++g) store8(found + 8 * g, sums[g]);
  for (int t = 0; t < 27; ++t) counts[t] = found[t];
}

static void count_kids(const SiteTree& tree, std::int64_t begin, std::int64_t end,
                       std::int64_t* counts) {
  const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  __m256i sums = _mm256_setzero_si256();
  for (; begin < end; ++begin) {
    const __m256i kids = _mm256_set1_epi32(std::int32_t(kids_of(tree.families[begin])));
    sums = _mm256_sub_epi32(sums, _mm256_cmpeq_epi32(_mm256_and_si256(kids, bits), bits));
  }
  std::int32_t found[8];
  store8(found, sums);
  for (int o = 0; o < 8; ++o) counts[o] = found[o];
}

static inline void transpose(__m256i* rows) {
  __m256i a[8];
  UNROLL
  for (int i = 0; i < 8; i += 4) {
    const __m256i ab = _mm256_unpacklo_epi32(rows[i], rows[i + 1]);
    const __m256i AB = _mm256_unpackhi_epi32(rows[i], rows[i + 1]);
    const __m256i cd = _mm256_unpacklo_epi32(rows[i + 2], rows[i + 3]);
    const __m256i CD = _mm256_unpackhi_epi32(rows[i + 2], rows[i + 3]);
    a[i] = _mm256_unpacklo_epi64(ab, cd);
    a[i + 1] = _mm256_unpackhi_epi64(ab, cd);
    a[i + 2] = _mm256_unpacklo_epi64(AB, CD);
    a[i + 3] = _mm256_unpackhi_epi64(AB, CD);
  }
  UNROLL
  for (int i = 0; i < 4; ++i) {
    rows[i] = _mm256_permute2x128_si256(a[i], a[i + 4], 0x20);
    rows[i + 4] = _mm256_permute2x128_si256(a[i], a[i + 4], 0x31);
  }
}

// Append pairs where what follows belongs to another tap. Compiled into the loop it would slow it by
// a fifth.
static APART void append_last(__m256i ins, __m256i outs, int count, std::int32_t* in,
                              std::int32_t* out) {
  std::int32_t last[2][8];
  store8(last[0], ins);
  store8(last[1], outs);
  for (int i = 0; i < count; ++i) {
    in[i] = last[0][i];
    out[i] = last[1][i];
  }
}

// Append those of the pairs (ins, first ... first + 7) that a set has.
static inline void append(int set, __m256i ins, __m256i first, std::int64_t& at, std::int64_t stop,
                          std::int32_t* in, std::int32_t* out) {
  const __m256i lanes = lanes_of(set);
  const __m256i outs = _mm256_add_epi32(first, lanes);
  const std::int64_t place = at;
  ins = _mm256_permutevar8x32_epi32(ins, lanes);
  at = place + __builtin_popcount(unsigned(set));
  if (__builtin_expect(place + 8 <= stop, 1)) {
    store8(in + place, ins);
    store8(out + place, outs);
  } else {
    append_last(ins, outs, int(at - place), in + place, out + place);
  }
}

constexpr std::uint64_t few_pairs = 30;  // of seven rows
constexpr int ahead = 32;                // pairs of a tap fetched before they are written
constexpr int lists_ahead = 32;          // rows whose lists are fetched ahead

static void pairs_of_lists(const std::uint64_t* words, const std::int32_t* list,
                           std::int64_t begin, std::int64_t end, std::int64_t* at,
                           const std::int64_t* stop, std::int32_t* in, std::int32_t* out) {
  for (std::int64_t first = begin; first < end; first += 8) {
    std::uint64_t now[8] = {};
    if (first + 8 <= end) {
      store8(now, load8(words + first));
      store8(now + 4, load8(words + first + 4));
    } else {
      for (std::int64_t i = first; i < end; ++i) now[i - first] = words[i];
    }
    const std::int32_t* from[8];
    UNROLL
    for (int i = 0; i < 8; ++i) from[i] = list + (now[i] >> 27);
    const std::uint64_t listed = (now[7] >> 27) - (now[0] >> 27);
    // lists that do not follow one another are of rows that are neighbours only here
    if (listed > 27 * 7)
      for (std::int64_t i = first + lists_ahead; i < first + lists_ahead + 8 && i < end; ++i) {
        const std::int32_t* next = list + (words[i] >> 27);
        PREFETCH(next);
        PREFETCH(next + 16);
      }
    // few pairs are written sooner one by one
    if (listed < few_pairs) {
      for (int i = 0; i < 8; ++i)
        for (std::uint32_t mask = std::uint32_t(now[i]) & all_taps; mask; mask &= mask - 1) {
          const std::int64_t place = at[lowest_bit(mask)]++;
          in[place] = *from[i]++;
          out[place] = std::int32_t(first) + i;
          PREFETCH(in + place + ahead);
          PREFETCH(out + place + ahead);
        }
      continue;
    }
    const std::uint8_t* bytes = reinterpret_cast<const std::uint8_t*>(now);
    const __m256i masks = in_turn(evens(load8(now), load8(now + 4)));
    const __m256i row = _mm256_set1_epi32(std::int32_t(first));
    // too many streams for the processor to foresee; a line of each lasts for two turns
    const std::int32_t* soon = (first & 8 ? in : out) + ahead;
    UNROLL
    for (int g = 0; g < 4; ++g) {
      __m256i taps[8];
      UNROLL
      for (int i = 0; i < 8; ++i) {
        const std::uint32_t set = bytes[8 * i + g] & (g < 3 ? 255 : 7);
        taps[i] = _mm256_permutevar8x32_epi32(
            load8(from[i]), _mm256_cvtepu8_epi32(eight_bytes(eight_lanes.before[set])));
        from[i] += __builtin_popcount(set);
      }
      transpose(taps);
      UNROLL
      for (int t = 0; t < 8; ++t) {
        const int tap = 8 * g + t;
        if (tap >= 27) break;
        PREFETCH(soon + at[tap]);
        append(signs_of(_mm256_slli_epi32(masks, 31 - tap)), taps[t], row, at[tap], stop[tap], in,
               out);
      }
    }
  }
}

static void pairs_of_kids(const SiteTree& tree, const std::int32_t* rows, std::int64_t begin,
                          std::int64_t end, std::int64_t* at, const std::int64_t* stop,
                          std::int32_t* in, std::int32_t* out) {
  const __m256i seven = _mm256_set1_epi32(7);
  std::int64_t from[8];
  for (int o = 0; o < 8; ++o) from[o] = at[o];
  for (; begin < end; begin += 8) {
    // families behind the last may be read, but are not there
    const unsigned inside = end - begin >= 8 ? 255 : (1u << (end - begin)) - 1;
    const __m256i a = load8(tree.families + begin), b = load8(tree.families + begin + 4);
    const __m256i first = in_turn(evens(a, b)), kids = in_turn(odds(a, b));
    const __m256i node = _mm256_set1_epi32(std::int32_t(begin));
    UNROLL
    for (int o = 0; o < 8; ++o) {
      const __m256i before = _mm256_and_si256(_mm256_srli_epi32(kids, 8 + 3 * o), seven);
      append(signs_of(_mm256_slli_epi32(kids, 31 - o)) & int(inside),
             _mm256_add_epi32(first, before), node, at[o], stop[o], in, out);
    }
  }
  if (rows)
    for (int o = 0; o < 8; ++o) rename(rows, in + from[o], at[o] - from[o]);
}

static void halve_sites(const std::int32_t* sites, const std::uint64_t* families,
                        const std::int32_t* rows, std::int64_t begin, std::int64_t end,
                        std::int32_t* halved) {
  const __m256i step = _mm256_setr_epi32(0, 1, 1, 1, 0, 1, 1, 1);
  const auto child = [&](std::int64_t node) {
    const std::int32_t first = first_of(families[node]);
    return sites + 4 * std::int64_t(rows ? rows[first] : first);
  };
  const auto load = [&](std::int64_t node) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(child(node)));
  };
  constexpr std::int64_t far = 16;  // rows may lie anywhere
  for (; begin + 2 <= end; begin += 2) {
    if (rows)
      for (std::int64_t i = begin + far; i < begin + far + 2 && i < end; ++i) PREFETCH(child(i));
    const __m256i two =
        _mm256_inserti128_si256(_mm256_castsi128_si256(load(begin)), load(begin + 1), 1);
    store8(halved + 4 * begin, _mm256_srav_epi32(two, step));
  }
  if (begin < end)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(halved + 4 * begin),
                     _mm_srav_epi32(load(begin), _mm256_castsi256_si128(step)));
}
