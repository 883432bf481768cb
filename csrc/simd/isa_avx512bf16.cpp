// x86-64 with AVX-512 BF16 beside F, BW, DQ and VL: the avx512 set with its own bfloat16 products.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd/macros.hpp"
#include "simd/table.hpp"

namespace sparseconv {
namespace avx512bf16 {

#include "simd/later.inl.hpp"

#include "simd/write.inl.hpp"

#include "simd/bf16_gemm.inl.hpp"

#include "simd/bf16_roofline.inl.hpp"

void improve(Table& table) {
  table.name = "avx512bf16";
  table.bf16.padded = bf16::padded;
  table.bf16.shared_by = 2;
  table.bf16.pack = bf16::pack;
  table.bf16.pack_wide = bf16::pack_wide;
  table.bf16.gather_gemm = bf16::gather_gemm;
  table.bf16.gather_outer = bf16::gather_outer;
  table.bf16_rate = bf16::rate();
}

}  // namespace avx512bf16
}  // namespace sparseconv
