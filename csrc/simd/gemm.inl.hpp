// Register-blocked gather-GEMM and gathered outer products.
// Included inside the namespace of one instruction set, after vec and convert.

// pairs gathered at a time: a multiple of every block height below
constexpr int gemm_chunk = 48;
// first-level caches of processors with few registers may hold 32 KiB, which 64 channels of 64 pairs
// would fill
constexpr int outer_chunk = VECTOR_COUNT == 32 ? 64 : 48;
// channels gathered at a time, and the pitch of a gathered row: padded by a cache line or two so
// that the rows of a block do not share one cache set
constexpr int depth = 128;
constexpr int pitch = depth + 16;
constexpr int outer_pitch = int(outer_limit) + 16;

// Copy a row: short, so by vectors and never by a call.
template <class T>
static inline void copy_row(const T* from, T* to, std::int64_t n) {
  constexpr std::int64_t v = lanes<T>;
  std::int64_t i = 0;
  for (; i + 4 * v <= n; i += 4 * v) {
    const Vec<T> a = load(from + i), b = load(from + i + v);
    const Vec<T> c = load(from + i + 2 * v), d = load(from + i + 3 * v);
    store(to + i, a);
    store(to + i + v, b);
    store(to + i + 2 * v, c);
    store(to + i + 3 * v, d);
  }
  for (; i + v <= n; i += v) {
    store(to + i, load(from + i));
    KEEP_LOOP;
  }
  for (; i < n; ++i) {
    to[i] = from[i];
    KEEP_LOOP;
  }
}

// Rows that will be read next: fetched little by little while the present ones are multiplied, for
// a burst of misses would be waited for.
template <class S>
struct Ahead {
  const S* x;
  std::int64_t ldx;
  const std::int32_t* rows;
  int count;
  std::int64_t bytes;

  void fetch(int begin, int end) const {
    if (end > count) end = count;
    for (int p = begin; p < end; ++p) {
      const char* row = reinterpret_cast<const char*>(x + rows[p] * ldx);
      for (std::int64_t b = 0; b < bytes; b += 64) PREFETCH(row + b);
    }
  }
};

// Columns are cut in panels of at most `panel_vectors` vectors, as equal as can be.
static inline int panel_count(std::int64_t vectors) {
  return int((vectors + panel_vectors - 1) / panel_vectors);
}
static inline int panel_size(std::int64_t vectors, int panel) {
  const int count = panel_count(vectors);
  return int(vectors / count) + (panel < int(vectors % count) ? 1 : 0);
}

template <class T>
static std::int64_t padded(std::int64_t width) {
  return (width + lanes<T> - 1) / lanes<T> * lanes<T>;
}

template <class S, class T>
static void pack(const S* w, std::int64_t stride_c, std::int64_t stride_d, std::int64_t channels,
                 std::int64_t width, T* packed) {
  const std::int64_t vectors = padded<T>(width) / lanes<T>;
  std::int64_t column = 0;
  for (int panel = 0; panel < panel_count(vectors); ++panel) {
    const std::int64_t columns = panel_size(vectors, panel) * std::int64_t(lanes<T>);
    const std::int64_t real = width - column < columns ? width - column : columns;
    const S* from = w + column * stride_d;
    if (stride_d == 1) {
      for (std::int64_t c = 0; c < channels; ++c) {
        T* row = packed + c * columns;
        if constexpr (sizeof(S) == sizeof(T)) {
          copy_row(from + c * stride_c, row, real);
        } else {
          widen_row(from + c * stride_c, row, real);
        }
        for (std::int64_t d = real; d < columns; ++d) row[d] = 0;
      }
    } else {
      std::int64_t c = 0;
      // squares of whole vectors change rows and columns in registers, along the memory they lie in
      if constexpr (sizeof(S) == sizeof(T))
        if (stride_c == 1) {
          const std::int64_t whole = channels / lanes<T> * lanes<T>;
          std::int64_t d = 0;
          for (; d + lanes<T> <= real; d += lanes<T>)
            for (c = 0; c < whole; c += lanes<T>) {
              Vec<T> square[lanes<T>];
              UNROLL for (int i = 0; i < lanes<T>; ++i)
                  square[i] = load(from + c + (d + i) * stride_d);
              transpose<T>(square);
              UNROLL for (int i = 0; i < lanes<T>; ++i)
                  store(packed + (c + i) * columns + d, square[i]);
            }
          for (; d < columns; ++d)
            for (c = 0; c < whole; ++c)
              packed[c * columns + d] = d < real ? T(from[c + d * stride_d]) : T(0);
          c = whole;
        }
      // columns outermost in blocks of channels: reads run along memory, writes stay in cache
      for (; c < channels; c += 16) {
        const std::int64_t last = c + 16 < channels ? c + 16 : channels;
        for (std::int64_t d = 0; d < columns; ++d)
          for (std::int64_t i = c; i < last; ++i)
            packed[i * columns + d] = d < real ? T(widen(from[i * stride_c + d * stride_d])) : T(0);
      }
    }
    packed += channels * columns;
    column += columns;
  }
}

