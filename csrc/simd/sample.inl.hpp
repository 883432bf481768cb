// Samples between sites: cells and corners of positions, sums over corners, their derivatives.
// Included inside the namespace of one instruction set, after vec.

// Corner number 4 x + 2 y + z, from the lower corner of a cell.
static inline void read_corners(const std::int32_t* window, const std::int32_t* far,
                                std::int32_t place, std::int32_t* rows) {
  const std::int32_t* at = place >= 0 ? window + place : far - 8 * (place + 2);
  constexpr int x = window_side * window_side, y = window_side;
  const int up[8] = {0, 1, y, y + 1, x, x + 1, x + y, x + y + 1};
  for (int c = 0; c < 8; ++c) rows[c] = at[place >= 0 ? up[c] : c];
}

template <class P, class T>
static bool cells(const P* positions, std::int64_t n, const std::int32_t* origin,
                  std::int32_t* place, T* fraction) {
  constexpr P low = P(-2147483648.0), high = sizeof(P) == 4 ? P(2147483520.0) : P(2147483647.0);
  std::int32_t all = -1;
  for (std::int64_t i = 0; i < n; ++i) {
    std::uint32_t at = 0;
    std::int32_t inside = -1;
    UNROLL for (int a = 0; a < 3; ++a) {
      const P value = positions[3 * i + a];
      // what is no number becomes the lowest
      const P above = value >= low ? value : low;
      const P kept = above <= high ? above : high;
      const std::int32_t whole = std::int32_t(kept);
      const std::int32_t cell = std::int32_t(std::uint32_t(whole) - (P(whole) > kept));
      const std::uint32_t near = std::uint32_t(cell) - std::uint32_t(origin[a]);
      inside &= -std::int32_t((near < window_side - 1) & (kept == value));
      if constexpr (sizeof(T) > sizeof(P))
        fraction[a * n + i] = T(kept) - T(cell);
      else
        fraction[a * n + i] = T(kept - P(cell));
      at = at * window_side + near;
    }
    place[i] = (inside & std::int32_t(at)) | ~inside;
    all &= inside;
  }
  return all != 0;
}

template <class T>
static std::int64_t corners(const CellRow<T>& cell, std::int64_t first, std::int64_t step,
                            std::int64_t count, bool every, std::int32_t* begin,
                            const CornerList<T>& list, std::int64_t used) {
  const std::int64_t n = cell.count;
  for (std::int64_t j = 0; j < count; ++j) {
    const std::int64_t i = first + j * step;
    begin[j] = std::int32_t(used);
    const T scale = cell.scale == nullptr ? T(1) : cell.scale[i];
    const T fx = cell.fraction[i], fy = cell.fraction[n + i], fz = cell.fraction[2 * n + i];
#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
    if constexpr (sizeof(T) == 4) {
      const std::int32_t place = cell.place[i];
      __m256i rows;
      if (place >= 0) {
        const std::int32_t* at = cell.window + place;
        constexpr int x = window_side * window_side, y = window_side;
        const __m128i lower = _mm_unpacklo_epi64(
            _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)),
            _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at + y)));
        const __m128i upper = _mm_unpacklo_epi64(
            _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at + x)),
            _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at + x + y)));
        rows = _mm256_inserti128_si256(_mm256_castsi128_si256(lower), upper, 1);
      } else {
        rows = _mm256_loadu_si256(
            reinterpret_cast<const __m256i*>(cell.far - 8 * (std::int64_t(place) + 2)));
      }
      const __m256 one = _mm256_set1_ps(1.0f);
      const __m256 vx = _mm256_set1_ps(fx), vy = _mm256_set1_ps(fy), vz = _mm256_set1_ps(fz);
      const __m256 wx = _mm256_mask_mov_ps(_mm256_sub_ps(one, vx), 0xf0, vx);
      const __m256 wy = _mm256_mask_mov_ps(_mm256_sub_ps(one, vy), 0xcc, vy);
      const __m256 wz = _mm256_mask_mov_ps(_mm256_sub_ps(one, vz), 0xaa, vz);
      const __m256 share =
          _mm256_mul_ps(_mm256_mul_ps(_mm256_mul_ps(wx, wy), wz), _mm256_set1_ps(scale));
      __mmask8 keep = _mm256_cmpge_epi32_mask(rows, _mm256_setzero_si256());
      if (!every) keep &= _mm256_cmp_ps_mask(share, _mm256_setzero_ps(), _CMP_NEQ_UQ);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(list.rows + used),
                          _mm256_maskz_compress_epi32(keep, rows));
      _mm256_storeu_ps(list.shares + used, _mm256_maskz_compress_ps(keep, share));
      if (every) {
        const __m256i codes = _mm256_add_epi32(
            _mm256_set1_epi32(std::int32_t(i)),
            _mm256_mullo_epi32(_mm256_set1_epi32(std::int32_t(n)),
                               _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(list.codes + used),
                            _mm256_maskz_compress_epi32(keep, codes));
      }
      used += __builtin_popcount(keep);
      continue;
    }
