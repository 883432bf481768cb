// Groups of 2 or 4 channels on one side and one on the other: a row has A numbers a group there.
// Included inside the namespace of one instruction set, after piece.

// A vectors of sums of A numbers each become one vector.
template <int A, class T>
static INLINED Vec<T> fold_groups(Vec<T>* wide) {
  UNROLL for (int n = A; n > 1; n /= 2)
    UNROLL for (int i = 0; i < n / 2; ++i)
      wide[i] = add_neighbours<T>(wide[2 * i], wide[2 * i + 1]);
  return wide[0];
}
// Every number A times.
template <int A, class T>
static INLINED void repeat_groups(const Vec<T>& narrow, Vec<T>* wide) {
  if constexpr (A == 2) {
    interleave<T>(narrow, narrow, wide[0], wide[1]);
  } else {
    Vec<T> both[2];
    interleave<T>(narrow, narrow, both[0], both[1]);
    interleave<T>(both[0], both[0], wide[0], wide[1]);
    interleave<T>(both[1], both[1], wide[2], wide[3]);
  }
}

template <int A, bool join, class S, class T>
static void add_narrow(const S* x, std::int64_t groups, const T* w, const TapWalk& walk, T* sums) {
  constexpr int L = lanes<T>;
  const std::int64_t ldx = join ? A * groups : groups, ld = join ? groups : A * groups;
  for (std::int64_t t = 0; t < walk.taps; ++t) {
    std::int64_t p = walk.from[t];
    const std::int64_t end = walk.end[t];
    for (; p < end && walk.out[p] - walk.first < walk.rows; ++p) {
      const S* from = x + walk.in[p] * ldx;
      T* to = sums + (walk.out[p] - walk.first) * ld;
      const T* scale = w + t * A * groups;
      for (std::int64_t c = 0; c < groups; c += L) {
        Vec<T> wide[A];
        if constexpr (join) {
          UNROLL for (int a = 0; a < A; ++a)
              wide[a] = load_wide<S, T>(from + A * c + a * L) * load(scale + A * c + a * L);
          store(to + c, load(to + c) + fold_groups<A, T>(wide));
        } else {
          repeat_groups<A, T>(load_wide<S, T>(from + c), wide);
          UNROLL for (int a = 0; a < A; ++a) {
            auto sum = load(to + A * c + a * L);
            sum += wide[a] * load(scale + A * c + a * L);
            store(to + A * c + a * L, sum);
          }
        }
      }
    }
    walk.next[t] = p;
  }
}
template <class S, class T>
static void narrow_taps(const S* x, std::int64_t groups, int per_group, bool join, const T* w,
                        const TapWalk& walk, T* sums) {
  if (per_group == 4)
    join ? add_narrow<4, true>(x, groups, w, walk, sums)
         : add_narrow<4, false>(x, groups, w, walk, sums);
  else
    join ? add_narrow<2, true>(x, groups, w, walk, sums)
         : add_narrow<2, false>(x, groups, w, walk, sums);
}

template <int A, bool join, class S, class T>
static void outer_narrow(const S* x, const S* g, std::int64_t groups, const TapWalk& walk, T* acc) {
  constexpr int L = lanes<T>;
  for (std::int64_t t = 0; t < walk.taps; ++t) {
    std::int64_t p = walk.from[t];
    const std::int64_t end = walk.end[t];
    for (std::int64_t c = 0; c < groups; c += L) {
      Vec<T> sum[A];
      T* to = acc + t * A * groups + A * c;
      UNROLL for (int a = 0; a < A; ++a) sum[a] = load(to + a * L);
      for (p = walk.from[t]; p < end && walk.out[p] - walk.first < walk.rows; ++p) {
        const S* many = (join ? x + walk.in[p] * A * groups : g + walk.out[p] * A * groups) + A * c;
        const S* one = (join ? g + walk.out[p] * groups : x + walk.in[p] * groups) + c;
        Vec<T> wide[A];
        repeat_groups<A, T>(load_wide<S, T>(one), wide);
        UNROLL for (int a = 0; a < A; ++a) sum[a] += wide[a] * load_wide<S, T>(many + a * L);
      }
      UNROLL for (int a = 0; a < A; ++a) store(to + a * L, sum[a]);
    }
    walk.next[t] = p;
  }
}
template <class S, class T>
static void multiply_narrow(const S* x, const S* g, std::int64_t groups, int per_group, bool join,
                            const TapWalk& walk, T* acc) {
  if (per_group == 4)
    join ? outer_narrow<4, true>(x, g, groups, walk, acc)
         : outer_narrow<4, false>(x, g, groups, walk, acc);
  else
    join ? outer_narrow<2, true>(x, g, groups, walk, acc)
         : outer_narrow<2, false>(x, g, groups, walk, acc);
}