// rows[m][0 : NV vectors] += from[m][0 : depth_now] w, for m < MR; written as start + product where
// start is given. The sum over channels is taken from zero and then added, so that a row which
// occurs twice in a block gets both products.
template <class T, int NV, int MR, class Step>
static inline void block(const T* const* from, const T* w, std::int64_t depth_now, T* const* rows,
                         std::int64_t column, const T* start, Step&& meanwhile) {
  const T* a[MR];
  UNROLL for (int m = 0; m < MR; ++m) a[m] = from[m];
  // few registers make short blocks, whose sums would be waited for
  if constexpr (VECTOR_COUNT < 32) {
    UNROLL for (int m = 0; m < MR; ++m) PREFETCH(rows[m] + column);
  }
  Vec<T> sum[MR][NV] = {};
  for (std::int64_t k = 0; k < depth_now; ++k) {
    Vec<T> wide[NV];
    UNROLL for (int n = 0; n < NV; ++n) wide[n] = load(w + n * lanes<T>);
    w += NV * lanes<T>;
    meanwhile();
    UNROLL for (int m = 0; m < MR; ++m) {
      UNROLL for (int n = 0; n < NV; ++n) multiply_add(sum[m][n], a[m][k], wide[n]);
    }
  }
  if (start != nullptr) {
    UNROLL for (int m = 0; m < MR; ++m) {
      UNROLL for (int n = 0; n < NV; ++n) {
        Vec<T> value = load(start + column + n * lanes<T>);
        value += sum[m][n];
        store(rows[m] + column + n * lanes<T>, value);
      }
    }
    return;
  }
  UNROLL for (int m = 0; m < MR; ++m) {
    T* row = rows[m] + column;
    UNROLL for (int n = 0; n < NV; ++n) {
      Vec<T> old = load(row + n * lanes<T>);
      old += sum[m][n];
      store(row + n * lanes<T>, old);
    }
  }
}

template <class T, int NV, int MR>
static inline void last_block(int rest, const T* const* from, const T* w, std::int64_t depth_now,
                              T* const* rows, std::int64_t column, const T* start) {
  if constexpr (MR > 0) {
    if (rest == MR)
      block<T, NV, MR>(from, w, depth_now, rows, column, start, [] {});
    else
      last_block<T, NV, MR - 1>(rest, from, w, depth_now, rows, column, start);
  }
}

template <int NV, class S, class T, class Step>
static void panel_gemm(const T* const* from, const T* w, std::int64_t depth_now, int n,
                       T* const* rows, std::int64_t column, const T* start,
                       const Ahead<S>& ahead, Step&& meanwhile) {
  constexpr int MR = block_rows<NV>;
  int p = 0;
  for (; p + MR <= n; p += MR) {
    ahead.fetch(p, p + MR);
    block<T, NV, MR>(from + p, w, depth_now, rows + p, column, start, meanwhile);
  }
  ahead.fetch(p, ahead.count);
  last_block<T, NV, MR - 1>(n - p, from + p, w, depth_now, rows + p, column, start);
}

