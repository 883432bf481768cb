// Sums over the taps of a few output rows, kept in the first-level cache, and their dot products.
// Included inside the namespace of one instruction set, after piece.

// Which weight a piece of channels is multiplied with: one a channel; one for all pieces; one a
// piece.
enum class Weights { channels, one, pieces };

template <Weights kind>
struct Kind {
  static constexpr Weights value = kind;
};

// How the channels of a row are cut in pieces. A run is cut on its own; its last piece ends where
// the run does and may begin before the one before it ends. In the sums every piece has a place of
// its own, so no number is added twice; `settle` moves them to their channels.
struct Cut {
  Weights weights;
  int size;                   // numbers of a piece
  std::int64_t runs, length;  // of a row, in channels
  std::int64_t pieces;        // of a run
  std::int64_t width() const { return runs * pieces * size; }
};

template <class T>
static Cut cut_rows(std::int64_t channels, std::int64_t groups) {
  const std::int64_t length = channels / groups;
  if (length == 1) {
    const int size = piece_size<T>(channels);
    return {Weights::channels, size, 1, channels, (channels + size - 1) / size};
  }
  const int size = piece_size<T>(length);
  if (groups > 1 && size == length) return {Weights::pieces, size, 1, channels, groups};
  return {Weights::one, size, groups, length, (length + size - 1) / size};
}

template <class T>
static std::int64_t tap_width(std::int64_t channels, std::int64_t groups) {
  return channels == 0 ? 0 : cut_rows<T>(channels, groups).width();
}

// Rows of the next block, fetched a few a tap: a burst of misses would be waited for.
struct Soon {
  const char* base;
  std::int64_t pitch, bytes;
  const std::int32_t* rows;
  std::int64_t count;

  INLINED void fetch(std::int64_t t, std::int64_t taps) const {
    for (std::int64_t i = count * t / taps; i < count * (t + 1) / taps; ++i) {
      const char* row = base + rows[i] * pitch;
      for (std::int64_t b = 0; b < bytes; b += 64) PREFETCH(row + b);
    }
  }
};
template <class S>
static inline Soon soon(const S* x, std::int64_t ldx, std::int64_t width,
                        const std::int32_t* rows, const TapWalk& walk) {
  return {reinterpret_cast<const char*>(x), ldx * std::int64_t(sizeof(S)),
          width * std::int64_t(sizeof(S)), rows + walk.soon, walk.soon_count};
}

// Of a tap's later pairs, which may be those of the next block.
constexpr std::int64_t fetched_ahead = 12;
template <int L, int NV, class S>
static INLINED void fetch_later(const S* x, std::int64_t ldx, std::int64_t p, const TapWalk& walk) {
  constexpr int line = 64 / int(L * sizeof(S)), step = line > 1 ? line : 1;
  if (p + fetched_ahead >= walk.count) return;
  const S* later = x + walk.in[p + fetched_ahead] * ldx;
  UNROLL for (int v = 0; v < NV; v += step) PREFETCH(later + v * L);
}

// NV pieces of L numbers, the last one beginning at channel `last`.
template <int L, int NV, Weights kind, class S, class W, class T>
static void add_pieces(const S* x, std::int64_t ldx, std::int64_t last, const W* w,
                       std::int64_t ldw, const std::int32_t* weight_rows, const TapWalk& walk,
                       const Soon* fetched, T* sums, std::int64_t ld) {
  using P = typename Piece<T, L>::type;
  for (std::int64_t t = 0; t < walk.taps; ++t) {
    std::int64_t p = walk.from[t];
    const std::int64_t end = walk.end[t];
    const W* tap = w + t * ldw;
    P held[NV];
    for (; p < end; ++p) {
      const std::int64_t row = walk.out[p] - walk.first;
      if (row >= walk.rows) break;
      const S* from = x + walk.in[p] * ldx;
      T* to = sums + row * ld;
      fetch_later<L, NV>(x, ldx, p, walk);
      P sum[NV];
      UNROLL for (int v = 0; v < NV; ++v) sum[v] = load_piece<L, T, T>(to + v * L);
      const W* scale = tap + weight_rows[p] * walk.taps * ldw;
      if constexpr (kind == Weights::channels)
        UNROLL for (int v = 0; v < NV; ++v)
            held[v] = load_piece<L, W, T>(scale + (v + 1 < NV ? v * L : last));
      UNROLL for (int v = 0; v < NV; ++v) {
        const P read = load_piece<L, S, T>(from + (v + 1 < NV ? v * L : last));
        if constexpr (kind == Weights::channels)
          sum[v] += held[v] * read;
        else
          sum[v] += T(widen(scale[kind == Weights::pieces ? v : 0])) * read;
      }
      UNROLL for (int v = 0; v < NV; ++v) store_piece<L, T>(to + v * L, sum[v]);
    }
    walk.next[t] = p;
    if (fetched != nullptr) fetched->fetch(t, walk.taps);
  }
}

