// Loops of batch norm over dense rows.
// Included inside the namespace of one instruction set, after convert.
//
// Rows lie one after the other, so that a number's channel is its index modulo the channels. Values
// per channel are repeated over a period of several rows, which is whole vectors of any set (a
// multiple of 16 numbers): loops are long and without a remainder even where channels are few or
// odd. What is done number by number is left to the compiler's vectoriser.

// ReLU keeps NaN, as torch does
template <class T>
static inline T clip(T v) {
  return v <= T(0) ? T(0) : v;
}

// Sums over rows stay in registers: columns are taken a few vectors at a time.
constexpr int column_vectors = VECTOR_COUNT == 32 ? 8 : 4;

// Call run.template columns<NV>(first) for all whole vectors of a period, widest first.
template <int NV, class T, class Run>
static inline void by_vectors(std::int64_t period, std::int64_t first, const Run& run) {
  constexpr std::int64_t width = NV * lanes<T>;
  for (; first + width <= period; first += width) run.template columns<NV>(first);
  if constexpr (NV > 1) by_vectors<NV - 1, T>(period, first, run);
}

template <class S, class T>
struct Moments {
  const S* x;
  std::int64_t count, period;  // whole periods
  const T* middle;
  T *sum, *squares;

  template <int NV>
  void columns(std::int64_t first) const {
    Vec<T> about[NV], total[NV], square[NV];
    UNROLL for (int v = 0; v < NV; ++v) {
      about[v] = load(middle + first + v * lanes<T>);
      total[v] = load(sum + first + v * lanes<T>);
      square[v] = load(squares + first + v * lanes<T>);
    }
    for (std::int64_t r = 0; r < count; ++r) {
      const S* from = x + r * period + first;
      UNROLL for (int v = 0; v < NV; ++v) {
        const Vec<T> apart = load_wide<S, T>(from + v * lanes<T>) - about[v];
        total[v] += apart;
        square[v] += apart * apart;
      }
    }
    UNROLL for (int v = 0; v < NV; ++v) {
      store(sum + first + v * lanes<T>, total[v]);
      store(squares + first + v * lanes<T>, square[v]);
    }
  }
};

template <class S, class T>
static void moments(const S* x, std::int64_t n, std::int64_t period, const T* middle, T* sum,
                    T* squares) {
  const Moments<S, T> run{x, n / period, period, middle, sum, squares};
  by_vectors<column_vectors, T>(period, 0, run);
  const std::int64_t done = run.count * period;
  for (std::int64_t i = 0; i < n - done; ++i) {
    const T apart = widen(x[done + i]) - middle[i];
    sum[i] += apart;
    squares[i] += apart * apart;
  }
}

template <bool add, bool relu, class S, class T>
static void norm_loop(const S* x, const S* other, std::int64_t n, std::int64_t period,
                      const T* RESTRICT mean, const T* RESTRICT scale, const T* RESTRICT shift,
                      S* y) {
  for (std::int64_t at = 0; at < n; at += period) {
    const S* RESTRICT from = x + at;
    const S* RESTRICT with = add ? other + at : nullptr;
    S* RESTRICT to = y + at;
    const std::int64_t end = n - at < period ? n - at : period;
    for (std::int64_t i = 0; i < end; ++i) {
      T v = (widen(from[i]) - mean[i]) * scale[i] + shift[i];
      if constexpr (add) v += widen(with[i]);
      narrow(relu ? clip(v) : v, to[i]);
    }
  }
}

template <class S, class T>
static void norm_rows(const S* x, const S* other, std::int64_t n, std::int64_t period,
                      const T* mean, const T* scale, const T* shift, bool relu, S* y) {
  if (other == nullptr)
    (relu ? norm_loop<false, true, S, T> : norm_loop<false, false, S, T>)(x, other, n, period, mean,
                                                                          scale, shift, y);
  else
    (relu ? norm_loop<true, true, S, T> : norm_loop<true, false, S, T>)(x, other, n, period, mean,
                                                                        scale, shift, y);
}

// With `remade` the mask of the ReLU is made of x again.
template <bool remade, class S, class T>
struct Sums {
  const S *g, *x;
  std::int64_t count, period;  // whole periods
  const T *mean, *scale, *shift;
  T *sum, *dot;

