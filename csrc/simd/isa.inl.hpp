// The body of one instruction set's translation unit. The includer defines
//   ISA            name of the namespace and of the set
//   VECTOR_BYTES   width of a register
//   VECTOR_COUNT   registers: 32 or 16
#ifdef __AVX__
#include <immintrin.h>
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd/macros.hpp"
#include "simd/table.hpp"

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)

namespace sparseconv {
namespace ISA {

// accumulators, one row of weights and a broadcast must fit in the register file
constexpr int panel_vectors = VECTOR_COUNT == 32 ? 4 : 3;
template <int NV>
constexpr int block_rows =
    VECTOR_COUNT == 32 ? (NV == 4 ? 6 : 8) : (NV == 1 ? 8 : NV == 2 ? 6 : 4);

#include "simd/vec.inl.hpp"

#include "simd/convert.inl.hpp"

#include "simd/later.inl.hpp"

#include "simd/write.inl.hpp"

#include "simd/gemm.inl.hpp"

#include "simd/rows.inl.hpp"

#include "simd/piece.inl.hpp"

#include "simd/list.inl.hpp"

#include "simd/taps.inl.hpp"

#include "simd/relation.inl.hpp"

#include "simd/branches.inl.hpp"

#include "simd/planes.inl.hpp"

#include "simd/planes_grad.inl.hpp"

#include "simd/narrow.inl.hpp"

#include "simd/roofline.inl.hpp"

#include "simd/norm.inl.hpp"

#include "simd/sites/loops.inl.hpp"

#include "simd/sample.inl.hpp"

template <class S, class T>
static Loops<S, T> loops() {
  Loops<S, T> made;
  made.lanes = lanes<T>;
  made.padded = padded<T>;
  made.pack = pack<S, T>;
  made.gather_gemm = gather_gemm<S, T>;
  made.gather_outer = gather_outer<S, T>;
  made.tap_width = tap_width<T>;
  made.scale_rows = scale_rows<S, T>;
  made.weigh_taps = weigh_taps<S, T>;
  made.dot_taps = dot_taps<S, T>;
  made.multiply_rows = multiply_rows<S, T>;
  made.settle_taps = settle_taps<S, T>;
  made.put_rows = put_rows<S, T>;
  made.relate_row = relate_row<T>;
  made.softmax_row = softmax_row<T>;
  made.exp_row = exp_row<T>;
  made.mean_row = mean_row<T>;
  made.slope_row = slope_row<T>;
  made.narrow_taps = narrow_taps<S, T>;
  made.multiply_narrow = multiply_narrow<S, T>;
  made.sum_planes = sum_planes<S, T>;
  made.sum_planes_back = sum_planes_back<S, T>;
  made.sum_joined_back = sum_joined_back<S, T>;
  made.multiply_planes = multiply_planes<S, T>;
  made.add_rows = add_rows<S, T>;
  made.dot_rows = dot_rows<S, T>;
  made.max_rows = max_rows<S, T>;
  made.finish_rows = finish_rows<S, T>;
  made.lift_rows = lift_rows<S, T>;
  made.moments = moments<S, T>;
  made.norm_rows = norm_rows<S, T>;
  made.norm_sums = norm_sums<S, T>;
  made.norm_grad_rows = norm_grad_rows<S, T>;
  made.widen = widen_all<S, T>;
  made.narrow = narrow_all<S, T>;
  return made;
}

void fill(Table& table) {
  table.name = TEXT(ISA);
  table.f32 = loops<float, float>();
  table.f64 = loops<double, double>();
  table.bf16 = loops<Bf16, float>();
  table.f16 = loops<F16, float>();
  table.f32_rate = rate<float>();
  table.f64_rate = rate<double>();
  table.bf16_rate = rate<float>();
  table.sites = site_loops();
  table.samples_f32 = sample_loops<float>();
  table.samples_f64 = sample_loops<double>();
}

}  // namespace ISA
}  // namespace sparseconv
