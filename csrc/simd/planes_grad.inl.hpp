// Gradients of dimension-wise convolution, a row at a time.
// Included inside the namespace of one instruction set, after planes.

// lines[r] <- the gradient of row first + r of the features where branches are joined: neighbours are
// added up as above, scaled and shifted back; what they are multiplied with gives that of join, too.
template <class S, class T>
static void sum_joined_back(const S* g, const S* x, const PlaneShape<T>& shape,
                            const RowWalk& walk, std::int64_t first, T* scratch, T* lines,
                            T* to_join) {
  constexpr int L = lanes<T>;
  const std::int64_t apart = shape.wide + shape.pad, own = shape.channel >= 0;
  const std::int64_t slots = sums_of(shape), vectors = shape.wide / L;
  // rows that must be copied; a pad; a row of x, scaled sums of each shift and sums, pads behind
  T* read = scratch + batch_pairs * shape.wide + shape.pad;
  T* scaled = read + apart;
  T* row = scaled + shape.shifts * apart;
  std::memset(scratch, 0, std::size_t(row - scratch) * sizeof(T));
  for (std::int64_t r = 0; r < walk.rows; ++r) {
    std::memset(row, 0, std::size_t(slots * apart) * sizeof(T));
    add_neighbours_up(g, shape, walk.pairs + walk.starts[r], walk.pairs + walk.starts[r + 1],
                      std::int64_t(-1), scratch, row);
    clear_tail(shape, slots, row);
    widen_row(x + (first + r) * shape.channels, read, shape.channels);
    for (std::int64_t v = 0; v < vectors; ++v) {
      Vec<T> kept{};
      if (own) {
        const auto sum = load(row + v * L);
        T* to = to_join + shape.channel * shape.wide + v * L;
        kept = sum * load(shape.join + shape.channel * shape.wide + v * L);
        store(to, load(to) + sum * load(read + v * L));
      }
      store(lines + r * shape.wide + v * L, kept);
      for (std::int64_t j = 0; j < shape.shifts; ++j) {
        const T* from = row + (own + j) * apart + v * L;
        const auto shifted = load(read + v * L + shape.shift[j]);
        Vec<T> both{};
        for (std::int64_t b = 0; b < shape.banks; ++b, from += shape.shifts * apart) {
          const std::int64_t at = shape.bank[b].branch * shape.wide + v * L;
          const auto sum = load(from);
          both += sum * load(shape.join + at);
          store(to_join + at, load(to_join + at) + sum * shifted);
        }
        store(scaled + j * apart + v * L, both);
      }
    }
    for (std::int64_t v = 0; v < vectors; ++v) {
      T* to = lines + r * shape.wide + v * L;
      auto sum = load(to);
      for (std::int64_t j = 0; j < shape.shifts; ++j)
        sum += load(scaled + j * apart + v * L - shape.shift[j]);
      store(to, sum);
    }
  }
}

// lines[r] <- the gradient of row first + r of the features: its pairs name the rows of g that read it.
template <class S, class T>
static void sum_planes_back(const S* g, const PlaneShape<T>& shape, const RowWalk& walk,
                            T* scratch, T* lines) {
  constexpr int L = lanes<T>;
  const std::int64_t apart = shape.wide + shape.pad, own = shape.channel >= 0;
  const std::int64_t slots = shape.shifts + own, width = shape.branches * L;
  const std::int64_t vectors = shape.wide / L, line = shape.branches * shape.channels;
  T* copy = scratch;
  T* row = scratch + shape.branches * shape.wide + shape.pad;
  std::memset(scratch, 0, std::size_t(row - scratch) * sizeof(T));
  for (std::int64_t r = 0; r < walk.rows; ++r) {
    std::memset(row, 0, std::size_t(slots * apart) * sizeof(T));
    const std::uint64_t* end = walk.pairs + walk.starts[r + 1];
    for (const std::uint64_t* pair = walk.pairs + walk.starts[r]; pair < end; ++pair) {
      const std::int64_t in = std::int64_t(*pair & 0xffffffffu), t = std::int64_t(*pair >> 32);
      fetch_row(g, line, pair + listed_ahead / 2);
      const T* from = whole_row(g + in * line, line, shape.branches * shape.wide, copy);
      const T* kernel[3];
      std::int64_t branch[3], count = 0;
      for (std::int64_t b = 0; b < shape.banks; ++b) {
        const auto& bank = shape.bank[b];
        if (bank.tap[t] < 0) continue;
        branch[count] = bank.branch;
        kernel[count++] = bank.kernels + (std::int64_t(bank.plane[4 * in]) * bank.taps +
                                          bank.tap[t]) * shape.shifts;
      }
      T* to = row;
      for (std::int64_t v = 0; v < vectors; ++v, to += L) {
        Vec<T> made[4];
        part_branches<T>(from + v * width, shape.branches, made);
        if (own) {
          T* at = to + shape.shifts * apart;
          auto sum = load(at);
          sum += load(shape.by_channel + t * shape.wide + v * L) * made[shape.channel];
          store(at, sum);
        }
        if (count == 0) continue;
        Vec<T> with[3];
        for (std::int64_t b = 0; b < count; ++b) with[b] = made[branch[b]];
        for (std::int64_t j = 0; j < shape.shifts; ++j) {
          T* at = to + j * apart;
          auto sum = load(at);
          for (std::int64_t b = 0; b < count; ++b) multiply_add(sum, kernel[b][j], with[b]);
          store(at, sum);
        }
      }
    }
    clear_tail(shape, slots, row);
    for (std::int64_t v = 0; v < vectors; ++v) {
      Vec<T> sum{};
      if (own) sum = load(row + shape.shifts * apart + v * L);
      for (std::int64_t j = 0; j < shape.shifts; ++j)
        sum += load(row + j * apart + v * L - shape.shift[j]);
      store(lines + r * shape.wide + v * L, sum);
    }
  }
}