#endif
    std::int32_t rows[8];
    read_corners(cell.window, cell.far, cell.place[i], rows);
    const T x[2] = {1 - fx, fx}, y[2] = {1 - fy, fy}, z[2] = {1 - fz, fz};
    UNROLL for (int c = 0; c < 8; ++c) {
      const T share = x[c >> 2] * y[c >> 1 & 1] * z[c & 1] * scale;
      list.rows[used] = rows[c];
      list.shares[used] = share;
      if (every) list.codes[used] = std::int32_t(c * n + i);
      used += (rows[c] >= 0) & (every | (share != 0));
    }
  }
  begin[count] = std::int32_t(used);
  return used;
}

// NV vectors of y = sum over a list; short rows are summed in several strands, for each
// multiply-add waits for the last of its strand.
template <int NV, class T>
static inline void sum_vectors(const T* x, std::int64_t ldx, const std::int32_t* rows,
                               const T* shares, std::int64_t n, T* y) {
  constexpr int strands = 4 / NV;
  Vec<T> sum[strands][NV] = {};
  std::int64_t p = 0;
  for (; p + strands <= n; p += strands)
    UNROLL for (int s = 0; s < strands; ++s) {
      const T* from = x + rows[p + s] * ldx;
      UNROLL for (int v = 0; v < NV; ++v)
          multiply_add(sum[s][v], shares[p + s], load(from + v * lanes<T>));
    }
  for (; p < n; ++p) {
    const T* from = x + rows[p] * ldx;
    UNROLL for (int v = 0; v < NV; ++v)
        multiply_add(sum[0][v], shares[p], load(from + v * lanes<T>));
  }
  UNROLL for (int v = 0; v < NV; ++v) {
    UNROLL for (int s = 1; s < strands; ++s) sum[0][v] += sum[s][v];
    store(y + v * lanes<T>, sum[0][v]);
  }
}

template <class T>
static void sum_list(const T* x, std::int64_t ldx, std::int64_t width, const std::int32_t* rows,
                     const T* shares, std::int64_t n, T* y) {
  std::int64_t c = 0;
  for (; c + 4 * lanes<T> <= width; c += 4 * lanes<T>)
    sum_vectors<4>(x + c, ldx, rows, shares, n, y + c);
  for (; c + 2 * lanes<T> <= width; c += 2 * lanes<T>)
    sum_vectors<2>(x + c, ldx, rows, shares, n, y + c);
  for (; c + lanes<T> <= width; c += lanes<T>)
    sum_vectors<1>(x + c, ldx, rows, shares, n, y + c);
  if (c == width) return;
  // the last columns, some of them once more
  if (c > 0) return sum_vectors<1>(x + width - lanes<T>, ldx, rows, shares, n, y + width - lanes<T>);
  T sum[lanes<T>] = {};
  for (std::int64_t p = 0; p < n; ++p) {
    const T* RESTRICT from = x + rows[p] * ldx;
    for (std::int64_t k = 0; k < width; ++k) sum[k] += shares[p] * from[k];
  }
  for (std::int64_t k = 0; k < width; ++k) y[k] = sum[k];
}

