// Multiply-adds that never leave the registers: the fastest this instruction set can go.
// Included inside the namespace of one instruction set.

// enough sums to keep every unit busy while each waits for its last result, and two operands
constexpr int chains = VECTOR_COUNT == 32 ? 16 : 12;

// One multiply-add on every sum a round; returns a number that needs them all.
template <class T>
static double fma_rounds(std::int64_t rounds, double scale, double shift) {
  T start[(chains + 1) * lanes<T>];
  for (int i = 0; i < (chains + 1) * lanes<T>; ++i) start[i] = T(shift) * T(i);
  Vec<T> sums[chains];
  UNROLL
  for (int i = 0; i < chains; ++i) sums[i] = load(start + i * lanes<T>);
  const Vec<T> added = load(start + chains * lanes<T>);
  const T factor = T(scale);
  for (std::int64_t round = 0; round < rounds; ++round) {
    UNROLL
    for (int i = 0; i < chains; ++i) {
      Vec<T> next = added;
      multiply_add(next, factor, sums[i]);
      sums[i] = next;
    }
  }
  UNROLL
  for (int i = 0; i < chains; ++i) store(start + i * lanes<T>, sums[i]);
  double total = 0;
  for (T one : start) total += double(one);
  return total;
}

template <class T>
static Rate rate() {
  return {fma_rounds<T>, std::int64_t(2) * chains * lanes<T>};
}

#if defined(__AVX512BF16__) && defined(__GNUC__)
// Every float lane takes the sum of two products of bfloat16 pairs.
static double dot_rounds(std::int64_t rounds, double scale, double shift) {
  float start[chains * lanes<float>];
  for (int i = 0; i < chains * lanes<float>; ++i) start[i] = float(shift) * float(i);
  __m512 sums[chains];
  UNROLL
  for (int i = 0; i < chains; ++i) sums[i] = _mm512_loadu_ps(start + i * lanes<float>);
  const __m512 half = _mm512_set1_ps(float(scale));
  const __m512bh pairs = _mm512_cvtne2ps_pbh(half, half);
  for (std::int64_t round = 0; round < rounds; ++round) {
    UNROLL
    for (int i = 0; i < chains; ++i) sums[i] = _mm512_dpbf16_ps(sums[i], pairs, pairs);
  }
  UNROLL
  for (int i = 0; i < chains; ++i) _mm512_storeu_ps(start + i * lanes<float>, sums[i]);
  double total = 0;
  for (float one : start) total += double(one);
  return total;
}
static Rate bf16_rate() { return {dot_rounds, std::int64_t(4) * chains * lanes<float>}; }
#else
static Rate bf16_rate() { return rate<float>(); }
#endif
