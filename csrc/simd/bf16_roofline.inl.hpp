// Products of bfloat16 pairs that never leave the registers: the fastest vdpbf16ps can go.
// Included inside the namespace of one instruction set with AVX-512 BF16.

namespace bf16 {

constexpr int chains = 16;

// Every float lane of every sum takes the sum of two products a round.
static double dot_rounds(std::int64_t rounds, double scale, double shift) {
  float start[chains * vector];
  for (int i = 0; i < chains * vector; ++i) start[i] = float(shift) * float(i);
  __m512 sums[chains];
  UNROLL
  for (int i = 0; i < chains; ++i) sums[i] = _mm512_loadu_ps(start + i * vector);
  const __m512 both = _mm512_set1_ps(float(scale));
  const __m512bh pairs = _mm512_cvtne2ps_pbh(both, both);
  for (std::int64_t round = 0; round < rounds; ++round) {
    UNROLL
    for (int i = 0; i < chains; ++i) sums[i] = _mm512_dpbf16_ps(sums[i], pairs, pairs);
  }
  UNROLL
  for (int i = 0; i < chains; ++i) _mm512_storeu_ps(start + i * vector, sums[i]);
  double total = 0;
  for (float one : start) total += double(one);
  return total;
}

static Rate rate() { return {dot_rounds, std::int64_t(4) * chains * vector}; }

}  // namespace bf16