// Rows are read in place where they have the sums' type, else widened to a small buffer first.
template <class S, class T>
static void gather_gemm(const S* x, std::int64_t ldx, std::int64_t channels, const T* packed,
                        std::int64_t width, const std::int32_t* in, const std::int32_t* out,
                        std::int64_t n, std::int64_t first, T* y, std::int64_t ldy, const T* start,
                        const std::int32_t* next, std::int64_t next_n, const Later& what) {
  constexpr bool in_place = sizeof(S) == sizeof(T);
  alignas(64) T wide[in_place ? 1 : gemm_chunk * pitch];
  const T* from[gemm_chunk];
  T* rows[gemm_chunk];
  const std::int64_t vectors = padded<T>(width) / lanes<T>;
  const std::int64_t bytes = channels * std::int64_t(sizeof(S));
  LaterWalk later(what, n / block_rows<panel_vectors> * panel_count(vectors) * channels);
  for (std::int64_t p0 = 0; p0 < n; p0 += gemm_chunk) {
    const int now = int(n - p0 < gemm_chunk ? n - p0 : gemm_chunk);
    for (int p = 0; p < now; ++p) rows[p] = y + (out[p0 + p] - first) * ldy;
    // rows of the next chunk are fetched while this one is multiplied
    const bool last = p0 + gemm_chunk >= n;
    const std::int64_t left = last ? next_n : n - p0 - gemm_chunk;
    Ahead<S> ahead = {x, ldx, last ? next : in + p0 + gemm_chunk,
                      int(left < gemm_chunk ? left : gemm_chunk), bytes};
    for (std::int64_t k = 0; k < channels; k += depth) {
      const std::int64_t depth_now = channels - k < depth ? channels - k : depth;
      for (int p = 0; p < now; ++p) {
        const S* row = x + in[p0 + p] * ldx + k;
        if constexpr (in_place) {
          from[p] = row;
        } else {
          from[p] = wide + p * pitch;
          widen_row(row, wide + p * pitch, depth_now);
        }
      }
      const T* begin = k == 0 ? start : nullptr;
      const T* w = packed;
      std::int64_t column = 0;
      for (int panel = 0; panel < panel_count(vectors); ++panel) {
        const int size = panel_size(vectors, panel);
        const T* part = w + k * size * lanes<T>;
        const auto multiply = [&](auto&& step) {
          if (size == 1) panel_gemm<1>(from, part, depth_now, now, rows, column, begin, ahead, step);
          if (size == 2) panel_gemm<2>(from, part, depth_now, now, rows, column, begin, ahead, step);
          if constexpr (panel_vectors > 2) {
            if (size == 3)
              panel_gemm<3>(from, part, depth_now, now, rows, column, begin, ahead, step);
            if (size == 4)
              panel_gemm<4>(from, part, depth_now, now, rows, column, begin, ahead, step);
          }
        };
        if (later.any())
          multiply([&] { later.step(); });
        else
          multiply([] {});
        ahead.count = 0;
        w += channels * size * lanes<T>;
        column += size * std::int64_t(lanes<T>);
      }
    }
  }
}

// acc[m][0 : NV vectors] += sum over pairs of a[p][m] b[p][0 : NV vectors], for m < MR; or = where nothing
// has begun, past the caches where told so.
template <class T, int NV, int MR>
static inline void outer_block(const T* const* a, const T* const* b, std::int64_t c, std::int64_t d,
                               int pairs, Write how, T* acc, std::int64_t lda) {
  Vec<T> sum[MR][NV] = {};
  for (int p = 0; p < pairs; ++p) {
    const T* left = a[p] + c;
    const T* right = b[p] + d;
    Vec<T> wide[NV];
    UNROLL for (int n = 0; n < NV; ++n) wide[n] = load(right + n * lanes<T>);
    UNROLL for (int m = 0; m < MR; ++m) {
      UNROLL for (int n = 0; n < NV; ++n) multiply_add(sum[m][n], left[m], wide[n]);
    }
  }
  acc += c * lda + d;
  UNROLL for (int m = 0; m < MR; ++m) {
#ifdef STREAM
    if (how == Write::past) {
      UNROLL for (int n = 0; n < NV; ++n) STREAM(acc + m * lda + n * lanes<T>, sum[m][n]);
      continue;
    }
#endif
    if (how == Write::add) {
      UNROLL for (int n = 0; n < NV; ++n) sum[m][n] += load(acc + m * lda + n * lanes<T>);
    }
    UNROLL for (int n = 0; n < NV; ++n) store(acc + m * lda + n * lanes<T>, sum[m][n]);
  }
}

template <class T, int NV, int MR>
static inline void last_outer(int rest, const T* const* a, const T* const* b, std::int64_t c,
                              std::int64_t d, int pairs, Write how, T* acc, std::int64_t lda) {
  if constexpr (MR > 0) {
    if (rest == MR)
      outer_block<T, NV, MR>(a, b, c, d, pairs, how, acc, lda);
    else
      last_outer<T, NV, MR - 1>(rest, a, b, c, d, pairs, how, acc, lda);
  }
}

