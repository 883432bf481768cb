// Exchange rows and columns of 16 x 16 words. Included inside the namespace of one instruction set.

// to[c][s] = from[s][c] in four steps that exchange ever larger blocks.
#define TAKE(j, d, high) (((j) & (d)) != 0 ? 16 + (j) - ((high) ? 0 : (d)) : (j) + ((high) ? (d) : 0))
#define MERGE(a, b, d, h)                                                                   \
  __builtin_shufflevector(a, b, TAKE(0, d, h), TAKE(1, d, h), TAKE(2, d, h), TAKE(3, d, h), \
                          TAKE(4, d, h), TAKE(5, d, h), TAKE(6, d, h), TAKE(7, d, h),       \
                          TAKE(8, d, h), TAKE(9, d, h), TAKE(10, d, h), TAKE(11, d, h),     \
                          TAKE(12, d, h), TAKE(13, d, h), TAKE(14, d, h), TAKE(15, d, h))
#define EXCHANGE(d)                                  \
  UNROLL for (int i = 0; i < 16; ++i) {              \
    if ((i & (d)) == 0) {                            \
      const Row low = MERGE(r[i], r[i + (d)], d, 0); \
      r[i + (d)] = MERGE(r[i], r[i + (d)], d, 1);    \
      r[i] = low;                                    \
    }                                                \
  }
static inline void turn(const void* from, std::int64_t bytes_apart, std::uint32_t* to,
                        std::int64_t apart) {
  typedef std::uint32_t Row __attribute__((vector_size(64)));
  Row r[16];
  const char* bytes = static_cast<const char*>(from);
  UNROLL for (int i = 0; i < 16; ++i) std::memcpy(&r[i], bytes + i * bytes_apart, sizeof(Row));
  EXCHANGE(1)
  EXCHANGE(2)
  EXCHANGE(4)
  EXCHANGE(8)
  UNROLL for (int i = 0; i < 16; ++i) std::memcpy(to + i * apart, &r[i], sizeof(Row));
}
#undef EXCHANGE
#undef MERGE
#undef TAKE
