// Families of children, and where a child's neighbours lie: see kernels/pyramid.hpp. Included inside
// the namespace of one instruction set.

// For a child in one of the eight octants of its parent and each tap: which of the parent's 27
// neighbours (itself among them) holds the child's neighbour, and in which octant.
struct Octant {
  std::int32_t slot[32];  // of the parent's cube
  std::int32_t bit[32];   // of the octant in a word of kids
  std::int32_t shift[32];  // where that word tells how many kids lie before the octant
};
struct Octants {
  Octant of[8];
};

constexpr Octants make_octants() {
  Octants made{};
  for (int o = 0; o < 8; ++o) {
    Octant& octant = made.of[o];
    const int at[3] = {o >> 2 & 1, o >> 1 & 1, o & 1};
    for (int t = 0; t < 27; ++t) {
      const int step[3] = {t / 9 - 1, t / 3 % 3 - 1, t % 3 - 1};
      int slot = 0, inside = 0;
      for (int a = 0; a < 3; ++a) {
        const int to = at[a] + step[a];
        slot = 3 * slot + (to < 0 ? 0 : to > 1 ? 2 : 1);
        inside = 2 * inside + (to & 1);
      }
      octant.slot[t] = slot;
      octant.bit[t] = 1 << inside;
      octant.shift[t] = 8 + 3 * inside;
    }
  }
  return made;
}

static constexpr Octants octants = make_octants();
constexpr std::uint32_t all_taps = (std::uint32_t(1) << 27) - 1;

static inline std::int32_t first_of(std::uint64_t family) { return std::int32_t(family); }
static inline std::uint32_t kids_of(std::uint64_t family) { return std::uint32_t(family >> 32); }

static inline int lowest_bit(std::uint32_t mask) {
#if defined(__GNUC__) || defined(__clang__)
  return __builtin_ctz(mask);
#else
  int bit = 0;
  while (!(mask >> bit & 1)) ++bit;
  return bit;
#endif
}

// numbers[i] <- rows[numbers[i]]. Gathering sixteen at a time is slower.
static inline void rename(const std::int32_t* RESTRICT rows, std::int32_t* RESTRICT numbers,
                          std::int64_t n) {
  UNROLL
  for (std::int64_t i = 0; i < n; ++i) {
    std::int32_t row = rows[std::uint32_t(numbers[i])];
    SCALAR(row);
    numbers[i] = row;
  }
}
