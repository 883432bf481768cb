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
