// Pairs from lists of neighbours and of children, one by one. Included inside the namespace of one instruction set.

static void count_lists(const std::uint64_t* words, std::int64_t begin, std::int64_t end,
                        std::int64_t* counts) {
  std::int32_t sums[32] = {};
  for (std::int64_t row = begin; row < end; ++row) {
    const std::uint32_t mask = std::uint32_t(words[row]) & all_taps;
    for (int t = 0; t < 32; ++t) sums[t] += std::int32_t(mask >> t & 1);
  }
  for (int t = 0; t < 27; ++t) counts[t] = sums[t];
}

static void count_kids(const SiteTree& tree, std::int64_t begin, std::int64_t end,
                       std::int64_t* counts) {
  std::int32_t sums[8] = {};
  for (std::int64_t node = begin; node < end; ++node)
    for (int o = 0; o < 8; ++o) sums[o] += std::int32_t(kids_of(tree.families[node]) >> o & 1);
  for (int o = 0; o < 8; ++o) counts[o] = sums[o];
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

static void pairs_of_kids(const SiteTree& tree, const std::int32_t* rows, std::int64_t begin,
                          std::int64_t end, std::int64_t* at, const std::int64_t* stop,
                          std::int32_t* in, std::int32_t* out) {
  (void)stop;
  for (std::int64_t node = begin; node < end; ++node) {
    std::int32_t child = first_of(tree.families[node]);
    for (std::uint32_t left = kids_of(tree.families[node]) & 255; left; left &= left - 1, ++child) {
      const std::int64_t place = at[lowest_bit(left)]++;
      in[place] = rows ? rows[child] : child;
      out[place] = std::int32_t(node);
    }
  }
}

static void halve_sites(const std::int32_t* sites, const std::uint64_t* families,
                        const std::int32_t* rows, std::int64_t begin, std::int64_t end,
                        std::int32_t* halved) {
  const auto child = [&](std::int64_t node) {
    const std::int32_t first = first_of(families[node]);
    return sites + 4 * std::int64_t(rows ? rows[first] : first);
  };
  constexpr std::int64_t far = 16;  // rows may lie anywhere
  for (; begin < end; ++begin) {
    if (begin + far < end) PREFETCH(child(begin + far));
    const std::int32_t* site = child(begin);
    halved[4 * begin] = site[0];
    for (int a = 1; a < 4; ++a) halved[4 * begin + a] = site[a] >> 1;
  }
}
