// Products of tiles that never leave the tiles: the fastest AMX can go.
// Included inside the namespace of one instruction set with tiles, behind tile_gemm.inl.hpp.

namespace tile {

// Four tiles of sums take the product of two by two tiles a round.
static double product_rounds(std::int64_t rounds, double scale, double shift) {
  std::uint16_t numbers[32 * side];
  float sums[side * side], start = float(scale);
  std::uint32_t bits;
  std::memcpy(&bits, &start, 4);
  for (std::uint16_t& one : numbers) one = std::uint16_t(bits >> 16);
  for (float& one : sums) one = float(shift);
  begin();
  TILE_LOAD(0, sums, 4 * side);
  TILE_LOAD(1, sums, 4 * side);
  TILE_LOAD(2, sums, 4 * side);
  TILE_LOAD(3, sums, 4 * side);
  TILE_LOAD(4, numbers, 64);
  TILE_LOAD(5, numbers, 64);
  TILE_LOAD(6, numbers, 64);
  TILE_LOAD(7, numbers, 64);
  for (std::int64_t round = 0; round < rounds; ++round) {
    TILE_MULTIPLY(0, 4, 6);
    TILE_MULTIPLY(1, 4, 7);
    TILE_MULTIPLY(2, 5, 6);
    TILE_MULTIPLY(3, 5, 7);
  }
  double total = 0;
  TILE_STORE(0, sums, 4 * side);
  for (float one : sums) total += double(one);
  TILE_STORE(1, sums, 4 * side);
  for (float one : sums) total += double(one);
  TILE_STORE(2, sums, 4 * side);
  for (float one : sums) total += double(one);
  TILE_STORE(3, sums, 4 * side);
  for (float one : sums) total += double(one);
  end();
  return total;
}

static Rate rate() { return {product_rounds, std::int64_t(4) * 2 * 32 * side * side}; }

}  // namespace tile
