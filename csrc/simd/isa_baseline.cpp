// What every machine of the processor family runs: SSE2 on x86-64, NEON on 64-bit ARM.
#define ISA baseline
#define VECTOR_BYTES 16
#if defined(__aarch64__) || defined(_M_ARM64)
#define VECTOR_COUNT 32
#else
#define VECTOR_COUNT 16
#endif
#include "simd/isa.inl.hpp"