template <int NV, class S, class T>
static void panel_outer(const T* const* a, int channels, const T* const* b, std::int64_t d,
                        int pairs, Write how, T* acc, std::int64_t lda, const Ahead<S>& ahead_x,
                        const Ahead<S>& ahead_g) {
  constexpr int MR = block_rows<NV>;
  const int share = (outer_chunk * MR + channels - 1) / channels;
  int c = 0, fetched = 0;
  for (; c + MR <= channels; c += MR, fetched += share) {
    ahead_x.fetch(fetched, fetched + share);
    ahead_g.fetch(fetched, fetched + share);
    outer_block<T, NV, MR>(a, b, c, d, pairs, how, acc, lda);
  }
  last_outer<T, NV, MR - 1>(channels - c, a, b, c, d, pairs, how, acc, lda);
}

// Rows are read in place where they have the sums' type and, for g, whole vectors.
template <class S, class T>
static void gather_outer(const S* x, std::int64_t ldx, std::int64_t channels, const S* g,
                         std::int64_t ldg, std::int64_t width, const std::int32_t* in,
                         const std::int32_t* out, std::int64_t n, const std::int32_t* next_in,
                         const std::int32_t* next_out, std::int64_t next_n, bool begun, T* acc,
                         std::int64_t lda, bool past) {
  constexpr bool in_place = sizeof(S) == sizeof(T);
  const std::int64_t wide = padded<T>(width);
  const bool whole = in_place && wide == width;
  alignas(64) T wide_a[in_place ? 1 : outer_chunk * outer_pitch];
  alignas(64) T wide_b[outer_chunk * outer_pitch];
  const T* a[outer_chunk];
  const T* b[outer_chunk];
  if (!whole)
    for (int p = 0; p < outer_chunk; ++p)
      for (std::int64_t d = width; d < wide; ++d) wide_b[p * outer_pitch + d] = 0;
  for (std::int64_t c = 0; n == 0 && !begun && c < channels; ++c)
    for (std::int64_t d = 0; d < wide; ++d) acc[c * lda + d] = 0;
  for (std::int64_t p0 = 0; p0 < n; p0 += outer_chunk, begun = true) {
    const int now = int(n - p0 < outer_chunk ? n - p0 : outer_chunk);
    for (int p = 0; p < now; ++p) {
      const S* left = x + in[p0 + p] * ldx;
      const S* right = g + out[p0 + p] * ldg;
      if constexpr (in_place) {
        a[p] = left;
        b[p] = right;
        if (!whole) {
          b[p] = wide_b + p * outer_pitch;
          copy_row(right, wide_b + p * outer_pitch, width);
        }
      } else {
        a[p] = wide_a + p * outer_pitch;
        b[p] = wide_b + p * outer_pitch;
        widen_row(left, wide_a + p * outer_pitch, channels);
        widen_row(right, wide_b + p * outer_pitch, width);
      }
    }
    const bool last = p0 + outer_chunk >= n;
    const std::int64_t left = last ? next_n : n - p0 - outer_chunk;
    const int soon = int(left < outer_chunk ? left : outer_chunk);
    const std::int64_t bytes = sizeof(S);
    Ahead<S> ahead_x = {x, ldx, last ? next_in : in + p0 + outer_chunk, soon, channels * bytes};
    Ahead<S> ahead_g = {g, ldg, last ? next_out : out + p0 + outer_chunk, soon, width * bytes};
    const int rows = int(channels);
    const Write how = write_mode(begun, past && last, acc, lda);
    std::int64_t d = 0;
    for (int panel = 0; panel < panel_count(wide / lanes<T>); ++panel) {
      const int size = panel_size(wide / lanes<T>, panel);
      if (size == 1) panel_outer<1>(a, rows, b, d, now, how, acc, lda, ahead_x, ahead_g);
      if (size == 2) panel_outer<2>(a, rows, b, d, now, how, acc, lda, ahead_x, ahead_g);
      if constexpr (panel_vectors > 2) {
        if (size == 3) panel_outer<3>(a, rows, b, d, now, how, acc, lda, ahead_x, ahead_g);
        if (size == 4) panel_outer<4>(a, rows, b, d, now, how, acc, lda, ahead_x, ahead_g);
      }
      ahead_x.count = ahead_g.count = 0;
      d += size * std::int64_t(lanes<T>);
    }
    end_writes(how);
  }
}
