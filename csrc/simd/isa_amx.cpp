// x86-64 with AMX tiles for bfloat16 beside AVX-512 BF16: the avx512bf16 set with its own products.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd/macros.hpp"
#include "simd/table.hpp"

// GCC's intrinsics do not say that they read memory: what they are about to read must be there
#define WRITTEN(address) __asm__ volatile("" ::"r"(address) : "memory")
#define TILE_ZERO(t) _tile_zero(t)
#define TILE_LOAD(t, from, bytes) \
  do {                            \
    WRITTEN(from);                \
    _tile_loadd(t, from, bytes);  \
  } while (0)
#define TILE_STORE(t, to, bytes) _tile_stored(t, to, bytes)
#define TILE_MULTIPLY(c, a, b) _tile_dpbf16ps(c, a, b)

namespace sparseconv {
namespace amx {

struct alignas(64) Config {
  std::uint8_t palette, start_row, reserved[14];
  std::uint16_t row_bytes[16];
  std::uint8_t rows[16];
};
static_assert(sizeof(Config) == 64, "the processor reads 64 bytes");

static void begin() {
  Config config = {};
  config.palette = 1;
  for (int t = 0; t < 8; ++t) {
    config.row_bytes[t] = 64;
    config.rows[t] = 16;
  }
  WRITTEN(&config);
  _tile_loadconfig(&config);
}
// tiles in use make every switch of threads dearer
static void end() { _tile_release(); }

#include "simd/tile_gemm.inl.hpp"

#include "simd/tile_roofline.inl.hpp"

void improve(Table& table) {
  table.name = "amx";
  tile::improve(table.bf16);
  table.bf16_rate = tile::rate();
}

}  // namespace amx
}  // namespace sparseconv
