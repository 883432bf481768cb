// Dimension-wise convolution: a few rows at a time, sums and shifted rows in the first-level cache.
// Included inside the namespace of one instruction set, after piece and taps.

// low numbers of pairs, and high ones: a0 a2 ... b0 b2 ..., a1 a3 ... b1 b3 ...
template <class T>
static INLINED void part(const Vec<T>& a, const Vec<T>& b, Vec<T>& even, Vec<T>& odd) {
#if defined(__GNUC__) && !defined(__clang__) && !defined(SPARSECONV_PLAIN_VECTORS)
  typename Lanes<T>::index from_even, from_odd;
  UNROLL for (int i = 0; i < lanes<T>; ++i) {
    from_even[i] = 2 * i;
    from_odd[i] = 2 * i + 1;
  }
  even = __builtin_shuffle(a, b, from_even);
  odd = __builtin_shuffle(a, b, from_odd);
#else
  alignas(VECTOR_BYTES) T both[2 * lanes<T>], evens[lanes<T>], odds[lanes<T>];
  store(both, a);
  store(both + lanes<T>, b);
  for (int i = 0; i < lanes<T>; ++i) {
    evens[i] = both[2 * i];
    odds[i] = both[2 * i + 1];
  }
  even = load(evens);
  odd = load(odds);
#endif
}

// One vector of each branch from their numbers in turn, and back.
template <class T>
static INLINED void part_branches(const T* line, std::int64_t branches, Vec<T>* made) {
  constexpr int L = lanes<T>;
  if (branches == 4) {
    Vec<T> low[2], high[2];
    part<T>(load(line), load(line + L), low[0], high[0]);
    part<T>(load(line + 2 * L), load(line + 3 * L), low[1], high[1]);
    part<T>(low[0], low[1], made[0], made[2]);
    part<T>(high[0], high[1], made[1], made[3]);
  } else if (branches == 2) {
    part<T>(load(line), load(line + L), made[0], made[1]);
  } else if (branches == 1) {
    made[0] = load(line);
  } else {
    for (int a = 0; a < 3; ++a) {
      T one[L];
      for (int i = 0; i < L; ++i) one[i] = line[3 * i + a];
      made[a] = load(one);
    }
  }
}
template <class T>
static INLINED void join_branches(const Vec<T>* made, std::int64_t branches, T* line) {
  constexpr int L = lanes<T>;
  if (branches == 4) {
    Vec<T> even[2], odd[2], both[2];
    interleave<T>(made[0], made[2], even[0], even[1]);
    interleave<T>(made[1], made[3], odd[0], odd[1]);
    UNROLL for (int i = 0; i < 2; ++i) {
      interleave<T>(even[i], odd[i], both[0], both[1]);
      store(line + 2 * i * L, both[0]);
      store(line + (2 * i + 1) * L, both[1]);
    }
  } else if (branches == 2) {
    Vec<T> both[2];
    interleave<T>(made[0], made[1], both[0], both[1]);
    store(line, both[0]);
    store(line + L, both[1]);
  } else if (branches == 1) {
    store(line, made[0]);
  } else {
    for (int a = 0; a < 3; ++a) {
      T one[L];
      store(one, made[a]);
      for (int i = 0; i < L; ++i) line[3 * i + a] = one[i];
    }
  }
}

// A row as sums take it: where it lies, if it has their type and whole vectors, else a copy, whose
// numbers behind the row's stay 0.
template <class S, class T>
static INLINED const T* whole_row(const S* from, std::int64_t n, std::int64_t wide, T* copy) {
  if constexpr (sizeof(S) == sizeof(T)) {
    if (n == wide) return from;
  }
  widen_row(from, copy, n);
  return copy;
}

template <class S>
static INLINED void fetch_row(const S* x, std::int64_t width, const std::int32_t* rows,
                              std::int64_t p, std::int64_t count) {
  if (p + 8 >= count) return;
  const char* row = reinterpret_cast<const char*>(x + rows[p + 8] * width);
  for (std::int64_t b = 0; b < width * std::int64_t(sizeof(S)); b += 64) PREFETCH(row + b);
}

// The banks a tap is of.
template <class T>
struct TapBanks {
  const T* kernels[3];  // of plane 0
  const std::int32_t* plane[3];
  std::int64_t step[3], bank[3];
  std::int64_t count = 0;