// Lists that lie one behind the other, each with room for a whole one of eight behind it: those of
// rows some[j] are at begin[some[j] * step] up to begin[some[j] * step + 1].
template <class T>
static void sum_lists(const T* x, std::int64_t ldx, std::int64_t width, const CornerList<T>& list,
                      const std::int32_t* begin, std::int64_t step, const std::int32_t* some,
                      std::int64_t count, T* y, std::int64_t ldy) {
  for (std::int64_t j = 0; j < count; ++j) {
    const std::int32_t* at = begin + some[j] * step;
    sum_list(x, ldx, width, list.rows + at[0], list.shares + at[0], at[1] - at[0], y + j * ldy);
  }
}

// Eight numbers are copied wherever there is one: a loop over few would be left at a guess.
template <class T>
static std::int64_t join_lists(const CornerList<T>& list, const std::int32_t* begin,
                               std::int64_t step, const std::int32_t* some, std::int64_t count,
                               std::int32_t* rows, T* shares, std::int32_t* with) {
  std::int64_t used = 0;
  for (std::int64_t j = 0; j < count; ++j) {
    const std::int32_t* at = begin + some[j] * step;
    UNROLL for (int i = 0; i < 8; ++i) {
      rows[used + i] = list.rows[at[0] + i];
      shares[used + i] = list.shares[at[0] + i];
      with[used + i] = std::int32_t(j);
    }
    used += at[1] - at[0];
  }
  return used;
}

template <class T>
static void part_lists(const T* joined, const std::int32_t* begin, std::int64_t step,
                       const std::int32_t* some, std::int64_t count, T* parts) {
  for (std::int64_t j = 0; j < count; ++j) {
    const std::int32_t* at = begin + some[j] * step;
    UNROLL for (int i = 0; i < 8; ++i) parts[at[0] + i] = joined[i];
    joined += at[1] - at[0];
  }
}

// Halve the vectors until one is left, whose lane l is the sum of part[l].
template <int live, class T>
static inline void fold(Vec<T>* part) {
  if constexpr (live > 1) {
    UNROLL for (int i = 0; i < live / 2; ++i) {
      Vec<T> low, high;
      interleave<T>(part[i], part[i + live / 2], low, high);
      part[i] = low + high;
    }
    fold<live / 2, T>(part);
  }
}

// NV vectors of `lanes` rows: as many dot products at a time as a vector has lanes, so that none
// is summed across by itself.
template <int NV, class T>
static inline void dot_vectors(const T* x, std::int64_t ldx, const T* g, std::int64_t ldg,
                               const std::int32_t* rows, const std::int32_t* with,
                               Vec<T>& sums) {
  constexpr int L = lanes<T>;
  Vec<T> part[L];
  UNROLL for (int l = 0; l < L; ++l) {
    const T* a = x + rows[l] * ldx;
    const T* b = g + with[l] * ldg;
    Vec<T> sum = load(a) * load(b);
    UNROLL for (int v = 1; v < NV; ++v) sum += load(a + v * L) * load(b + v * L);
    part[l] = sum;
  }
  fold<L, T>(part);
  sums += part[0];
}