  template <int NV>
  void columns(std::int64_t first) const {
    Vec<T> total[NV], product[NV];
    UNROLL for (int v = 0; v < NV; ++v) {
      total[v] = load(sum + first + v * lanes<T>);
      product[v] = load(dot + first + v * lanes<T>);
    }
    for (std::int64_t r = 0; r < count; ++r) {
      const std::int64_t row = r * period + first;
      UNROLL for (int v = 0; v < NV; ++v) {
        const std::int64_t at = first + v * lanes<T>, i = row + v * lanes<T>;
        const Vec<T> apart = load_wide<S, T>(x + i) - load(mean + at);
        Vec<T> let = load_wide<S, T>(g + i);
        if constexpr (remade)
          let = where_above(apart * load(scale + at) + load(shift + at), let);
        total[v] += let;
        product[v] += let * apart;
      }
    }
    UNROLL for (int v = 0; v < NV; ++v) {
      store(sum + first + v * lanes<T>, total[v]);
      store(dot + first + v * lanes<T>, product[v]);
    }
  }
};

template <bool remade, class S, class T>
static void sums_loop(const S* g, const S* x, std::int64_t n, std::int64_t period, const T* mean,
                      const T* scale, const T* shift, T* sum, T* dot) {
  const Sums<remade, S, T> run{g, x, n / period, period, mean, scale, shift, sum, dot};
  by_vectors<column_vectors, T>(period, 0, run);
  for (std::int64_t i = run.count * period; i < n; ++i) {
    const std::int64_t at = i - run.count * period;
    const T apart = widen(x[i]) - mean[at];
    T v = widen(g[i]);
    if constexpr (remade) v = apart * scale[at] + shift[at] <= T(0) ? T(0) : v;
    sum[at] += v;
    dot[at] += v * apart;
  }
}

// What a ReLU lets through whose output was y: numbers are passed on, not rounded.
template <class S>
static void let_through(const S* RESTRICT g, const S* RESTRICT y, std::int64_t n,
                        S* RESTRICT masked) {
  for (std::int64_t i = 0; i < n; ++i) {
    const bool clipped = widen(y[i]) <= 0;
    if constexpr (sizeof(S) == 2)
      masked[i].bits = clipped ? std::uint16_t(0) : g[i].bits;
    else
      masked[i] = clipped ? S(0) : g[i];
  }
}

template <class S, class T>
static void norm_sums(const S* g, const S* x, const S* y, std::int64_t n, std::int64_t period,
                      const T* mean, const T* scale, const T* shift, bool relu, S* masked, T* sum,
                      T* dot) {
  if (relu && y != nullptr) let_through(g, y, n, masked);
  const auto run = relu && y == nullptr ? sums_loop<true, S, T> : sums_loop<false, S, T>;
  run(relu && y != nullptr ? masked : g, x, n, period, mean, scale, shift, sum, dot);
}

template <bool relu, class S, class T>
static void grad_loop(const S* g, const S* x, std::int64_t n, std::int64_t period,
                      const T* RESTRICT mean, const T* RESTRICT scale, const T* RESTRICT shift,
                      const T* RESTRICT less, const T* RESTRICT slope, S* grad_x) {
  for (std::int64_t at = 0; at < n; at += period) {
    const S* RESTRICT grad = g + at;
    const S* RESTRICT from = x + at;
    S* RESTRICT to = grad_x + at;
    const std::int64_t end = n - at < period ? n - at : period;
    for (std::int64_t i = 0; i < end; ++i) {
      const T apart = widen(from[i]) - mean[i];
      T v = widen(grad[i]);
      if constexpr (relu) v = apart * scale[i] + shift[i] <= T(0) ? T(0) : v;
      narrow(scale[i] * (v - less[i] - apart * slope[i]), to[i]);
    }
  }
}

template <class S, class T>
static void norm_grad_rows(const S* g, const S* x, std::int64_t n, std::int64_t period,
                           const T* mean, const T* scale, const T* shift, bool relu, const T* less,
                           const T* slope, S* grad_x) {
  (relu ? grad_loop<true, S, T> : grad_loop<false, S, T>)(g, x, n, period, mean, scale, shift, less,
                                                          slope, grad_x);
}
