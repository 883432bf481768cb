// Numbers of several branches in turn, and vectors of each.
// Included inside the namespace of one instruction set, after piece.

// low numbers of pairs, and high ones: a0 a2 ... b0 b2 ..., a1 a3 ... b1 b3 ...
template <class T>
static INLINED void part(const Vec<T>& a, const Vec<T>& b, Vec<T>& even, Vec<T>& odd) {
#if defined(__GNUC__) && !defined(__clang__) && !defined(SPARSECONV_PLAIN_VECTORS)
  typename Lanes<T>::index from_even, from_odd;
  UNROLL for (int i = 0; i < lanes<T>; ++i) {
    from_even[i] = 2 * i;
    from_odd[i] = 2 * i + 1;
  }
  even = __builtin_shuffle(a, b, from_even);
  odd = __builtin_shuffle(a, b, from_odd);
#else
  alignas(VECTOR_BYTES) T both[2 * lanes<T>], evens[lanes<T>], odds[lanes<T>];
  store(both, a);
  store(both + lanes<T>, b);
  for (int i = 0; i < lanes<T>; ++i) {
    evens[i] = both[2 * i];
    odds[i] = both[2 * i + 1];
  }
  even = load(evens);
  odd = load(odds);
#endif
}

// One vector of each branch from their numbers in turn, and back.
template <class T>
static INLINED void part_branches(const T* line, std::int64_t branches, Vec<T>* made) {
  constexpr int L = lanes<T>;
  if (branches == 4) {
    Vec<T> low[2], high[2];
    part<T>(load(line), load(line + L), low[0], high[0]);
    part<T>(load(line + 2 * L), load(line + 3 * L), low[1], high[1]);
    part<T>(low[0], low[1], made[0], made[2]);
    part<T>(high[0], high[1], made[1], made[3]);
  } else if (branches == 2) {
    part<T>(load(line), load(line + L), made[0], made[1]);
  } else if (branches == 1) {
    made[0] = load(line);
  } else {
    for (int a = 0; a < 3; ++a) {
      T one[L];
      for (int i = 0; i < L; ++i) one[i] = line[3 * i + a];
      made[a] = load(one);
    }
  }
}
template <class T>
static INLINED void join_branches(const Vec<T>* made, std::int64_t branches, T* line) {
  constexpr int L = lanes<T>;
  if (branches == 4) {
    Vec<T> even[2], odd[2], both[2];
    interleave<T>(made[0], made[2], even[0], even[1]);
    interleave<T>(made[1], made[3], odd[0], odd[1]);
    UNROLL for (int i = 0; i < 2; ++i) {
      interleave<T>(even[i], odd[i], both[0], both[1]);
      store(line + 2 * i * L, both[0]);
      store(line + (2 * i + 1) * L, both[1]);
    }
  } else if (branches == 2) {
    Vec<T> both[2];
    interleave<T>(made[0], made[1], both[0], both[1]);
    store(line, both[0]);
    store(line + L, both[1]);
  } else if (branches == 1) {
    store(line, made[0]);
  } else {
    for (int a = 0; a < 3; ++a) {
      T one[L];
      store(one, made[a]);
      for (int i = 0; i < L; ++i) line[3 * i + a] = one[i];
    }
  }
}
