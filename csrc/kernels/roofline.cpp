#include "kernels/roofline.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "core/dtype.hpp"
#include "core/parallel.hpp"

namespace sparseconv {

std::int64_t multiply_adds(int dtype, std::int64_t flops, int threads) {
  const Table& use = table();
  const Rate* rate = nullptr;
  switch (Dtype(dtype)) {
    case Dtype::f32:
      rate = &use.f32_rate;
      break;
    case Dtype::f64:
      rate = &use.f64_rate;
      break;
    case Dtype::bf16:
      rate = &use.bf16_rate;
      break;
    default:
      throw std::invalid_argument("dtype: expected float32, float64 or bfloat16");
  }
  // pieces of some 10 microseconds: no thread waits long for the last one
  const std::int64_t piece = std::max<std::int64_t>(1, (1 << 21) / rate->flops);
  const std::int64_t rounds = std::max<std::int64_t>(1, (flops + rate->flops - 1) / rate->flops);
  const std::int64_t pieces = (rounds + piece - 1) / piece;
  // what is read from here the compiler cannot foresee
  volatile double scale = 0.75, shift = 0.5, kept = 0;
  parallel_tasks(pieces, threads, [&](std::int64_t) {
    const double sum = rate->run(piece, scale, shift);
    if (sum == 0.1) kept = sum;
  });
  (void)kept;
  return pieces * piece * rate->flops;
}

void copy_bytes(const void* from, void* to, std::int64_t bytes, int threads) {
  const std::int64_t share = (bytes + threads - 1) / threads;
  const std::int64_t piece = (share + 4095) / 4096 * 4096;
  parallel_ranges(bytes, std::max<std::int64_t>(piece, 1), threads,
                  [&](std::int64_t begin, std::int64_t end) {
                    std::memcpy(static_cast<char*>(to) + begin,
                                static_cast<const char*>(from) + begin, std::size_t(end - begin));
                  });
}

}  // namespace sparseconv
