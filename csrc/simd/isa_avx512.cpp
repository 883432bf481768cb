// x86-64 with AVX-512 F, BW, DQ and VL.
#define ISA avx512
#define VECTOR_BYTES 64
#define VECTOR_COUNT 32
#include "simd/isa.inl.hpp"
