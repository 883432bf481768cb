// Sums over the pairs of output rows, row by row, and their dot products.
// Included inside the namespace of one instruction set, after piece.

// Pairs whose rows are fetched ahead: a third of a usual first-level cache, for the list is known.
template <int L, int NV, class S>
constexpr std::int64_t list_ahead() {
  constexpr std::int64_t bytes = L * NV * sizeof(S), lines = bytes > 64 ? bytes : 64;
  return 16384 / lines < row_list_spare ? 16384 / lines : row_list_spare;
}
static_assert(row_list_spare >= 64, "what is fetched ahead may be read");

template <int L, int NV, class S>
static INLINED void fetch_listed(const S* x, std::int64_t ldx, const std::uint64_t* pair) {
  constexpr int line = 64 / int(L * sizeof(S)), step = line > 1 ? line : 1;
  const S* later = x + std::int64_t(pair[list_ahead<L, NV, S>()] & 0xffffffffu) * ldx;
  UNROLL for (int v = 0; v < NV; v += step) PREFETCH(later + v * L);
}

template <class T>
static bool whole_vectors(const T* to, std::int64_t n) {
  return n % lanes<T> == 0 && reinterpret_cast<std::uintptr_t>(to) % VECTOR_BYTES == 0;
}

template <class S, class T>
static void put_rows(const T* sums, std::int64_t ld, std::int64_t rows, std::int64_t n, S* to,
                     bool past) {
#ifdef STREAM
  if constexpr (sizeof(S) == sizeof(T)) {
    if (past && whole_vectors(to, n)) {
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < n; c += lanes<T>)
          STREAM(to + r * n + c, load(sums + r * ld + c));
      // other threads may read the rows after the task
      _mm_sfence();
      return;
    }
  }
#endif
  (void)past;
  for (std::int64_t r = 0; r < rows; ++r) narrow_row(sums + r * ld, to + r * n, n);
}

// Where the pieces of a run begin. The last one ends where the row does, and may begin before the one
// before it ends; where it does not, the places are known when this is compiled.
template <int L, int NV, bool whole>
struct Run {
  std::int64_t last;
  std::int64_t operator[](int v) const { return whole || v + 1 < NV ? v * L : last; }
};

// Cut n numbers of a row in pieces of L, and these in runs: visit(run, count, begin).
template <int L, int whole, class Visit>
static inline void visit_runs(std::int64_t n, Visit&& visit) {
  const std::int64_t pieces = (n + L - 1) / L;
  for (std::int64_t done = 0; done < pieces;) {
    const std::int64_t left = pieces - done;
    const auto run = [&](auto count) {
      constexpr int now = decltype(count)::value;
      const std::int64_t final = done + now < pieces ? (done + now - 1) * L : n - L;
      const std::int64_t begin = now == 1 ? final : done * L;
      if (final - begin == (now - 1) * L)
        visit(Run<L, now, true>{}, count, begin);
      else
        visit(Run<L, now, false>{final - begin}, count, begin);
      done += now;
    };
    // pieces narrower than a vector are two at most
    if constexpr (L == whole) {
      if (left >= 8) {
        run(Size<8>{});
        continue;
      }
      if (left >= 4) {
        run(Size<4>{});
        continue;
      }
    }
    if (left >= 2)
      run(Size<2>{});
    else
      run(Size<1>{});
  }
}