template <class T>
static void dot_list(const T* x, std::int64_t ldx, const T* g, std::int64_t ldg, std::int64_t width,
                     const std::int32_t* rows, const std::int32_t* with, std::int64_t n, T* dots) {
  constexpr int L = lanes<T>;
  const std::int64_t whole = width / L * L;
  std::int32_t last_rows[L], last_with[L];
  for (std::int64_t p = 0; p < n; p += L) {
    const std::int32_t* from = rows + p;
    const std::int32_t* by = with + p;
    const int now = int(n - p < L ? n - p : L);
    if (now < L) {
      for (int l = 0; l < L; ++l) {
        last_rows[l] = from[l < now ? l : 0];
        last_with[l] = by[l < now ? l : 0];
      }
      from = last_rows;
      by = last_with;
    }
    Vec<T> sums = {};
    std::int64_t c = 0;
    for (; c + 4 * L <= whole; c += 4 * L) dot_vectors<4>(x + c, ldx, g + c, ldg, from, by, sums);
    for (; c + L <= whole; c += L) dot_vectors<1>(x + c, ldx, g + c, ldg, from, by, sums);
    T all[L];
    store(all, sums);
    for (int l = 0; l < now; ++l) {
      T rest = 0;
      for (std::int64_t k = whole; k < width; ++k)
        rest += x[from[l] * ldx + k] * g[by[l] * ldg + k];
      dots[p + l] = all[l] + rest;
    }
  }
}

// y[rows[p]] += shares[p] g[with[p]], in order: a row may occur again.
template <class T>
static void add_list(T* y, std::int64_t ldy, const T* g, std::int64_t ldg, std::int64_t width,
                     const std::int32_t* rows, const T* shares, const std::int32_t* with,
                     std::int64_t n) {
  for (std::int64_t p = 0; p < n; ++p) {
    T* RESTRICT to = y + rows[p] * ldy;
    const T* RESTRICT from = g + with[p] * ldg;
    const T share = shares[p];
    std::int64_t c = 0;
    for (; c + lanes<T> <= width; c += lanes<T>) {
      Vec<T> sum = load(to + c);
      multiply_add(sum, share, load(from + c));
      store(to + c, sum);
    }
    for (; c < width; ++c) {
      to[c] += share * from[c];
      KEEP_LOOP;
    }
  }
}

static inline float power_of_2(float, std::int32_t n) {
  return as_float(std::uint32_t(n + 127) << 23);
}
static inline double power_of_2(double, std::int32_t n) {
  const std::uint64_t bits = std::uint64_t(n + 1023) << 52;
  double value;
  std::memcpy(&value, &bits, 8);
  return value;
}

// exp(x) is 2^k exp(r), r by its series; without branches, so that loops of it vectorise. x beyond
// what a power of 2 can be is taken for the end of that.
template <class T>
static inline T exponential(T x) {
  constexpr bool wide = sizeof(T) == 8;
  constexpr int terms = wide ? 13 : 7;
  constexpr T least = wide ? T(-700) : T(-80), middle = wide ? T(6755399441055744.0) : T(12582912.0);
  constexpr T high = T(0.693145751953125), low = T(1.42860682030941723e-6);
  const T above = x < least ? least : x;
  const T kept = above > -least ? -least : above;
  const T whole = (kept * T(1.44269504088896341) + middle) - middle;
  const T rest = (kept - whole * high) - whole * low;
  T sum = 1;
  UNROLL for (int k = terms; k > 0; --k) sum = 1 + sum * rest * T(1.0 / k);
  return sum * power_of_2(T(0), std::int32_t(whole));
}

template <class T>
static void squash(const T* RESTRICT from, T* RESTRICT to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = 1 / (1 + exponential(-from[i]));
}

// Four strands: a chain of numbers would wait for each.
template <class T>
static void softmax(const T* RESTRICT from, T* RESTRICT to, std::int64_t groups, std::int64_t n) {
  for (std::int64_t g = 0; g < groups; ++g, from += n, to += n) {
    T most[4] = {from[0], from[0], from[0], from[0]}, sum[4] = {};
    std::int64_t i = 0;
    for (; i + 4 <= n; i += 4)
      UNROLL for (int s = 0; s < 4; ++s) most[s] = from[i + s] > most[s] ? from[i + s] : most[s];
    for (; i < n; ++i) most[0] = from[i] > most[0] ? from[i] : most[0];
    UNROLL for (int s = 1; s < 4; ++s) most[0] = most[s] > most[0] ? most[s] : most[0];
    for (i = 0; i < n; ++i) to[i] = exponential(from[i] - most[0]);
    for (i = 0; i + 4 <= n; i += 4)
      UNROLL for (int s = 0; s < 4; ++s) sum[s] += to[i + s];
    for (; i < n; ++i) sum[0] += to[i];
    const T over = 1 / ((sum[0] + sum[1]) + (sum[2] + sum[3]));
    for (i = 0; i < n; ++i) to[i] *= over;
  }
}

