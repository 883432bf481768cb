// For tests alone: what the amx set does, with arrays for tiles, on any machine.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd/macros.hpp"
#include "simd/table.hpp"

#define TILE_ZERO(t) zero(t)
#define TILE_LOAD(t, from, bytes) load(t, from, bytes)
#define TILE_STORE(t, to, bytes) store(t, to, bytes)
#define TILE_MULTIPLY(c, a, b) multiply(c, a, b)

namespace sparseconv {
namespace amx_emulated {

static thread_local std::uint32_t tiles[8][16][16];
static thread_local bool configured = false;

static void begin() { configured = true; }
static void end() { configured = false; }

static float as_float(std::uint32_t bits) {
  std::uint32_t flushed = (bits & 0x7f800000u) == 0 ? bits & 0x80000000u : bits;
  float value;
  std::memcpy(&value, &flushed, 4);
  return value;
}
static float flushed(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return as_float(bits);
}
static float even(std::uint32_t both) { return as_float(both << 16); }
static float odd(std::uint32_t both) { return as_float(both & 0xffff0000u); }

static void zero(int t) { std::memset(tiles[t], 0, sizeof tiles[t]); }
static void load(int t, const void* from, std::int64_t bytes) {
  for (int r = 0; r < 16; ++r)
    std::memcpy(tiles[t][r], static_cast<const char*>(from) + r * bytes, 64);
}
// a processor would fault on tiles without configuration: here they hold NaN
static void store(int t, void* to, std::int64_t bytes) {
  if (!configured) std::memset(tiles[t], 0xff, sizeof tiles[t]);
  for (int r = 0; r < 16; ++r) std::memcpy(static_cast<char*>(to) + r * bytes, tiles[t][r], 64);
}
static void multiply(int c, int a, int b) {
  for (int m = 0; m < 16; ++m)
    for (int n = 0; n < 16; ++n) {
      float evens = 0, odds = 0, sum;
      for (int k = 0; k < 16; ++k) {
        evens = flushed(evens + even(tiles[a][m][k]) * even(tiles[b][k][n]));
        odds = flushed(odds + odd(tiles[a][m][k]) * odd(tiles[b][k][n]));
      }
      std::memcpy(&sum, &tiles[c][m][n], 4);
      sum = flushed(sum + flushed(evens + odds));
      std::memcpy(&tiles[c][m][n], &sum, 4);
    }
}

#include "simd/tile_gemm.inl.hpp"

#include "simd/tile_roofline.inl.hpp"

void improve(Table& table) {
  table.name = "amx_emulated";
  tile::improve(table.bf16);
  table.bf16_rate = tile::rate();
}

}  // namespace amx_emulated
}  // namespace sparseconv
