// How sums are written where they end. Included inside the namespace of one instruction set.

#if defined(__AVX512F__)
#define STREAM(to, v) _mm512_stream_si512(reinterpret_cast<__m512i*>(to), (__m512i)(v))
#elif defined(__AVX__)
#define STREAM(to, v) _mm256_stream_si256(reinterpret_cast<__m256i*>(to), (__m256i)(v))
#endif

// Over what was there, added to it, or over it and past the caches: its lines are then not read first.
// Another thread may read what was streamed once this one has said so, by `end_writes`.
enum class Write { over, add, past };

template <class T>
static inline Write write_mode(bool begun, bool past, const T* to, std::int64_t ld) {
  if (begun) return Write::add;
#ifdef STREAM
  constexpr std::int64_t line = 64;
  if (past && reinterpret_cast<std::uintptr_t>(to) % line == 0 && ld * sizeof(T) % line == 0)
    return Write::past;
#endif
  (void)past, (void)to, (void)ld;
  return Write::over;
}

static inline void end_writes(Write how) {
#ifdef STREAM
  if (how == Write::past) _mm_sfence();
#endif
  (void)how;
}