  TapBanks(const PlaneShape<T>& shape, std::int64_t t) {
    for (std::int64_t b = 0; b < shape.banks; ++b) {
      const auto& held = shape.bank[b];
      if (held.tap[t] < 0) continue;
      bank[count] = b;
      plane[count] = held.plane;
      step[count] = held.taps * shape.shifts;
      kernels[count++] = held.kernels + held.tap[t] * shape.shifts;
    }
  }
};

// Up to four vectors of a row at a time.
template <class Visit>
static INLINED void by_vectors(std::int64_t vectors, Visit&& visit) {
  std::int64_t v = 0;
  for (; v + 4 <= vectors; v += 4) visit(Size<4>{}, v);
  if (v + 2 <= vectors) {
    visit(Size<2>{}, v);
    v += 2;
  }
  if (v < vectors) visit(Size<1>{}, v);
}

// Rows of sums: a pad, then each sum and a pad behind it. Columns that are no channel's become 0,
// for shifts read them.
template <class T>
static INLINED void clear_tail(const PlaneShape<T>& shape, std::int64_t sums, T* row) {
  for (std::int64_t s = 0; shape.channels < shape.wide && s < sums; ++s)
    for (std::int64_t c = shape.channels; c < shape.wide; ++c)
      row[s * (shape.wide + shape.pad) + c] = 0;
}

// Where sums of rows begin: one for channels, then one for every shift of every bank.
template <class T>
static INLINED std::int64_t sums_of(const PlaneShape<T>& shape) {
  return (shape.channel >= 0) + shape.banks * shape.shifts;
}

// Some pairs of a tap whose output rows are of the block: the loops over them know nothing else.
template <class T>
struct PairBatch {
  std::int64_t count;
  const T* from[batch_pairs];       // whole rows
  std::int64_t row[batch_pairs];    // of the block
  std::int32_t place[batch_pairs];  // the row whose planes count
};

// Take the next pairs from p on; rows that must be copied go to copies [batch_pairs][wide].
template <class S, class T>
static INLINED std::int64_t take_pairs(const S* x, const PlaneShape<T>& shape, const TapWalk& walk,
                                       const std::int32_t* places, std::int64_t p,
                                       std::int64_t end, T* copies, PairBatch<T>& batch) {
  const std::int64_t channels = shape.channels, wide = shape.wide, first = walk.first;
  const std::int64_t rows = walk.rows, count = walk.count;
  const std::int32_t* in = walk.in;
  const std::int32_t* out = walk.out;
  std::int64_t n = 0;
  for (; n < batch_pairs && p < end; ++n, ++p) {
    const std::int64_t row = out[p] - first;
    if (row >= rows) break;
    fetch_row(x, channels, in, p, count);
    batch.from[n] = whole_row(x + in[p] * channels, channels, wide, copies + n * wide);
    batch.row[n] = row;
    batch.place[n] = places[p];
  }
  batch.count = n;
  return p;
}

template <int NV, class T>
static INLINED void add_channels(const PairBatch<T>& batch, const T* w, std::int64_t at, T* sums,
                                 std::int64_t ld) {
  constexpr int L = lanes<T>;
  Vec<T> held[NV];
  UNROLL for (int i = 0; i < NV; ++i) held[i] = load(w + i * L);
  for (std::int64_t n = 0; n < batch.count; ++n) {
    const T* from = batch.from[n] + at;
    T* to = sums + batch.row[n] * ld;
    UNROLL for (int i = 0; i < NV; ++i) {
      auto sum = load(to + i * L);
      sum += held[i] * load(from + i * L);
      store(to + i * L, sum);
    }
  }
}

// J shifts, or where it is 0 as many as there are.
template <int NV, int J, class T>
static INLINED void add_bank(const PairBatch<T>& batch, const T* kernels, const std::int32_t* plane,
                             std::int64_t step, std::int64_t shifts, std::int64_t at, T* sums,
                             std::int64_t ld, std::int64_t apart) {
  constexpr int L = lanes<T>;
  for (std::int64_t n = 0; n < batch.count; ++n) {
    const T* kernel = kernels + plane[4 * std::int64_t(batch.place[n])] * step;
    const T* from = batch.from[n] + at;
    T* to = sums + batch.row[n] * ld;
    Vec<T> held[NV];
    UNROLL for (int i = 0; i < NV; ++i) held[i] = load(from + i * L);
    const auto add = [&](std::int64_t j) {
      UNROLL for (int i = 0; i < NV; ++i) {
        auto sum = load(to + j * apart + i * L);
        multiply_add(sum, kernel[j], held[i]);
        store(to + j * apart + i * L, sum);
      }
    };
    if constexpr (J > 0) {
      UNROLL for (int j = 0; j < J; ++j) add(j);
    } else {
      for (std::int64_t j = 0; j < shifts; ++j) add(j);
    }
  }
}

