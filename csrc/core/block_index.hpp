// An index of sites for many look-ups near one another: blocks of 4 x 4 x 4 cells.
//
// int32 words, which depend on the sites alone:
//   [0] N, rows; [1] U, sites that differ; [2] L, blocks; [3] H, buckets, a power of two >= 2 L and
//   16; [4 .. 8) 0
//   L blocks of eight words, in Z-order: batch item; x, y, z of the block, those of its cells
//     shifted right by two; two words of the mask, low first; where its rows begin in the list; 0.
//     Bit 32 x1 + 16 y1 + 8 z1 + 4 x0 + 2 y0 + z0 of the mask is set where the cell with these low
//     bits of its coordinates is active.
//   H + 1 numbers: where the blocks of a bucket begin; the bucket is the low bits of the hash
//   L numbers of blocks, bucket by bucket, ascending in each
//   U rows, block by block, in the order of bits, hence in Z-order; the lowest row of equal sites
//
// A block is found by all four numbers, so any int32 coordinate works and none meets another.
#pragma once
#include <cstdint>

#include "core/buffer.hpp"
#include "core/site_index.hpp"

namespace sparseconv {

constexpr int block_shift = 2;
constexpr std::int64_t block_words = 8, index_words = 8;

struct SiteBlock {
  Site at;
  std::uint32_t low, high;
  std::int32_t begin, unused;

  std::uint64_t mask() const { return std::uint64_t(high) << 32 | low; }
};
static_assert(sizeof(SiteBlock) == 4 * block_words, "blocks are read in place");

inline int count_bits(std::uint64_t v) {
#if defined(__GNUC__) || defined(__clang__)
  return __builtin_popcountll(v);
#else
  int bits = 0;
  for (; v; v &= v - 1) ++bits;
  return bits;
#endif
}

// The lowest bit that is set, of at least one.
inline int lowest_bit(std::uint64_t v) {
#if defined(__GNUC__) || defined(__clang__)
  return __builtin_ctzll(v);
#else
  int bit = 0;
  while (!(v >> bit & 1)) ++bit;
  return bit;
#endif
}

// Bit of a cell by the low two bits of each coordinate.
constexpr int cell_place[4] = {0, 1, 8, 9};
inline int cell_bit(int x, int y, int z) {
  return cell_place[x & 3] << 2 | cell_place[y & 3] << 1 | cell_place[z & 3];
}

// Bits of the cells whose coordinate is the lowest of the block, in each direction that is asked for.
inline std::uint64_t lowest_cells(bool x, bool y, bool z) {
  // low bits x0, y0, z0 and high bits x1, y1, z1 of a cell are 2, 1, 0 and 5, 4, 3 of its bit
  constexpr std::uint64_t of_x = 0x000000000f0f0f0f,
                          of_y = 0x0000333300003333, of_z = 0x0055005500550055;
  return (x ? of_x : ~std::uint64_t(0)) & (y ? of_y : ~std::uint64_t(0)) &
         (z ? of_z : ~std::uint64_t(0));
}

inline std::int64_t block_buckets(std::int64_t blocks) {
  std::int64_t buckets = 16;
  while (buckets < 2 * blocks) buckets *= 2;
  return buckets;
}

inline std::uint64_t block_hash(const Site& at) {
  return mix(linear_hash(at.b, at.x, at.y, at.z));
}

// A view of the words.
class BlockIndex {
 public:
  explicit BlockIndex(const std::int32_t* words)
      : rows_(words[0]),
        sites_(words[1]),
        size_(words[2]),
        mask_(std::uint32_t(words[3]) - 1),
        blocks_(reinterpret_cast<const SiteBlock*>(words + index_words)),
        begins_(words + index_words + size_ * block_words),
        order_(begins_ + words[3] + 1),
        list_(order_ + size_) {}

  // Whether so many words are an index of so many rows.
  static bool fits(const std::int32_t* words, std::int64_t count, std::int64_t rows) {
    return count >= index_words && words[0] == rows && words[1] >= 0 && words[1] <= rows &&
           words[2] >= 0 && words[2] <= words[1] && words[3] == block_buckets(words[2]) &&
           count == index_words + words[2] * (block_words + 1) + words[3] + 1 + words[1];
  }

  std::int64_t rows() const { return rows_; }
  std::int64_t sites() const { return sites_; }
  std::int64_t size() const { return size_; }
  const SiteBlock& block(std::int64_t i) const { return blocks_[i]; }
  std::int32_t end(std::int64_t i) const {
    return i + 1 < size_ ? blocks_[i + 1].begin : std::int32_t(sites_);
  }
  const std::int32_t* list() const { return list_; }

  // Number of the block, -1 where no site is in it.
  std::int32_t find(const Site& at) const {
    const std::uint64_t bucket = block_hash(at) & mask_;
    for (std::int32_t i = begins_[bucket]; i < begins_[bucket + 1]; ++i)
      if (blocks_[order_[i]].at == at) return order_[i];
    return -1;
  }

 private:
  std::int64_t rows_, sites_, size_;
  std::uint64_t mask_;
  const SiteBlock* blocks_;
  const std::int32_t* begins_;
  const std::int32_t* order_;
  const std::int32_t* list_;
};

}  // namespace sparseconv