template <int L, Weights kind, class S, class W, class T>
static void add_runs(const Cut& cut, const S* x, std::int64_t ldx, const W* w, std::int64_t ldw,
                     const std::int32_t* weight_rows, const TapWalk& walk, const Soon* fetched, T* sums, std::int64_t ld) {
  for (std::int64_t run = 0; run < cut.runs; ++run) {
    const S* from = x + run * cut.length;
    const W* scale = w + (kind == Weights::one ? run : 0);
    T* to = sums + run * cut.pieces * L;
    for (std::int64_t done = 0; done < cut.pieces;) {
      const std::int64_t left = cut.pieces - done;
      const int now = left >= 4 ? 4 : left >= 2 ? 2 : 1;
      const std::int64_t final = done + now < cut.pieces ? (done + now - 1) * L : cut.length - L;
      const std::int64_t begin = now == 1 ? final : done * L, last = final - begin;
      const W* with = scale + (kind == Weights::one      ? 0
                               : kind == Weights::pieces ? done
                                                         : begin);
      const auto run_pieces = [&](auto count) {
        add_pieces<L, decltype(count)::value, kind>(from + begin, ldx, last, with, ldw, weight_rows,
                                                    walk, fetched, to + done * L, ld);
      };
      if (now == 4)
        run_pieces(Size<4>{});
      else if (now == 2)
        run_pieces(Size<2>{});
      else
        run_pieces(Size<1>{});
      done += now;
      fetched = nullptr;
    }
  }
}

// Move the pieces to their channels. A piece never moves up, so none is overwritten before it moved.
template <int L, class T>
static void settle(const Cut& cut, std::int64_t rows, T* sums, std::int64_t ld) {
  if (cut.length == cut.pieces * L) return;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t run = 0; run < cut.runs; ++run)
      for (std::int64_t v = 0; v < cut.pieces; ++v) {
        T* row = sums + r * ld;
        const std::int64_t at = v + 1 < cut.pieces ? v * L : cut.length - L;
        const auto piece = load_piece<L, T, T>(row + (run * cut.pieces + v) * L);
        store_piece<L, T>(row + run * cut.length + at, piece);
      }
}

template <int L, class T>
static void clear_rows(const Cut& cut, std::int64_t rows, T* sums, std::int64_t ld) {
  const typename Piece<T, L>::type none{};
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < cut.width(); c += L) store_piece<L, T>(sums + r * ld + c, none);
}

template <class S, class T>
static void weigh_taps(const S* x, std::int64_t ldx, std::int64_t channels, std::int64_t groups,
                       const S* w, const std::int32_t* weight_rows, const TapWalk& walk, T* sums,
                       std::int64_t ld) {
  const Cut cut = cut_rows<T>(channels, groups);
  visit_size<lanes<T>>(cut.size, [&](auto size) {
    constexpr int L = decltype(size)::value;
    clear_rows<L, T>(cut, walk.rows, sums, ld);
    const Soon fetched = soon(w, walk.taps * groups, walk.taps * groups, weight_rows, walk);
    const auto add = [&](auto kind) {
      add_runs<L, decltype(kind)::value>(cut, x, ldx, w, groups, weight_rows, walk, &fetched, sums,
                                         ld);
    };
    if (cut.weights == Weights::channels)
      add(Kind<Weights::channels>{});
    else if (cut.weights == Weights::pieces)
      add(Kind<Weights::pieces>{});
    else
      add(Kind<Weights::one>{});
    settle<L>(cut, walk.rows, sums, ld);
  });
}

template <class S, class T>
static void settle_taps(std::int64_t channels, std::int64_t taps, T* acc, std::int64_t ld) {
  const Cut cut = cut_rows<T>(channels, channels);
  visit_size<lanes<T>>(cut.size,
                       [&](auto size) { settle<decltype(size)::value>(cut, taps, acc, ld); });
}

