// Loops over whole rows, left to the compiler's vectoriser.
// Included inside the namespace of one instruction set, after convert.

template <class S, class T>
static void scale_rows(const S* x, std::int64_t ldx, std::int64_t channels, const T* w,
                       const std::int32_t* in, const std::int32_t* out, std::int64_t n,
                       std::int64_t first, T* y, std::int64_t ldy) {
  for (std::int64_t p = 0; p < n; ++p) {
    const S* RESTRICT from = x + in[p] * ldx;
    T* RESTRICT to = y + (out[p] - first) * ldy;
    for (std::int64_t c = 0; c < channels; ++c) to[c] += w[c] * widen(from[c]);
  }
}

template <class S, class T>
static void multiply_rows(const S* x, std::int64_t ldx, const S* g, std::int64_t ldg,
                          std::int64_t channels, const std::int32_t* in, const std::int32_t* out,
                          std::int64_t n, T* RESTRICT acc) {
  for (std::int64_t p = 0; p < n; ++p) {
    const S* RESTRICT from = x + in[p] * ldx;
    const S* RESTRICT with = g + out[p] * ldg;
    for (std::int64_t c = 0; c < channels; ++c) acc[c] += widen(from[c]) * widen(with[c]);
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

template <class S, class T>
static void max_rows(const S* x, std::int64_t ldx, std::int64_t channels, const std::int32_t* in,
                     const std::int32_t* out, std::int64_t n, std::int64_t first, T* best,
                     std::int64_t ldb, std::int32_t* winner, std::int64_t ldw) {
  for (std::int64_t p = 0; p < n; ++p) {
    const std::int32_t row = in[p];
    const S* RESTRICT from = x + row * ldx;
    T* RESTRICT top = best + (out[p] - first) * ldb;
    std::int32_t* RESTRICT who = winner + (out[p] - first) * ldw;
    for (std::int64_t c = 0; c < channels; ++c) {
      const T value = widen(from[c]);
      const T held = top[c];
      const bool nan = value != value, held_nan = held != held;
      const bool above = (value > held) | (nan & !held_nan);
      const bool level = (value == held) | (nan & held_nan);
      const bool lower = row < who[c];
      const bool take = (who[c] < 0) | above | (level & lower);
      top[c] = take ? value : held;
      who[c] = take ? row : who[c];
    }
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