// sums[r] += the neighbours of row first + r, times the kernels of every tap and shift; planes are
// those of `places`, the pairs' inputs or outputs. The sums are not shifted yet.
template <class S, class T>
static void add_neighbours_up(const S* x, const PlaneShape<T>& shape, const TapWalk& walk,
                              const std::int32_t* places, T* copies, T* sums) {
  constexpr int L = lanes<T>;
  const std::int64_t apart = shape.wide + shape.pad, ld = sums_of(shape) * apart;
  const std::int64_t own = shape.channel >= 0;
  PairBatch<T> batch;
  for (std::int64_t t = 0; t < walk.taps; ++t) {
    const TapBanks<T> banks(shape, t);
    std::int64_t p = walk.from[t];
    const std::int64_t end = walk.end[t];
    do {
      p = take_pairs(x, shape, walk, places, p, end, copies, batch);
      by_vectors(shape.wide / L, [&](auto count, std::int64_t v) {
        constexpr int NV = decltype(count)::value;
        if (own) add_channels<NV>(batch, shape.by_channel + t * shape.wide + v * L, v * L, sums + v * L, ld);
        for (std::int64_t b = 0; b < banks.count; ++b) {
          T* to = sums + (own + banks.bank[b] * shape.shifts) * apart + v * L;
          if (shape.shifts == 3)
            add_bank<NV, 3>(batch, banks.kernels[b], banks.plane[b], banks.step[b], 3, v * L, to,
                            ld, apart);
          else
            add_bank<NV, 0>(batch, banks.kernels[b], banks.plane[b], banks.step[b], shape.shifts,
                            v * L, to, ld, apart);
        }
      });
    } while (batch.count == batch_pairs);
    walk.next[t] = p;
  }
}

// lines[r] <- the branches of row first + r, their channels in turn, or what joins them. Neighbours
// are added up with the kernels of each shift; then the sums are shifted.
template <class S, class T>
static void sum_planes(const S* x, const PlaneShape<T>& shape, const TapWalk& walk, T* scratch,
                       T* lines) {
  constexpr int L = lanes<T>;
  const std::int64_t apart = shape.wide + shape.pad, own = shape.channel >= 0;
  const std::int64_t slots = sums_of(shape), ld = slots * apart, vectors = shape.wide / L;
  // rows that must be copied; a pad; sums
  const std::int64_t copied = batch_pairs * shape.wide + shape.pad;
  T* sums = scratch + copied;
  std::memset(scratch, 0, std::size_t(copied + walk.rows * ld) * sizeof(T));
  add_neighbours_up(x, shape, walk, walk.out, scratch, sums);
  for (std::int64_t r = 0; r < walk.rows; ++r) {
    T* row = sums + r * ld;
    clear_tail(shape, slots, row);
    for (std::int64_t v = 0; v < vectors; ++v) {
      Vec<T> made[4] = {};
      if (own) made[shape.channel] = load(row + v * L);
      for (std::int64_t b = 0; b < shape.banks; ++b) {
        const T* from = row + (own + b * shape.shifts) * apart + v * L;
        Vec<T> sum{};
        for (std::int64_t j = 0; j < shape.shifts; ++j)
          sum += load(from + j * apart + shape.shift[j]);
        made[shape.bank[b].branch] = sum;
      }
      if (shape.join == nullptr) {
        join_branches<T>(made, shape.branches, lines + (r * vectors + v) * shape.branches * L);
        continue;
      }
      Vec<T> sum{};
      if (shape.start != nullptr) sum = load(shape.start + v * L);
      for (std::int64_t a = 0; a < shape.branches; ++a)
        sum += load(shape.join + a * shape.wide + v * L) * made[a];
      store(lines + r * shape.wide + v * L, sum);
    }
  }
}