template <int L, int NV, bool past, bool whole, class S, class T>
static APART void scale_run(Run<L, NV, whole> run, const S* x, std::int64_t ldx, const T* w,
                      std::int64_t ldw, const RowWalk& walk, const T* start, T* to,
                      std::int64_t ld) {
  using P = typename Piece<T, L>::type;
  P first[NV] = {};
  if (start != nullptr)
    UNROLL for (int v = 0; v < NV; ++v)
        first[v] = load_piece<L, T, T>(start + run[v]);
  for (std::int64_t r = 0; r < walk.rows; ++r, to += ld) {
    P sum[NV];
    UNROLL for (int v = 0; v < NV; ++v) sum[v] = first[v];
    const std::uint64_t* end = walk.pairs + walk.starts[r + 1];
    for (const std::uint64_t* pair = walk.pairs + walk.starts[r]; pair != end; ++pair) {
      fetch_listed<L, NV>(x, ldx, pair);
      const S* from = x + std::int64_t(*pair & 0xffffffffu) * ldx;
      const T* tap = w + std::int64_t(*pair >> 32) * ldw;
      UNROLL for (int v = 0; v < NV; ++v)
          sum[v] += load_piece<L, T, T>(tap + run[v]) * load_piece<L, S, T>(from + run[v]);
    }
    UNROLL for (int v = 0; v < NV; ++v) {
      T* at = to + run[v];
#ifdef STREAM
      if constexpr (past) {
        STREAM(at, sum[v]);
        continue;
      }
#endif
      store_piece<L, T>(at, sum[v]);
    }
  }
}

template <class S, class T>
static void scale_rows(const S* x, std::int64_t ldx, std::int64_t channels, const T* w,
                       std::int64_t ldw, const RowWalk& walk, const T* start, T* to,
                       std::int64_t ld, bool past) {
  visit_size<lanes<T>>(piece_size<T>(channels), [&](auto size) {
    constexpr int L = decltype(size)::value;
    visit_runs<L, lanes<T>>(channels, [&](auto run, auto count, std::int64_t begin) {
      constexpr int NV = decltype(count)::value;
      const T* from = start == nullptr ? nullptr : start + begin;
#ifdef STREAM
      // a run that begins or ends within a line of the cache would write parts of it
      if constexpr (L == lanes<T>)
        if (past && whole_vectors(to, channels) && whole_vectors(to, ld) &&
            (VECTOR_BYTES == 64 || NV % 2 == 0 || channels == L)) {
          scale_run<L, NV, true>(Run<L, NV, true>{}, x + begin, ldx, w + begin, ldw, walk, from,
                                 to + begin, ld);
          // other threads may read the rows after the task
          _mm_sfence();
          return;
        }
#endif
      (void)past;
      scale_run<L, NV, false>(run, x + begin, ldx, w + begin, ldw, walk, from, to + begin, ld);
    });
  });
}

template <int L, int NV, bool whole, class S, class T>
static APART void multiply_run(Run<L, NV, whole> run, const S* x, std::int64_t ldx, const S* g,
                         std::int64_t ldg, const RowWalk& walk, T* acc, std::int64_t ld) {
  using P = typename Piece<T, L>::type;
  for (std::int64_t r = 0; r < walk.rows; ++r, g += ldg) {
    P held[NV];
    UNROLL for (int v = 0; v < NV; ++v)
        held[v] = load_piece<L, S, T>(g + run[v]);
    const std::uint64_t* end = walk.pairs + walk.starts[r + 1];
    for (const std::uint64_t* pair = walk.pairs + walk.starts[r]; pair != end; ++pair) {
      fetch_listed<L, NV>(x, ldx, pair);
      const S* from = x + std::int64_t(*pair & 0xffffffffu) * ldx;
      T* to = acc + std::int64_t(*pair >> 32) * ld;
      UNROLL for (int v = 0; v < NV; ++v) {
        P sum = load_piece<L, T, T>(to + v * L);
        sum += load_piece<L, S, T>(from + run[v]) * held[v];
        store_piece<L, T>(to + v * L, sum);
      }
    }
  }
}

// g is that of the first row; every piece has sums of its own, see settle_taps
template <class S, class T>
static void multiply_rows(const S* x, std::int64_t ldx, const S* g, std::int64_t ldg,
                          std::int64_t channels, const RowWalk& walk, T* acc, std::int64_t ld) {
  visit_size<lanes<T>>(piece_size<T>(channels), [&](auto size) {
    constexpr int L = decltype(size)::value;
    std::int64_t done = 0;
    visit_runs<L, lanes<T>>(channels, [&](auto run, auto count, std::int64_t begin) {
      constexpr int NV = decltype(count)::value;
      multiply_run(run, x + begin, ldx, g + begin, ldg, walk, acc + done, ld);
      done += NV * L;
    });
  });
}