// NV vectors of y += x times a sum over a list.
template <int NV, class T>
static inline void mix_vectors(const T* kernel, std::int64_t ldk, const std::int32_t* rows,
                               const T* shares, std::int64_t n, const T* x, T* y) {
  Vec<T> sum[NV] = {};
  for (std::int64_t p = 0; p < n; ++p) {
    const T* from = kernel + rows[p] * ldk;
    UNROLL for (int v = 0; v < NV; ++v)
        multiply_add(sum[v], shares[p], load(from + v * lanes<T>));
  }
  UNROLL for (int v = 0; v < NV; ++v) {
    Vec<T> value = load(y + v * lanes<T>);
    value += sum[v] * load(x + v * lanes<T>);
    store(y + v * lanes<T>, value);
  }
}

template <class T>
static void mix_add(const T* kernel, std::int64_t ldk, std::int64_t width, const std::int32_t* rows,
                    const T* shares, std::int64_t n, const T* x, T* y) {
  std::int64_t c = 0;
  for (; c + 4 * lanes<T> <= width; c += 4 * lanes<T>)
    mix_vectors<4>(kernel + c, ldk, rows, shares, n, x + c, y + c);
  for (; c + lanes<T> <= width; c += lanes<T>)
    mix_vectors<1>(kernel + c, ldk, rows, shares, n, x + c, y + c);
  for (; c < width; ++c) {
    T sum = 0;
    for (std::int64_t p = 0; p < n; ++p) sum += shares[p] * kernel[rows[p] * ldk + c];
    y[c] += sum * x[c];
    KEEP_LOOP;
  }
}

// Derivatives of cells by those of their corners, dots [8, n].
template <class P, class T>
static void slopes(const T* RESTRICT dots, const T* RESTRICT fraction, const T* RESTRICT scale,
                   std::int64_t n, P* RESTRICT to_positions, T* RESTRICT to_scale) {
  for (std::int64_t i = 0; i < n; ++i) {
    const T fx = fraction[i], fy = fraction[n + i], fz = fraction[2 * n + i];
    T along[4], side[2], over[2], up[2];
    // pairs along z, then y, then x
    T value[4];
    UNROLL for (int c = 0; c < 4; ++c) {
      const T low = dots[2 * c * n + i], high = dots[(2 * c + 1) * n + i];
      along[c] = high - low;
      value[c] = low * (1 - fz) + high * fz;
    }
    UNROLL for (int c = 0; c < 2; ++c) {
      side[c] = value[2 * c + 1] - value[2 * c];
      up[c] = along[2 * c] * (1 - fy) + along[2 * c + 1] * fy;
      over[c] = value[2 * c] * (1 - fy) + value[2 * c + 1] * fy;
    }
    const T s = scale == nullptr ? T(1) : scale[i];
    to_positions[3 * i] = P((over[1] - over[0]) * s);
    to_positions[3 * i + 1] = P((side[0] * (1 - fx) + side[1] * fx) * s);
    to_positions[3 * i + 2] = P((up[0] * (1 - fx) + up[1] * fx) * s);
    to_scale[i] = over[0] * (1 - fx) + over[1] * fx;
  }
}

template <class T>
static SampleLoops<T> sample_loops() {
  return {cells<float, T>, cells<double, T>, corners<T>, sum_list<T>,
          sum_lists<T>,    join_lists<T>,    part_lists<T>, dot_list<T>,
          add_list<T>,     slopes<float, T>, slopes<double, T>, squash<T>, softmax<T>,
          mix_add<T>};
}