// lines[r] <- the gradient of row first + r of the features where branches are joined: neighbours are
// added up as above, scaled and shifted back; what they are multiplied with gives that of join, too.
template <class S, class T>
static void sum_joined_back(const S* g, const S* x, const PlaneShape<T>& shape,
                            const TapWalk& walk, T* scratch, T* lines, T* to_join) {
  constexpr int L = lanes<T>;
  const std::int64_t apart = shape.wide + shape.pad, own = shape.channel >= 0;
  const std::int64_t slots = sums_of(shape), ld = slots * apart, vectors = shape.wide / L;
  // rows that must be copied; a pad; a row of x, scaled sums of each shift and sums, pads behind
  T* read = scratch + batch_pairs * shape.wide + shape.pad;
  T* scaled = read + apart;
  T* sums = scaled + shape.shifts * apart;
  std::memset(scratch, 0, std::size_t(sums - scratch + walk.rows * ld) * sizeof(T));
  add_neighbours_up(g, shape, walk, walk.in, scratch, sums);
  for (std::int64_t r = 0; r < walk.rows; ++r) {
    T* row = sums + r * ld;
    clear_tail(shape, slots, row);
    widen_row(x + (walk.first + r) * shape.channels, read, shape.channels);
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

// lines[r] <- the gradient of row first + r of the features: walk.in are the rows of g that read it.
template <class S, class T>
static void sum_planes_back(const S* g, const PlaneShape<T>& shape, const TapWalk& walk,
                            T* scratch, T* lines) {
  constexpr int L = lanes<T>;
  const std::int64_t apart = shape.wide + shape.pad, own = shape.channel >= 0;
  const std::int64_t slots = shape.shifts + own, ld = slots * apart, width = shape.branches * L;
  const std::int64_t vectors = shape.wide / L, line = shape.branches * shape.channels;
  T* copy = scratch;
  T* sums = scratch + shape.branches * shape.wide + shape.pad;
  std::memset(scratch, 0,
              std::size_t(shape.branches * shape.wide + shape.pad + walk.rows * ld) * sizeof(T));
  for (std::int64_t t = 0; t < walk.taps; ++t) {
    const TapBanks<T> banks(shape, t);
    const T* by_channel = own ? shape.by_channel + t * shape.wide : nullptr;
    std::int64_t branch[3];
    for (std::int64_t b = 0; b < banks.count; ++b) branch[b] = shape.bank[banks.bank[b]].branch;
    std::int64_t p = walk.from[t];
    const std::int64_t end = walk.end[t];
    for (; p < end; ++p) {
      const std::int64_t row = walk.out[p] - walk.first;
      if (row >= walk.rows) break;
      if (!own && banks.count == 0) continue;
      fetch_row(g, line, walk.in, p, walk.count);
      const T* from =
          whole_row(g + walk.in[p] * line, line, shape.branches * shape.wide, copy);
      const T* kernel[3];
      for (std::int64_t b = 0; b < banks.count; ++b)
        kernel[b] = banks.kernels[b] + banks.plane[b][4 * walk.in[p]] * banks.step[b];
      T* to = sums + row * ld;
      for (std::int64_t v = 0; v < vectors; ++v, to += L) {
        Vec<T> made[4];
        part_branches<T>(from + v * width, shape.branches, made);
        if (own) {
          T* at = to + shape.shifts * apart;
          auto sum = load(at);
          sum += load(by_channel + v * L) * made[shape.channel];
          store(at, sum);
        }
        if (banks.count == 0) continue;
        Vec<T> with[3];
        for (std::int64_t b = 0; b < banks.count; ++b) with[b] = made[branch[b]];
        for (std::int64_t j = 0; j < shape.shifts; ++j) {
          T* at = to + j * apart;
          auto sum = load(at);
          for (std::int64_t b = 0; b < banks.count; ++b) multiply_add(sum, kernel[b][j], with[b]);
          store(at, sum);
        }
      }
    }
    walk.next[t] = p;
  }
  for (std::int64_t r = 0; r < walk.rows; ++r) {
    T* row = sums + r * ld;
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

template <int NV, class T>
static INLINED void multiply_channels(const PairBatch<T>& batch, std::int64_t at, const T* with,
                                      std::int64_t ld, T* to) {
  constexpr int L = lanes<T>;
  Vec<T> sum[NV];
  UNROLL for (int i = 0; i < NV; ++i) sum[i] = load(to + i * L);
  for (std::int64_t n = 0; n < batch.count; ++n) {
    const T* from = batch.from[n] + at;
    const T* row = with + batch.row[n] * ld;
    UNROLL for (int i = 0; i < NV; ++i) sum[i] += load(from + i * L) * load(row + i * L);
  }
  UNROLL for (int i = 0; i < NV; ++i) store(to + i * L, sum[i]);
}

// The dot products of rows with N rows shifted differently, folded to one vector of partial sums.
template <int N, class T>
static INLINED void multiply_bank(const PairBatch<T>& batch, const std::int32_t* plane,
                                  std::int64_t step, const T* with, std::int64_t ld,
                                  std::int64_t wide, T* to) {
  constexpr int L = lanes<T>, F = folded<T>;
  for (std::int64_t n = 0; n < batch.count; ++n) {
    const T* from = batch.from[n];
    const T* row = with + batch.row[n] * ld;
    T* at = to + plane[4 * std::int64_t(batch.place[n])] * step;
    Vec<T> e[F] = {};
    for (std::int64_t c = 0; c < wide; c += L) {
      const auto held = load(from + c);
      UNROLL for (int i = 0; i < N; ++i) e[i] += held * load(row + i * wide + c);
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
                            const TapWalk& walk, T* scratch, T* by_channel, T* const* bank_sums) {
  constexpr int L = lanes<T>, F = folded<T>;
  const std::int64_t own = shape.channel >= 0, vectors = shape.wide / L;
  const std::int64_t slots = own + shape.banks * shape.shifts, ld = slots * shape.wide;
  const std::int64_t apart = shape.wide + shape.pad;
  const std::int64_t parts = shape.join == nullptr ? shape.branches : 1;
  const std::int64_t line = parts * shape.channels;
  const std::int64_t groups = (shape.shifts + F - 1) / F;
  T* copy = scratch;
  T* copies = copy + shape.branches * shape.wide;
  T* apart_rows = copies + batch_pairs * shape.wide + shape.pad;
  T* shifted = apart_rows + shape.branches * apart;
  std::memset(scratch, 0, std::size_t(shifted - scratch) * sizeof(T));
  // the rows of g, branch by branch, shift by shift
  for (std::int64_t r = 0; r < walk.rows; ++r) {
    const T* from = whole_row(g + (walk.first + r) * line, line, parts * shape.wide, copy);
    for (std::int64_t v = 0; v < vectors; ++v) {
      Vec<T> made[4];
      if (shape.join == nullptr)
        part_branches<T>(from + v * shape.branches * L, shape.branches, made);
      else
        for (std::int64_t a = 0; a < shape.branches; ++a)
          made[a] = load(from + v * L) * load(shape.join + a * shape.wide + v * L);
      for (std::int64_t a = 0; a < shape.branches; ++a) store(apart_rows + a * apart + v * L, made[a]);
    }
    T* to = shifted + r * ld;
    for (std::int64_t v = 0; own && v < vectors; ++v)
      store(to + v * L, load(apart_rows + shape.channel * apart + v * L));
    for (std::int64_t b = 0; b < shape.banks; ++b)
      for (std::int64_t j = 0; j < shape.shifts; ++j) {
        T* at = to + (own + b * shape.shifts + j) * shape.wide;
        const T* row = apart_rows + shape.bank[b].branch * apart - shape.shift[j];
        for (std::int64_t v = 0; v < vectors; ++v) store(at + v * L, load(row + v * L));
        for (std::int64_t c = shape.channels; c < shape.wide; ++c) at[c] = 0;
      }
  }
  PairBatch<T> batch;
  for (std::int64_t t = 0; t < walk.taps; ++t) {
    const TapBanks<T> banks(shape, t);
    std::int64_t p = walk.from[t];
    const std::int64_t end = walk.end[t];
    do {
      p = take_pairs(x, shape, walk, walk.out, p, end, copies, batch);
      if (own)
        by_vectors(vectors, [&](auto count, std::int64_t v) {
          multiply_channels<decltype(count)::value>(batch, v * L, shifted + v * L, ld,
                                                    by_channel + t * shape.wide + v * L);
        });
      for (std::int64_t b = 0; b < banks.count; ++b) {
        const std::int64_t bank = banks.bank[b], taps = shape.bank[bank].taps * groups * L;
        T* to = bank_sums[bank] + shape.bank[bank].tap[t] * groups * L;
        const T* with = shifted + (own + bank * shape.shifts) * shape.wide;
        for (std::int64_t j = 0; j < shape.shifts; j += F, to += L, with += F * shape.wide) {
          const std::int64_t left = shape.shifts - j;
          const auto multiply = [&](auto count) {
            multiply_bank<decltype(count)::value>(batch, banks.plane[b], taps, with, ld, shape.wide,
                                                  to);
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
    } while (batch.count == batch_pairs);
    walk.next[t] = p;
  }
}
