// x86-64 with AVX2, FMA and F16C.
#define ISA avx2
#define VECTOR_BYTES 32
#define VECTOR_COUNT 16
#include "simd/isa.inl.hpp"
