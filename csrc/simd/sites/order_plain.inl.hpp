// Keys of sites in Z-order, one by one. Included inside the namespace of one instruction set.

static void box(const std::int32_t* sites, std::int64_t n, std::int32_t* low, std::int32_t* high) {
  std::int32_t least[4], most[4];
  for (int a = 0; a < 4; ++a) least[a] = most[a] = sites[a];
  for (std::int64_t i = 1; i < n; ++i)
    for (int a = 0; a < 4; ++a) {
      const std::int32_t value = sites[4 * i + a];
      least[a] = value < least[a] ? value : least[a];
      most[a] = value > most[a] ? value : most[a];
    }
  for (int a = 0; a < 4; ++a) {
    low[a] = least[a];
    high[a] = most[a];
  }
}

static void count_steps(const std::uint32_t* keys, std::int64_t n, const int* bits, int levels,
                        std::int64_t* counts) {
  for (int l = 0; l < levels; ++l) {
    std::int64_t sum = 0;
    for (std::int64_t i = 1; i < n; ++i) sum += (keys[i] ^ keys[i - 1]) >> bits[l] != 0;
    counts[l] = sum;
  }
}

constexpr decltype(SiteLoops::z_keys) z_keys = nullptr;
constexpr decltype(SiteLoops::gather_families) gather_families = nullptr;
