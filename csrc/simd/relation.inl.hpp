// Softmax weights of the taps of one row, group by group, and their derivatives.
// Included inside the namespace of one instruction set, after convert.
//
// What a row has of taps lies side by side: numbers [count][groups], most of them long enough for
// whole vectors, which are left to the compiler's vectoriser.

// e^v = 2^n e^r with |r| <= ln 2 / 2, r's part by its series, without a branch. Below the normal
// numbers the result is 0; above, nobody asks: the largest number of a softmax is 1.
template <class T>
struct Exp;
template <>
struct Exp<float> {
  using Bits = std::uint32_t;
  static constexpr float shift = 12582912.0f;  // 1.5 * 2^23: its last bits are whole numbers
  static constexpr float high = 0.693145751953125f, low = 1.42860682030941723e-6f, least = -87.0f;
  static constexpr int bias = 127, mantissa = 23, terms = 7;
};
template <>
struct Exp<double> {
  using Bits = std::uint64_t;
  static constexpr double shift = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double high = 0.6931471803691238, low = 1.9082149292705877e-10, least = -708.0;
  static constexpr int bias = 1023, mantissa = 52, terms = 13;
};

template <int k, int terms, class T>
static INLINED T exp_series(T r) {
  if constexpr (k > terms)
    return T(1);
  else
    return T(1) + r * (T(1) / T(k)) * exp_series<k + 1, terms>(r);
}

template <class T>
static INLINED T exp_of(T v) {
  using E = Exp<T>;
  const T moved = v * T(1.4426950408889634) + E::shift;
  const T n = moved - E::shift;
  const T r = (v - n * E::high) - n * E::low;
  typename E::Bits bits;
  std::memcpy(&bits, &moved, sizeof(T));
  bits = (bits + E::bias) << E::mantissa;
  T scale;
  std::memcpy(&scale, &bits, sizeof(T));
  const T result = exp_series<1, E::terms>(r) * scale;
  return v < E::least ? T(0) : result;
}

// Phi, and its derivative by its first argument; all three forms are the same with both exchanged.
template <Likeness kind, class T>
static INLINED T likeness(T a, T b) {
  if constexpr (kind == Likeness::product) return a * b;
  const T apart = a - b;
  if constexpr (kind == Likeness::squared) return -apart * apart;
  return apart < T(0) ? apart : -apart;
}
template <Likeness kind, class T>
static INLINED T likeness_slope(T a, T b) {
  if constexpr (kind == Likeness::product) return b;
  const T apart = a - b;
  if constexpr (kind == Likeness::squared) return T(-2) * apart;
  return apart < T(0) ? T(1) : (apart > T(0) ? T(-1) : T(0));
}
template <class Visit>
static INLINED void visit_likeness(Likeness kind, Visit&& visit) {
  if (kind == Likeness::squared)
    visit(Liked<Likeness::squared>{});
  else if (kind == Likeness::distance)
    visit(Liked<Likeness::distance>{});
  else
    visit(Liked<Likeness::product>{});
}

template <class T>
static void relate_row(const Relation<T>& of, const T* own, const T* others, const RowTaps& row,
                       T* RESTRICT v) {
  visit_likeness(of.kind, [&](auto kind) {
    for (std::int64_t s = 0; s < row.count; ++s) {
      const T* RESTRICT other = others + row.other[s] * of.groups;
      const T* RESTRICT prior = of.prior + row.tap[s] * of.groups;
      for (std::int64_t g = 0; g < of.groups; ++g)
        v[s * of.groups + g] = prior[g] + likeness<decltype(kind)::value>(own[g], other[g]);
    }
  });
}

template <class T>
static void softmax_row(std::int64_t count, std::int64_t groups, T* RESTRICT v, T* RESTRICT top,
                        T* RESTRICT total) {
  for (std::int64_t g = 0; g < groups; ++g) top[g] = v[g];
  for (std::int64_t s = 1; s < count; ++s)
    for (std::int64_t g = 0; g < groups; ++g) {
      const T next = v[s * groups + g];
      top[g] = next > top[g] ? next : top[g];
    }
  for (std::int64_t s = 0; s < count; ++s)
    for (std::int64_t g = 0; g < groups; ++g) v[s * groups + g] -= top[g];
  for (std::int64_t i = 0; i < count * groups; ++i) v[i] = exp_of(v[i]);
  for (std::int64_t g = 0; g < groups; ++g) total[g] = v[g];
  for (std::int64_t s = 1; s < count; ++s)
    for (std::int64_t g = 0; g < groups; ++g) total[g] += v[s * groups + g];
  for (std::int64_t s = 0; s < count; ++s)
    for (std::int64_t g = 0; g < groups; ++g) v[s * groups + g] /= total[g];
}

template <class T>
static void exp_row(const RowTaps& row, std::int64_t groups, const T* less, bool by_other,
                    T* RESTRICT v) {
  for (std::int64_t s = 0; s < row.count; ++s) {
    const T* RESTRICT from = less + (by_other ? row.other[s] * groups : 0);
    for (std::int64_t g = 0; g < groups; ++g) v[s * groups + g] -= from[g];
  }
  for (std::int64_t i = 0; i < row.count * groups; ++i) v[i] = exp_of(v[i]);
}

template <class T>
static void mean_row(const RowTaps& row, std::int64_t groups, const T* w, const T* e,
                     T* RESTRICT mean) {
  for (std::int64_t g = 0; g < groups; ++g) mean[g] = T(0);
  for (std::int64_t s = 0; s < row.count; ++s) {
    const T* RESTRICT dot = e + row.tap[s] * groups;
    for (std::int64_t g = 0; g < groups; ++g) mean[g] += w[s * groups + g] * dot[g];
  }
}

template <class T>
static void slope_row(const Relation<T>& of, const T* own, const T* others, const RowTaps& row,
                      const T* w, const T* e, const T* means, bool by_other, T* RESTRICT slope,
                      T* to_prior) {
  for (std::int64_t g = 0; g < of.groups; ++g) slope[g] = T(0);
  visit_likeness(of.kind, [&](auto kind) {
    for (std::int64_t s = 0; s < row.count; ++s) {
      const T* RESTRICT other = others + row.other[s] * of.groups;
      const T* RESTRICT dot = e + row.tap[s] * of.groups;
      const T* RESTRICT mean = means + (by_other ? row.other[s] * of.groups : 0);
      const T* RESTRICT weight = w + s * of.groups;
      for (std::int64_t g = 0; g < of.groups; ++g)
        slope[g] += weight[g] * (dot[g] - mean[g]) *
                    likeness_slope<decltype(kind)::value>(own[g], other[g]);
      if (to_prior == nullptr) continue;
      T* RESTRICT to = to_prior + row.tap[s] * of.groups;
      for (std::int64_t g = 0; g < of.groups; ++g) to[g] += weight[g] * (dot[g] - mean[g]);
    }
  });
}
