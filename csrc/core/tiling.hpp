// Output tiles for kernels that treat every channel alike.
#pragma once
#include <algorithm>
#include <cstdint>

namespace sparseconv {

// Rows of a tile and channels of a task, chosen so that few output rows still make many tasks.
struct Tiling {
  std::int64_t rows, channels, blocks;

  Tiling(std::int64_t num_out, std::int64_t all_channels, std::int64_t element, int threads) {
    channels = std::max<std::int64_t>(all_channels, 1);
    rows = std::clamp<std::int64_t>(256 * 1024 / (channels * element), 64, 4096);
    const auto tasks = [&] {
      return (num_out + rows - 1) / rows * ((all_channels + channels - 1) / channels);
    };
    while (threads > 1 && rows > 64 && tasks() < 4 * threads) rows /= 2;
    while (threads > 1 && channels > 16 && tasks() < 2 * threads)
      channels = (channels / 2 + 15) / 16 * 16;
    blocks = (all_channels + channels - 1) / channels;
  }
};

}  // namespace sparseconv
