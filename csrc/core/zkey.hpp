// One 64-bit key a site in Z-order: batch, then the bits of x, y, z interleaved, x the highest of
// each three, every coordinate shifted by 2^31 so that none is negative.
//
// A key keeps only the bits that differ within the box that holds the sites: the order is that of
// all bits. An axis whose sites lie on both sides of a multiple of a high power of two (0, say)
// keeps one bit for the side, in the place of the highest bit that differs, and the low bits.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/key.hpp"
#include "simd/table.hpp"

namespace sparseconv {

// Z-order by comparison, for sites whose box no key holds.
inline int bit_width(std::uint64_t v) {
#if defined(__GNUC__) || defined(__clang__)
  return v ? 64 - __builtin_clzll(v) : 0;
#else
  int bits = 0;
  while (v >> bits) ++bits;
  return bits;
#endif
}

inline bool z_less(const Site& a, const Site& b) {
  if (a.b != b.b) return a.b < b.b;
  const std::uint32_t x = std::uint32_t(a.x ^ b.x), y = std::uint32_t(a.y ^ b.y),
                      z = std::uint32_t(a.z ^ b.z);
  // whether q has a higher bit than p
  const auto higher = [](std::uint32_t p, std::uint32_t q) { return p < q && p < (p ^ q); };
  if (higher(x, y)) return higher(y, z) ? a.z < b.z : a.y < b.y;
  return higher(x, z) ? a.z < b.z : a.x < b.x;
}

class ZKey {
 public:
  static constexpr int most_bits = 62;

  // The box lies within int32.
  explicit ZKey(const Box& box) {
    if (box.empty()) {
      fits_ = true;
      return;
    }
    for (int a = 0; a < 3; ++a) {
      const std::uint64_t low = shifted(box.low[a + 1]), high = shifted(box.high[a + 1]);
      base_[a] = std::uint32_t(low);
      if (low == high) continue;
      int top = 31;
      while (!((low ^ high) >> top & 1)) --top;
      const std::uint64_t middle = high >> top << top;
      const std::uint64_t reach = std::max(middle - low, high - middle + 1);
      while (std::uint64_t(1) << low_bits_[a] < reach) ++low_bits_[a];
      base_[a] = std::uint32_t(middle - (std::uint64_t(1) << low_bits_[a]));
      top_[a] = top;
      depth_ = std::max(depth_, low_bits_[a] + (top == low_bits_[a]));
    }
    std::uint8_t place[3][33];
    int kept[3] = {};
    for (int plane = 0; plane < 32; ++plane) {
      below_[plane] = bits_;
      for (int a = 2; a >= 0; --a)
        if (plane < low_bits_[a] || plane == top_[a]) {
          axis_[bits_] = std::uint8_t(a);
          places_[a][plane] = bits_;
          place[a][kept[a]++] = std::uint8_t(bits_++);
          axes_[plane] |= 4 >> a;
        }
    }
    batch_bit_ = bits_;
    low_batch_ = box.low[0];
    const std::uint64_t items = std::uint64_t(box.high[0]) - std::uint64_t(box.low[0]);
    while (items >> (bits_ - batch_bit_)) ++bits_;
    fits_ = bits_ <= most_bits;
    if (!fits_) return;
    for (int a = 0; a < 3; ++a)
      for (int chunk = 0; chunk * 8 < kept[a]; ++chunk) {
        std::uint64_t* spread = spread_[a][chunk];
        spread[0] = 0;
        for (int bit = 0; bit < 8; ++bit) {
          const int from = chunk * 8 + bit, half = 1 << bit;
          const std::uint64_t moved = from < kept[a] ? std::uint64_t(1) << place[a][from] : 0;
          for (int v = 0; v < half; ++v) spread[half + v] = spread[v] | moved;
        }
        chunks_ = std::max(chunks_, chunk + 1);
      }
    for (int a = 0; a < 3; ++a)
      for (int chunk = (kept[a] + 7) / 8; chunk < chunks_; ++chunk)
        std::fill_n(spread_[a][chunk], 256, std::uint64_t(0));
  }

  bool fits() const { return fits_; }
  int bits() const { return bits_; }
  std::uint64_t most() const { return bits_ ? ~std::uint64_t(0) >> (64 - bits_) : 0; }
  // The axes (4 x, 2 y, 1 z) of which plane `level` of the coordinates is in the key.
  int axes(int level) const { return axes_[level]; }

  // Bits of the key that planes below `level` take.
  int bits_below(int level) const { return below_[level]; }
  // Planes that every site of one batch item shares beyond, but for the sides of axes.
  int depth() const { return depth_; }
  // Where the key tells plane `level` of axis a: in a bit of its own, or inverted in that of the
  // side; place -1 where the plane is the same for all sites.
  struct Bit {
    int place;
    bool inverted;
  };
  Bit bit(int a, int level) const {
    if (level == top_[a] || level < low_bits_[a]) return {places_[a][level], false};
    return level < top_[a] ? Bit{places_[a][top_[a]], true} : Bit{-1, false};
  }

