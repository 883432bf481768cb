// Neighbours by halved lattices, eight taps at a time. Included inside the namespace of one
// instruction set.

// The neighbours of a child lie in 2 x 2 x 2 of the 3 x 3 x 3 neighbours of its parent. Those are two
// numbers that follow one another, four times: a vector of first children and one of words of kids.
// Its size makes the place of an octant a shift.
struct alignas(512) EightParents {
  alignas(32) std::int32_t lane[32];  // of each tap
  alignas(32) std::int32_t bit[32];
  alignas(32) std::int32_t shift[32];
  std::int32_t corner;  // the first of them among the 27
};
struct EightParentsOf {
  EightParents of[8];
};

constexpr EightParentsOf make_eight_parents() {
  EightParentsOf made{};
  for (int o = 0; o < 8; ++o) {
    EightParents& octant = made.of[o];
    const int corner[3] = {o >> 2 & 1, o >> 1 & 1, o & 1};
    octant.corner = 9 * corner[0] + 3 * corner[1] + corner[2];
    // no word of kids has this bit
    for (int t = 27; t < 32; ++t) octant.bit[t] = 1 << 8;
    for (int t = 0; t < 27; ++t) {
      const int slot = octants.of[o].slot[t];
      const int x = slot / 9 - corner[0], y = slot / 3 % 3 - corner[1], z = slot % 3 - corner[2];
      octant.lane[t] = 4 * y + 2 * x + z;
      octant.bit[t] = octants.of[o].bit[t];
      octant.shift[t] = octants.of[o].shift[t];
    }
  }
  return made;
}

static constexpr EightParentsOf eight_parents = make_eight_parents();

constexpr int few = 32;       // parents whose children are listed together
constexpr int together = 16;  // children whose neighbours are
constexpr int cube = 28;      // families of a parent's neighbours, in whole vectors

static inline __m256i two_pairs(const std::uint64_t* a, const std::uint64_t* b) {
  return _mm256_inserti128_si256(
      _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a))),
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(b)), 1);
}

// Write the neighbours of a child of which parent and octant are told, count those that are there and
// return their mask.
static inline std::uint32_t look_around(const std::uint64_t* cubes, std::uint32_t kid,
                                        std::int32_t* cells, __m256i* sums) {
  const EightParents& octant = eight_parents.of[kid & 7];
  const std::uint64_t* at = cubes + (kid >> 3) * cube + octant.corner;
  const __m256i near = two_pairs(at, at + 3), far = two_pairs(at + 9, at + 12);
  const __m256i firsts = evens(near, far), families = odds(near, far);
  std::uint32_t mask = 0;
  UNROLL
  for (int g = 0; g < 4; ++g) {
    const __m256i lane = load8(octant.lane + 8 * g), bit = load8(octant.bit + 8 * g);
    const __m256i family = _mm256_permutevar8x32_epi32(families, lane);
    const __m256i there = _mm256_cmpeq_epi32(_mm256_and_si256(family, bit), bit);
    const __m256i before = _mm256_and_si256(
        _mm256_srlv_epi32(family, load8(octant.shift + 8 * g)), _mm256_set1_epi32(7));
    sums[g] = _mm256_sub_epi32(sums[g], there);
    store8(cells + 8 * g, _mm256_add_epi32(_mm256_permutevar8x32_epi32(firsts, lane), before));
    mask |= std::uint32_t(signs_of(there)) << (8 * g);
  }
  return mask;
}

static std::int64_t neighbour_lists(const SiteTree& tree, std::int64_t begin, std::int64_t end,
                                    const std::int32_t* rows, std::uint64_t* words,
                                    std::int32_t* list, std::int64_t place, std::int64_t* counts) {
  alignas(64) std::uint64_t cubes[few * cube];
  // where families go, and children as their parent and octant: loops over all of them have one end
  // that has to be foreseen, not one a parent
  std::uint16_t places[few * 27 + 8], kids[few * 8 + 8];
  alignas(64) std::int32_t cells[together][32];
  std::uint32_t masks[together];
  const __m256i none = _mm256_setzero_si256();
  __m256i sums[4] = {none, none, none, none};
  while (begin < end) {
    // lists follow one another but where one task of many began
    const std::int64_t from = std::int64_t(tree.words[begin] >> 27);
    const std::int64_t first = first_of(tree.families[begin]);
    int parents = 0, count = 0, children = 0;
    for (; parents < few && begin + parents < end; ++parents) {
      const std::uint64_t word = tree.words[begin + parents];
      if (std::int64_t(word >> 27) != from + count) break;
      const std::uint32_t around = std::uint32_t(word) & all_taps;
      UNROLL
      for (int g = 0; g < 4; ++g) {
        const std::uint32_t byte = around >> (8 * g) & 255;
        _mm_storeu_si128(reinterpret_cast<__m128i*>(places + count),
                         _mm_add_epi16(_mm_cvtepu8_epi16(eight_bytes(eight_lanes.list[byte])),
                                       _mm_set1_epi16(short(cube * parents + 8 * g))));
        count += __builtin_popcount(byte);
      }
      UNROLL
      for (int i = 0; i < cube; i += 4) store8(cubes + cube * parents + i, none);
      const std::uint32_t octs = kids_of(tree.families[begin + parents]) & 255;
      _mm_storeu_si128(reinterpret_cast<__m128i*>(kids + children),
                       _mm_add_epi16(_mm_cvtepu8_epi16(eight_bytes(eight_lanes.list[octs])),
                                     _mm_set1_epi16(short(8 * parents))));
      children += __builtin_popcount(octs);
    }
    const std::int32_t* node = tree.list + from;
    for (int i = 0; i < count; ++i) cubes[places[i]] = tree.families[node[i]];
    const std::int64_t lists = place;
    for (std::int64_t done = 0; done < children; done += together) {
      const std::int64_t now = children - done < together ? children - done : together;
      for (std::int64_t c = 0; c < now; ++c)
        masks[c] = look_around(cubes, kids[done + c], cells[c], sums);
      const std::uint8_t* bytes = reinterpret_cast<const std::uint8_t*>(masks);
      // places are known sooner here than where masks are made, whose stores would wait for them
      for (std::int64_t c = 0; c < now; ++c) {
        const std::int64_t child = first + done + c;
        words[rows ? rows[child] : child] = std::uint64_t(place) << 27 | masks[c];
        UNROLL
        for (int g = 0; g < 4; ++g) {
          const int set = bytes[4 * c + g];
          store8(list + place,
                 _mm256_permutevar8x32_epi32(load8(cells[c] + 8 * g), lanes_of(set)));
          place += __builtin_popcount(unsigned(set));
        }
      }
    }
    if (rows) rename(rows, list + lists, place - lists);
    begin += parents;
  }
  std::int32_t found[32];
  UNROLL
  for (int g = 0; g < 4; ++g) store8(found + 8 * g, sums[g]);
  for (int t = 0; t < 27; ++t) counts[t] += found[t];
  return place;
}
