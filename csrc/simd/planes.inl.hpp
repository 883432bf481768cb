// Dimension-wise convolution, a row at a time: its sums stay in registers and the first-level cache.
// Included inside the namespace of one instruction set, after branches and taps.

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

// The row of a pair to come.
constexpr std::int64_t listed_ahead = 24;
template <class S>
static INLINED void fetch_row(const S* x, std::int64_t width, const std::uint64_t* pair) {
  const char* row = reinterpret_cast<const char*>(x + std::int64_t(*pair & 0xffffffffu) * width);
  for (std::int64_t b = 0; b < width * std::int64_t(sizeof(S)); b += 64) PREFETCH(row + b);
}

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

// Some pairs of a row, and which of them each bank has: the loops over them know nothing else.
template <class T>
struct PairBatch {
  std::int64_t count, of_bank[3];
  const T* from[batch_pairs];        // whole rows
  std::int64_t tap[batch_pairs];     // of the window
  const T* read[3][batch_pairs];     // of a bank: whole rows,
  std::int64_t place[3][batch_pairs];  // their kernels, as plane * taps + tap
};

// Take pairs [pair, end), at most batch_pairs of them. Planes are those of row `own`, or, where it is
// -1, of the row a pair reads. Rows that must be copied go to copies [batch_pairs][wide].
template <class S, class T>
static INLINED void take_pairs(const S* x, const PlaneShape<T>& shape, const std::uint64_t* pair,
                               const std::uint64_t* end, std::int64_t own, T* copies,
                               PairBatch<T>& batch) {
  const std::int64_t count = end - pair < batch_pairs ? end - pair : batch_pairs;
  batch.count = count;
  for (std::int64_t n = 0; n < count; ++n) {
    const std::int64_t in = std::int64_t(pair[n] & 0xffffffffu);
    fetch_row(x, shape.channels, pair + n + listed_ahead);
    batch.tap[n] = std::int64_t(pair[n] >> 32);
    batch.from[n] =
        whole_row(x + in * shape.channels, shape.channels, shape.wide, copies + n * shape.wide);
  }
  for (std::int64_t b = 0; b < shape.banks; ++b) {
    const auto& bank = shape.bank[b];
    std::int64_t of_bank = 0;
    for (std::int64_t n = 0; n < count; ++n) {
      const std::int64_t row = own >= 0 ? own : std::int64_t(pair[n] & 0xffffffffu);
      const std::int32_t tap = bank.tap[batch.tap[n]];
      batch.read[b][of_bank] = batch.from[n];
      batch.place[b][of_bank] = std::int64_t(bank.plane[4 * row]) * bank.taps + tap;
      of_bank += tap >= 0;
    }
    batch.of_bank[b] = of_bank;
  }
}

// NV vectors from `at` on of the sums of J shifts of a bank.
template <int NV, int J, class T>
static INLINED void add_bank(const PairBatch<T>& batch, std::int64_t b, const T* kernels,
                             std::int64_t shifts, std::int64_t at, std::int64_t apart, T* to) {
  constexpr int L = lanes<T>;
  Vec<T> sum[J][NV];
  UNROLL for (int j = 0; j < J; ++j)
    UNROLL for (int i = 0; i < NV; ++i) sum[j][i] = load(to + j * apart + i * L);
  for (std::int64_t n = 0; n < batch.of_bank[b]; ++n) {
    const T* from = batch.read[b][n] + at;
    const T* kernel = kernels + batch.place[b][n] * shifts;
    UNROLL for (int i = 0; i < NV; ++i) {
      const Vec<T> held = load(from + i * L);
      UNROLL for (int j = 0; j < J; ++j) multiply_add(sum[j][i], kernel[j], held);
    }
  }
  UNROLL for (int j = 0; j < J; ++j)
    UNROLL for (int i = 0; i < NV; ++i) store(to + j * apart + i * L, sum[j][i]);
}

// sums += the neighbours of a row times the kernels of every tap and shift; they are not shifted yet.
template <class S, class T>
static INLINED void add_neighbours_up(const S* x, const PlaneShape<T>& shape,
                                      const std::uint64_t* pair, const std::uint64_t* end,
                                      std::int64_t place, T* copies, T* sums) {
  constexpr int L = lanes<T>;
  const std::int64_t apart = shape.wide + shape.pad, own = shape.channel >= 0;
  PairBatch<T> batch;
  for (; pair < end; pair += batch_pairs) {
    take_pairs(x, shape, pair, end, place, copies, batch);
    by_vectors(shape.wide / L, [&](auto count, std::int64_t v) {
      constexpr int NV = decltype(count)::value;
      const std::int64_t at = v * L;
      if (own) {
        Vec<T> sum[NV];
        UNROLL for (int i = 0; i < NV; ++i) sum[i] = load(sums + at + i * L);
        for (std::int64_t n = 0; n < batch.count; ++n) {
          const T* from = batch.from[n] + at;
          const T* w = shape.by_channel + batch.tap[n] * shape.wide + at;
          UNROLL for (int i = 0; i < NV; ++i) sum[i] += load(w + i * L) * load(from + i * L);
        }
        UNROLL for (int i = 0; i < NV; ++i) store(sums + at + i * L, sum[i]);
      }
      for (std::int64_t b = 0; b < shape.banks; ++b) {
        const T* kernels = shape.bank[b].kernels;
        T* to = sums + (own + b * shape.shifts) * apart + at;
        std::int64_t j = 0;
        for (; j + 3 <= shape.shifts; j += 3)
          add_bank<NV, 3>(batch, b, kernels + j, shape.shifts, at, apart, to + j * apart);
        for (; j < shape.shifts; ++j)
          add_bank<NV, 1>(batch, b, kernels + j, shape.shifts, at, apart, to + j * apart);
      }
    });
  }
}

// lines[r] <- the branches of row first + r, their channels in turn, or what joins them. Neighbours
// are added up with the kernels of each shift; then the sums are shifted.
template <class S, class T>
static void sum_planes(const S* x, const PlaneShape<T>& shape, const RowWalk& walk,
                       std::int64_t first, T* scratch, T* lines) {
  constexpr int L = lanes<T>;
  const std::int64_t apart = shape.wide + shape.pad, own = shape.channel >= 0;
  const std::int64_t slots = sums_of(shape), vectors = shape.wide / L;
  // rows that must be copied; a pad; sums
  T* row = scratch + batch_pairs * shape.wide + shape.pad;
  std::memset(scratch, 0, std::size_t(row - scratch) * sizeof(T));
  for (std::int64_t r = 0; r < walk.rows; ++r) {
    std::memset(row, 0, std::size_t(slots * apart) * sizeof(T));
    add_neighbours_up(x, shape, walk.pairs + walk.starts[r], walk.pairs + walk.starts[r + 1],
                      first + r, scratch, row);
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

