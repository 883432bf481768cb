// Loops over whole rows, left to the compiler's vectoriser.
// Included inside the namespace of one instruction set, after convert.

// Loops over a row of 16 bits are compiled apart, each by itself: inlined the compiler forgets RESTRICT, and
// what does both takes longer where a row ends within a vector.
template <bool norm, bool add, bool relu, class S, class T>
static APART void finish_loop(T* RESTRICT sums, const T* RESTRICT mean, const T* RESTRICT scale,
                              const T* RESTRICT shift, const S* RESTRICT other, std::int64_t n) {
  for (std::int64_t c = 0; c < n; ++c) {
    T v = sums[c];
    if constexpr (norm) v = (v - mean[c]) * scale[c] + shift[c];
    if constexpr (add) v += widen(other[c]);
    if constexpr (relu) v = v <= T(0) ? T(0) : v;
    sums[c] = v;
  }
}

template <class S, class T>
static APART void round_loop(const T* RESTRICT sums, S* RESTRICT to, std::int64_t n) {
  narrow_row(sums, to, n);
}

// What is done to rows of sums is known when a loop over them is compiled.
template <class S, class T>
struct Finish {
  T* sums;
  std::int64_t ld;
  const T *mean, *scale, *shift;
  const S* other;
  std::int64_t ldo, rows, n;
  S* to;
  std::int64_t ldt;

  template <bool norm, bool add, bool relu>
  void run() const {
    for (std::int64_t r = 0; r < rows; ++r) {
      T* from = sums + r * ld;
      const S* with = add ? other + r * ldo : nullptr;
      S* into = to + r * ldt;
      if constexpr (sizeof(S) == sizeof(T)) {
        by_vectors<norm, add, relu>(from, with, into);
      } else {
        if constexpr (norm || add || relu)
          finish_loop<norm, add, relu>(from, mean, scale, shift, with, n);
        round_loop(from, into, n);
      }
    }
  }

  // The results may be the sums.
  template <bool norm, bool add, bool relu>
  void by_vectors(const T* from, const S* with, S* into) const {
    constexpr std::int64_t v = lanes<T>;
    std::int64_t c = 0;
    for (; c + v <= n; c += v) {
      Vec<T> sum = load(from + c);
      if constexpr (norm) sum = (sum - load(mean + c)) * load(scale + c) + load(shift + c);
      if constexpr (add) sum += load(with + c);
      if constexpr (relu) sum = where_above(sum, sum);
      store(into + c, sum);
    }
    for (; c < n; ++c) {
      T sum = from[c];
      if constexpr (norm) sum = (sum - mean[c]) * scale[c] + shift[c];
      if constexpr (add) sum += with[c];
      into[c] = relu && sum <= T(0) ? T(0) : sum;
      KEEP_LOOP;
    }
  }

  template <bool norm, bool add>
  void run(bool relu) const {
    relu ? run<norm, add, true>() : run<norm, add, false>();
  }
  template <bool norm>
  void run(bool relu) const {
    other != nullptr ? run<norm, true>(relu) : run<norm, false>(relu);
  }
  void run(bool relu) const { mean != nullptr ? run<true>(relu) : run<false>(relu); }
};

template <class S, class T>
static void finish_rows(T* sums, std::int64_t ld, const T* mean, const T* scale,
                        const T* shift, const S* other, std::int64_t ldo, std::int64_t rows,
                        std::int64_t n, bool relu, S* to, std::int64_t ldt) {
  const Finish<S, T> all{sums, ld, mean, scale, shift, other, ldo, rows, n, to, ldt};
  all.run(relu);
}

template <class S, class T>
static void lift_rows(const S* others, std::int64_t ldo, const std::int32_t* from,
                      const std::int64_t* counts, std::int64_t rows, std::int64_t n,
                      std::int64_t more, T* sums, std::int64_t ld, S* behind, std::int64_t ldb) {
  constexpr std::int64_t v = lanes<T>;
  for (std::int64_t r = 0; r < rows; ++r) {
    const S* other = others + from[r] * ldo;
    const T part = counts == nullptr ? T(1) : T(1) / T(counts[from[r]]);
    T* row = sums + r * ld;
    S* to = behind + r * ldb;
    std::int64_t c = 0;
    for (; c + v <= n; c += v) {
      Vec<T> sum = load(row + c);
      multiply_add(sum, part, load_wide<S, T>(other + c));
      store(row + c, sum);
      KEEP_LOOP;
    }
    for (; c < n; ++c) {
      row[c] += part * widen(other[c]);
      KEEP_LOOP;
    }
    other += n;
    for (c = 0; c + v <= more; c += v) {
      Vec<T> value = {};
      multiply_add(value, part, load_wide<S, T>(other + c));
      store_narrow<T>(to + c, value);
      KEEP_LOOP;
    }
    for (; c < more; ++c) {
      narrow(part * widen(other[c]), to[c]);
      KEEP_LOOP;
    }
  }
}