  // The same for keys of 32 bits, for loops over many sites.
  ZSpread spread() const {
    ZSpread made{{std::uint32_t(low_batch_), base_[0] + 0x80000000u, base_[1] + 0x80000000u,
                  base_[2] + 0x80000000u},
                 batch_bit_,
                 2 * chunks_,
                 {}};
    for (int a = 0; a < 3; ++a)
      for (int chunk = 0; chunk < 2 * chunks_; ++chunk)
        for (int v = 0; v < 16; ++v)
          made.of[a][chunk][v] = std::uint32_t(spread_[a][chunk / 2][v << (4 * (chunk % 2))]);
    while (made.chunks > 0 && !made.of[0][made.chunks - 1][15] && !made.of[1][made.chunks - 1][15] &&
           !made.of[2][made.chunks - 1][15])
      --made.chunks;
    return made;
  }

  // Call run(of) with a function from site to key, made for the chunks this box needs.
  template <class Run>
  void with(Run&& run) const {
    switch (chunks_) {
      case 1:
        return run([this](const Site& s) { return of<1>(s); });
      case 2:
        return run([this](const Site& s) { return of<2>(s); });
      default:
        return run([this](const Site& s) { return of<4>(s); });
    }
  }
  std::int64_t of(const Site& s) const {
    switch (chunks_) {
      case 1:
        return std::int64_t(of<1>(s));
      case 2:
        return std::int64_t(of<2>(s));
      default:
        return std::int64_t(of<4>(s));
    }
  }

 private:
  friend class ZSites;

  static std::uint64_t shifted(std::int64_t v) { return std::uint64_t(v + (std::int64_t(1) << 31)); }

  template <int chunks>
  std::uint64_t of(const Site& s) const {
    const std::uint32_t at[3] = {std::uint32_t(s.x) + 0x80000000u - base_[0],
                                 std::uint32_t(s.y) + 0x80000000u - base_[1],
                                 std::uint32_t(s.z) + 0x80000000u - base_[2]};
    std::uint64_t key = 0;
    for (int a = 0; a < 3; ++a)
      for (int c = 0; c < chunks; ++c)
        if (c < 3 || chunks_ > 3) key |= spread_[a][c][at[a] >> (8 * c) & 255];
    return key | std::uint64_t(s.b - low_batch_) << batch_bit_;
  }

  bool fits_ = false;
  int bits_ = 0, batch_bit_ = 0, chunks_ = 1;
  int low_bits_[3] = {}, top_[3] = {-1, -1, -1}, depth_ = 0;
  int below_[32] = {}, places_[3][32] = {};
  std::uint32_t base_[3] = {};
  std::int64_t low_batch_ = 0;
  std::uint8_t axis_[96] = {};
  std::uint8_t axes_[32] = {};
  std::uint64_t spread_[3][4][256];
};

// The way back from keys to sites.
class ZSites {
 public:
  explicit ZSites(const ZKey& key) : chunks_(std::max(1, (key.bits_ + 7) / 8)) {
    int kept[3] = {};
    Part of_bit[64] = {};
    for (int bit = 0; bit < key.bits_; ++bit) {
      if (bit >= key.batch_bit_)
        of_bit[bit].v[0] = std::uint32_t(1) << (bit - key.batch_bit_);
      else
        of_bit[bit].v[key.axis_[bit] + 1] = std::uint32_t(1) << kept[key.axis_[bit]]++;
    }
    for (int chunk = 0; chunk < chunks_; ++chunk) {
      Part* part = parts_[chunk];
      part[0] = Part{};
      if (chunk == 0) {
        part[0].v[0] = std::uint32_t(key.low_batch_);
        for (int a = 0; a < 3; ++a) part[0].v[a + 1] = key.base_[a] + 0x80000000u;
      }
      for (int bit = 0; bit < 8; ++bit)
        for (int v = 0, half = 1 << bit; v < half; ++v)
          for (int a = 0; a < 4; ++a)
            part[half + v].v[a] = part[v].v[a] + of_bit[8 * chunk + bit].v[a];
    }
  }

  // Write the site as four numbers.
  void put(std::uint64_t key, std::int32_t* to) const {
    Part sum = parts_[0][key & 255];
    for (int chunk = 1; chunk < chunks_; ++chunk) {
      const Part& part = parts_[chunk][key >> (8 * chunk) & 255];
      for (int a = 0; a < 4; ++a) sum.v[a] += part.v[a];
    }
    std::memcpy(to, &sum, sizeof sum);
  }

 private:
  struct Part {
    std::uint32_t v[4];
  };
  int chunks_;
  Part parts_[8][256];
};

}  // namespace sparseconv