// e += a b, channel by channel.
template <int L, class S, class T>
static inline void multiply_row(const S* a, const S* b, T* e, std::int64_t n) {
  std::int64_t c = 0;
  for (; c + L <= n; c += L) {
    auto sum = load_piece<L, T, T>(e + c);
    sum += load_piece<L, S, T>(a + c) * load_piece<L, S, T>(b + c);
    store_piece<L, T>(e + c, sum);
  }
  if constexpr (L > 1)
    if (c < n) multiply_row<L / 2>(a + c, b + c, e + c, n - c);
}

// products[0 .. L) <- channel products of one group of one pair, added up to L numbers.
template <int L, class S, class T>
static inline void multiply_group(const S* a, const S* b, std::int64_t n, T* products) {
  auto sum = load_piece<L, S, T>(a) * load_piece<L, S, T>(b);
  std::int64_t c = L;
  for (; c + L <= n; c += L)
    sum += load_piece<L, S, T>(a + c) * load_piece<L, S, T>(b + c);
  store_piece<L, T>(products, sum);
  for (; c < n; ++c) products[0] += T(widen(a[c])) * T(widen(b[c]));
}

// pairs and groups multiplied before their products are added up
constexpr std::int64_t product_count = 1024;

template <int L, class S, class T>
static void dot_groups(const S* a, const S* b, std::int64_t channels, std::int64_t groups,
                       const TapWalk& walk, T* e) {
  const std::int64_t length = channels / groups;
  const std::int64_t block = groups < product_count / L ? groups : product_count / L;
  const std::int64_t batch = product_count / L / block;
  alignas(VECTOR_BYTES) T products[product_count + 2 * lanes<T>] = {};
  const Soon fetched = soon(b, channels, channels, walk.out, walk);
  for (std::int64_t t = 0; t < walk.taps; ++t) {
    std::int64_t p = walk.from[t], stop = p;
    while (stop < walk.end[t] && walk.out[stop] - walk.first < walk.rows) ++stop;
    walk.next[t] = stop;
    fetched.fetch(t, walk.taps);
    for (; p < stop; p += batch) {
      const std::int64_t n = stop - p < batch ? stop - p : batch;
      for (std::int64_t group = 0; group < groups; group += block) {
        const std::int64_t now = groups - group < block ? groups - group : block;
        T* to = products;
        for (std::int64_t i = p; i < p + n; ++i) {
          const S* left = a + walk.in[i] * channels + group * length;
          const S* right = b + walk.out[i] * channels + group * length;
          if (i + fetched_ahead < walk.count) {
            const S* later = a + walk.in[i + fetched_ahead] * channels + group * length;
            for (std::int64_t c = 0; c < now * length; c += 64 / sizeof(S)) PREFETCH(later + c);
          }
          for (std::int64_t g = 0; g < now; ++g, to += L)
            multiply_group<L>(left + g * length, right + g * length, length, to);
        }
        std::int64_t left = n * now * L;
        for (int step = L; step > 1; step /= 2) {
          left /= 2;
          for (std::int64_t i = 0; i < left; i += lanes<T>)
            store(products + i,
                  add_neighbours<T>(load(products + 2 * i), load(products + 2 * i + lanes<T>)));
        }
        const T* dots = products;
        for (std::int64_t i = p; i < p + n; ++i) {
          T* add = e + ((walk.out[i] - walk.first) * walk.taps + t) * groups + group;
          for (std::int64_t g = 0; g < now; ++g) add[g] += *dots++;
        }
      }
    }
  }
}

template <class S, class T>
static void dot_taps(const S* a, const S* b, std::int64_t channels, std::int64_t groups,
                     const TapWalk& walk, T* e) {
  if (groups < channels)
    return visit_size<lanes<T>>(piece_size<T>(channels / groups), [&](auto size) {
      dot_groups<decltype(size)::value>(a, b, channels, groups, walk, e);
    });
  const Soon fetched = soon(b, channels, channels, walk.out, walk);
  for (std::int64_t t = 0; t < walk.taps; ++t) {
    fetched.fetch(t, walk.taps);
    std::int64_t p = walk.from[t];
    for (; p < walk.end[t]; ++p) {
      const std::int64_t row = walk.out[p] - walk.first;
      if (row >= walk.rows) break;
      multiply_row<lanes<T>>(a + walk.in[p] * channels, b + walk.out[p] * channels,
                             e + (row * walk.taps + t) * groups, channels);
    }
    walk.next[t] = p;
  }
}