// as many shifts as a vector of partial sums holds
template <class T>
constexpr int folded = lanes<T> < 4 ? lanes<T> : 4;

// The dot products of rows with N rows shifted differently, folded to one vector of partial sums.
template <int N, class T>
static INLINED void multiply_bank(const PairBatch<T>& batch, std::int64_t b, std::int64_t step,
                                  const T* with, std::int64_t wide, T* to) {
  constexpr int L = lanes<T>, F = folded<T>;
  for (std::int64_t n = 0; n < batch.of_bank[b]; ++n) {
    const T* from = batch.read[b][n];
    T* at = to + batch.place[b][n] * step;
    Vec<T> e[F] = {};
    for (std::int64_t c = 0; c < wide; c += L) {
      const auto held = load(from + c);
      UNROLL for (int i = 0; i < N; ++i) e[i] += held * load(with + i * wide + c);
    }
    UNROLL for (int width = F; width > 1; width /= 2)
      UNROLL for (int i = 0; i < width / 2; ++i)
        e[i] = add_neighbours<T>(e[2 * i], e[2 * i + 1]);
    auto sum = load(at);
    sum += e[0];
    store(at, sum);
  }
}

// Add up the parts of the kernels' gradients that rows [first, first + rows) have:
// by_channel [taps][wide], bank b [planes][its taps][shifts / folded, rounded up][lanes], where
// lanes / folded numbers a shift are left to add up.
template <class S, class T>
static void multiply_planes(const S* x, const S* g, const PlaneShape<T>& shape,
                            const RowWalk& walk, std::int64_t first, T* scratch, T* by_channel,
                            T* const* bank_sums) {
  constexpr int L = lanes<T>, F = folded<T>;
  const std::int64_t own = shape.channel >= 0, vectors = shape.wide / L;
  const std::int64_t apart = shape.wide + shape.pad;
  const std::int64_t parts = shape.join == nullptr ? shape.branches : 1;
  const std::int64_t line = parts * shape.channels;
  const std::int64_t groups = (shape.shifts + F - 1) / F;
  T* copy = scratch;
  T* copies = copy + shape.branches * shape.wide;
  T* apart_rows = copies + batch_pairs * shape.wide + shape.pad;
  T* shifted = apart_rows + shape.branches * apart;
  std::memset(scratch, 0, std::size_t(shifted - scratch) * sizeof(T));
  PairBatch<T> batch;
  for (std::int64_t r = 0; r < walk.rows; ++r) {
    // the row of g, branch by branch, shift by shift
    const T* row = whole_row(g + (first + r) * line, line, parts * shape.wide, copy);
    for (std::int64_t v = 0; v < vectors; ++v) {
      Vec<T> made[4];
      if (shape.join == nullptr)
        part_branches<T>(row + v * shape.branches * L, shape.branches, made);
      else
        for (std::int64_t a = 0; a < shape.branches; ++a)
          made[a] = load(row + v * L) * load(shape.join + a * shape.wide + v * L);
      for (std::int64_t a = 0; a < shape.branches; ++a)
        store(apart_rows + a * apart + v * L, made[a]);
    }
    for (std::int64_t b = 0; b < shape.banks; ++b)
      for (std::int64_t j = 0; j < shape.shifts; ++j) {
        T* to = shifted + (b * shape.shifts + j) * shape.wide;
        const T* from = apart_rows + shape.bank[b].branch * apart - shape.shift[j];
        for (std::int64_t v = 0; v < vectors; ++v) store(to + v * L, load(from + v * L));
        for (std::int64_t c = shape.channels; c < shape.wide; ++c) to[c] = 0;
      }
    const T* of_channels = apart_rows + own * shape.channel * apart;
    const std::uint64_t* end = walk.pairs + walk.starts[r + 1];
    for (const std::uint64_t* pair = walk.pairs + walk.starts[r]; pair < end; pair += batch_pairs) {
      take_pairs(x, shape, pair, end, first + r, copies, batch);
      for (std::int64_t n = 0; own && n < batch.count; ++n) {
        T* to = by_channel + batch.tap[n] * shape.wide;
        for (std::int64_t v = 0; v < vectors; ++v) {
          auto sum = load(to + v * L);
          sum += load(batch.from[n] + v * L) * load(of_channels + v * L);
          store(to + v * L, sum);
        }
      }
      for (std::int64_t b = 0; b < shape.banks; ++b) {
        T* to = bank_sums[b];
        const T* with = shifted + b * shape.shifts * shape.wide;
        for (std::int64_t j = 0; j < shape.shifts; j += F, to += L, with += F * shape.wide) {
          const std::int64_t left = shape.shifts - j;
          const auto multiply = [&](auto count) {
            multiply_bank<decltype(count)::value>(batch, b, groups * L, with, shape.wide, to);
          };
          if (left >= F)
            multiply(Size<F>{});
          else if (left == 3)
            multiply(Size<F < 3 ? F : 3>{});
          else if (left == 2)
            multiply(Size<F < 2 ? F : 2>{});
          else
            multiply(Size<1>{});
        }
      }
    }
  }
}
