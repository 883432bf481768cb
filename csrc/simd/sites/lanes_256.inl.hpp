// What loops over sites do with eight numbers of 32 bits. Included inside the namespace of one
// instruction set.

// For each set of eight lanes its lanes one after another (the rest 0), and for each lane how many of
// the set lie before it.
struct EightLanes {
  alignas(64) std::uint8_t list[256][8];
  alignas(64) std::uint8_t before[256][8];
};

constexpr EightLanes make_eight_lanes() {
  EightLanes made{};
  for (int set = 0; set < 256; ++set) {
    int count = 0;
    for (int lane = 0; lane < 8; ++lane) {
      made.before[set][lane] = std::uint8_t(count);
      if (set >> lane & 1) made.list[set][count++] = std::uint8_t(lane);
    }
  }
  return made;
}

static constexpr EightLanes eight_lanes = make_eight_lanes();

static inline __m128i eight_bytes(const std::uint8_t* from) {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
}
static inline __m256i load8(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}
static inline void store8(void* to, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(to), v); }

static inline int signs_of(__m256i v) { return _mm256_movemask_ps(_mm256_castsi256_ps(v)); }

// Which lanes a set has, to move them together.
static inline __m256i lanes_of(int set) {
  return _mm256_cvtepu8_epi32(eight_bytes(eight_lanes.list[set]));
}

// Even and odd numbers of sixteen: a's first two, b's first two, a's last two, b's last two.
static inline __m256i evens(__m256i a, __m256i b) {
  return _mm256_castps_si256(
      _mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), 0x88));
}
static inline __m256i odds(__m256i a, __m256i b) {
  return _mm256_castps_si256(
      _mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), 0xdd));
}
// That order made a's, then b's.
static inline __m256i in_turn(__m256i v) { return _mm256_permute4x64_epi64(v, 0xd8); }

static inline __m256i unsigned_above(__m256i a, __m256i b) {
  const __m256i side = _mm256_set1_epi32(INT32_MIN);
  return _mm256_cmpgt_epi32(_mm256_xor_si256(a, side), _mm256_xor_si256(b, side));
}
