// Neighbours by halved lattices, tap by tap. Included inside the namespace of one instruction set.

static std::int64_t neighbour_lists(const SiteTree& tree, std::int64_t begin, std::int64_t end,
                                    const std::int32_t* rows, std::uint64_t* words,
                                    std::int32_t* list, std::int64_t place, std::int64_t* counts) {
  std::int32_t sums[32] = {};
  for (; begin < end; ++begin) {
    const std::int32_t* node = tree.list + (tree.words[begin] >> 27);
    std::int32_t first[27];
    std::uint32_t kids[27] = {};
    for (std::uint32_t left = std::uint32_t(tree.words[begin]) & all_taps; left; left &= left - 1) {
      const int slot = lowest_bit(left);
      first[slot] = first_of(tree.families[*node]);
      kids[slot] = kids_of(tree.families[*node++]);
    }
    std::int64_t child = first_of(tree.families[begin]);
    for (std::uint32_t left = kids_of(tree.families[begin]) & 255; left; left &= left - 1, ++child) {
      const Octant& octant = octants.of[lowest_bit(left)];
      const std::int64_t lists = place;
      std::uint32_t mask = 0;
      UNROLL
      for (int t = 0; t < 27; ++t) {
        const std::uint32_t family = kids[octant.slot[t]];
        const std::uint32_t there = (family & std::uint32_t(octant.bit[t])) != 0;
        list[place] = first[octant.slot[t]] + std::int32_t(family >> octant.shift[t] & 7);
        place += there;
        mask |= there << t;
      }
      for (int t = 0; t < 32; ++t) sums[t] += std::int32_t(mask >> t & 1);
      words[rows ? rows[child] : child] = mask | std::uint64_t(lists) << 27;
      if (rows)
        for (std::int64_t i = lists; i < place; ++i) list[i] = rows[list[i]];
    }
  }
  for (int t = 0; t < 27; ++t) counts[t] += sums[t];
  return place;
}
