// A vector of VECTOR_BYTES bytes of float or double: load, store, splat, multiply-add.
// Included inside the namespace of one instruction set.

template <class T>
struct Lanes;

#if (defined(__GNUC__) || defined(__clang__)) && !defined(SPARSECONV_PLAIN_VECTORS)
template <>
struct Lanes<float> {
  typedef float type __attribute__((vector_size(VECTOR_BYTES)));
  typedef float loose __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
  typedef std::int32_t index __attribute__((vector_size(VECTOR_BYTES)));
};
template <>
struct Lanes<double> {
  typedef double type __attribute__((vector_size(VECTOR_BYTES)));
  typedef double loose __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));
  typedef std::int64_t index __attribute__((vector_size(VECTOR_BYTES)));
};
template <class T>
using Vec = typename Lanes<T>::type;

template <class T>
static inline Vec<T> load(const T* from) {
  return *reinterpret_cast<const typename Lanes<T>::loose*>(from);
}
template <class T>
static inline void store(T* to, Vec<T> v) {
  *reinterpret_cast<typename Lanes<T>::loose*>(to) = v;
}
template <class T>
static inline void multiply_add(Vec<T>& sum, T x, Vec<T> w) {
  sum += x * w;
}
// v where key is above 0 or NaN, else 0
template <class V>
static inline V where_above(V key, V v) {
  const V zero = {};
  return key <= zero ? zero : v;
}
#define WHOLE_MASKS
#else
// any other compiler: a plain array, left to its vectoriser
template <class T>
struct Vec {
  T lane[VECTOR_BYTES / sizeof(T)];
  friend Vec operator*(Vec a, const Vec& b) {
    for (std::size_t i = 0; i < VECTOR_BYTES / sizeof(T); ++i) a.lane[i] *= b.lane[i];
    return a;
  }
  Vec& operator+=(const Vec& other) {
    for (std::size_t i = 0; i < VECTOR_BYTES / sizeof(T); ++i) lane[i] += other.lane[i];
    return *this;
  }
  friend Vec operator+(Vec a, const Vec& b) { return a += b; }
  friend Vec operator-(Vec a, const Vec& b) {
    for (std::size_t i = 0; i < VECTOR_BYTES / sizeof(T); ++i) a.lane[i] -= b.lane[i];
    return a;
  }
};
template <class T>
static inline Vec<T> where_above(const Vec<T>& key, Vec<T> v) {
  for (std::size_t i = 0; i < VECTOR_BYTES / sizeof(T); ++i)
    v.lane[i] = key.lane[i] <= T(0) ? T(0) : v.lane[i];
  return v;
}
template <class T>
static inline Vec<T> load(const T* from) {
  Vec<T> v;
  for (std::size_t i = 0; i < VECTOR_BYTES / sizeof(T); ++i) v.lane[i] = from[i];
  return v;
}
template <class T>
static inline void store(T* to, const Vec<T>& v) {
  for (std::size_t i = 0; i < VECTOR_BYTES / sizeof(T); ++i) to[i] = v.lane[i];
}
template <class T>
static inline void multiply_add(Vec<T>& sum, T x, const Vec<T>& w) {
  for (std::size_t i = 0; i < VECTOR_BYTES / sizeof(T); ++i) sum.lane[i] += x * w.lane[i];
}
#endif

template <class T>
constexpr int lanes = VECTOR_BYTES / sizeof(T);

// low <- a0 b0 a1 b1 ..., high <- the rest.
template <class T>
static inline void interleave(const Vec<T>& a, const Vec<T>& b, Vec<T>& low, Vec<T>& high) {
#if defined(__GNUC__) && !defined(__clang__) && !defined(SPARSECONV_PLAIN_VECTORS)
  typename Lanes<T>::index from_low, from_high;
  UNROLL for (int i = 0; i < lanes<T>; ++i) {
    from_low[i] = i / 2 + i % 2 * lanes<T>;
    from_high[i] = from_low[i] + lanes<T> / 2;
  }
  low = __builtin_shuffle(a, b, from_low);
  high = __builtin_shuffle(a, b, from_high);
#else
  alignas(VECTOR_BYTES) T first[lanes<T>], second[lanes<T>], both[2 * lanes<T>];
  store(first, a);
  store(second, b);
  for (int i = 0; i < lanes<T>; ++i) {
    both[2 * i] = first[i];
    both[2 * i + 1] = second[i];
  }
  low = load(both);
  high = load(both + lanes<T>);
#endif
}

// Exchange rows and columns of a square of `lanes` vectors.
template <class T>
static inline void transpose(Vec<T>* rows) {
  constexpr int half = lanes<T> / 2;
  for (int step = 1; step < lanes<T>; step *= 2) {
    Vec<T> next[lanes<T>];
    UNROLL for (int i = 0; i < half; ++i)
        interleave<T>(rows[i], rows[i + half], next[2 * i], next[2 * i + 1]);
    UNROLL for (int i = 0; i < lanes<T>; ++i) rows[i] = next[i];
  }
}
