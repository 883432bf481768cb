// A vector of L numbers, L a power of 2 up to a whole register: what narrow rows and groups fill.
// Included inside the namespace of one instruction set, after vec and convert.

template <class T, int L>
struct Piece {
#ifdef WHOLE_MASKS
  typedef T type __attribute__((vector_size(L * sizeof(T))));
  typedef T loose __attribute__((vector_size(L * sizeof(T)), aligned(sizeof(T)), may_alias));
#else
  struct type {
    T lane[L];
    friend type operator*(type a, const type& b) {
      for (int i = 0; i < L; ++i) a.lane[i] *= b.lane[i];
      return a;
    }
    friend type operator*(T a, type b) {
      for (int i = 0; i < L; ++i) b.lane[i] *= a;
      return b;
    }
    friend type operator+(type a, const type& b) {
      for (int i = 0; i < L; ++i) a.lane[i] += b.lane[i];
      return a;
    }
    type& operator+=(const type& b) { return *this = *this + b; }
  };
  typedef type loose;
#endif
};
template <class T>
struct Piece<T, 1> {
  typedef T type;
  typedef T loose;
};

template <int L, class S, class T>
static inline typename Piece<T, L>::type load_piece(const S* from) {
  if constexpr (sizeof(S) == sizeof(T)) {
    return *reinterpret_cast<const typename Piece<T, L>::loose*>(from);
  } else {
    T wide[L];
    widen_row(from, wide, L);
    return *reinterpret_cast<const typename Piece<T, L>::loose*>(wide);
  }
}
template <int L, class T>
static inline void store_piece(T* to, typename Piece<T, L>::type v) {
  *reinterpret_cast<typename Piece<T, L>::loose*>(to) = v;
}

// The most numbers a piece can have that fit n.
template <class T>
static inline int piece_size(std::int64_t n) {
  int size = lanes<T>;
  while (size > n) size /= 2;
  return size;
}

// Constants handed to a lambda.
template <int N>
struct Size {
  static constexpr int value = N;
};
template <int L, class Visit>
static inline void visit_size(int size, Visit&& visit) {
  if (size == L) return visit(Size<L>{});
  if constexpr (L > 1) visit_size<L / 2>(size, visit);
}

// Sums of two vectors' neighbours: a0 + a1, a2 + a3, ..., b0 + b1, ...
template <class T>
static inline Vec<T> add_neighbours(const Vec<T>& a, const Vec<T>& b) {
#if defined(__GNUC__) && !defined(__clang__) && !defined(SPARSECONV_PLAIN_VECTORS)
  typename Lanes<T>::index even, odd;
  UNROLL for (int i = 0; i < lanes<T>; ++i) {
    even[i] = 2 * i;
    odd[i] = 2 * i + 1;
  }
  return __builtin_shuffle(a, b, even) + __builtin_shuffle(a, b, odd);
#else
  alignas(VECTOR_BYTES) T both[2 * lanes<T>], sums[lanes<T>];
  store(both, a);
  store(both + lanes<T>, b);
  for (int i = 0; i < lanes<T>; ++i) sums[i] = both[2 * i] + both[2 * i + 1];
  return load(sums);
#endif
}