template <class S, class T>
static void add_rows(const S* x, std::int64_t ldx, std::int64_t channels, const S* weights,
                     const std::int32_t* in, const std::int32_t* out, std::int64_t n,
                     std::int64_t first, T* y, std::int64_t ldy) {
  for (std::int64_t p = 0; p < n; ++p) {
    const S* RESTRICT from = x + in[p] * ldx;
    T* RESTRICT to = y + (out[p] - first) * ldy;
    if (weights == nullptr) {
      for (std::int64_t c = 0; c < channels; ++c) to[c] += widen(from[c]);
    } else {
      const T scale = widen(weights[p]);
      for (std::int64_t c = 0; c < channels; ++c) to[c] += scale * widen(from[c]);
    }
  }
}

template <class S, class T>
static void dot_rows(const S* a, const S* b, std::int64_t channels, const std::int32_t* a_rows,
                     const std::int32_t* b_rows, std::int64_t n, S* dots) {
  constexpr int parts = 16;
  for (std::int64_t p = 0; p < n; ++p) {
    const S* RESTRICT left = a + a_rows[p] * channels;
    const S* RESTRICT right = b + b_rows[p] * channels;
    T part[parts] = {};
    std::int64_t c = 0;
    for (; c + parts <= channels; c += parts)
      for (int i = 0; i < parts; ++i) part[i] += widen(left[c + i]) * widen(right[c + i]);
    T sum = 0;
    for (; c < channels; ++c) sum += widen(left[c]) * widen(right[c]);
    for (int half = parts / 2; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) part[i] += part[i + half];
    narrow(T(part[0] + sum), dots[p]);
  }
}

// One number and its winner are raised by one of row `row`.
template <class T>
static inline void raise(T value, std::int32_t row, T& top, std::int32_t& who) {
  const T held = top;
  const bool above = !(value <= held) & (held == held);
  const bool level = (value == held) | ((value != value) & (held != held));
  const bool take = above | (level & (row < who));
  top = take ? value : held;
  who = take ? row : who;
}

#ifdef WHOLE_MASKS
// as many channels as fill whole vectors; returns how many those were
template <class S>
static inline std::int64_t raise_vectors(const S* from, std::int64_t channels, std::int32_t row,
                                         float* top, std::int32_t* who) {
  using Rows = typename Lanes<float>::index;
  const Rows rows = Rows{} + row;
  std::int64_t c = 0;
  for (; c + lanes<float> <= channels; c += lanes<float>) {
    const Vec<float> value = load_wide<S, float>(from + c), held = load(top + c);
    Rows winner;
    std::memcpy(&winner, who + c, sizeof winner);
    const Rows above = ~(value <= held) & (held == held);
    const Rows level = (value == held) | ((value != value) & (held != held));
    const Rows take = above | (level & (rows < winner));
    store(top + c, take ? value : held);
    winner = take ? rows : winner;
    std::memcpy(who + c, &winner, sizeof winner);
  }
  return c;
}
#endif

template <class S, class T>
static void max_rows(const S* x, std::int64_t ldx, std::int64_t channels, const std::int32_t* in,
                     const std::int32_t* out, std::int64_t n, std::int64_t first, T* best,
                     std::int64_t ldb, std::int32_t* winner, std::int64_t ldw) {
  for (std::int64_t p = 0; p < n; ++p) {
    const std::int32_t row = in[p];
    const S* RESTRICT from = x + row * ldx;
    T* RESTRICT top = best + (out[p] - first) * ldb;
    std::int32_t* RESTRICT who = winner + (out[p] - first) * ldw;
    if (who[0] < 0) {
      // the first input of an output row is its maximum
      widen_row(from, top, channels);
      for (std::int64_t c = 0; c < channels; ++c) who[c] = row;
      continue;
    }
    std::int64_t c = 0;
#ifdef WHOLE_MASKS
    if constexpr (sizeof(T) == sizeof(float)) c = raise_vectors(from, channels, row, top, who);
#endif
    for (; c < channels; ++c) raise(T(widen(from[c])), row, top[c], who[c]);
  }
}

template <class S, class T>
static void widen_all(const S* from, T* to, std::int64_t n) {
  widen_row(from, to, n);
}
template <class S, class T>
static void narrow_all(const T* from, S* to, std::int64_t n) {
  narrow_row(from, to, n);
}
