// Freed blocks kept for the next buffer of their size.
//
// The first touch of a page costs more than the sums most kernels store there, and a program that
// builds rulebooks scan after scan asks for the same sizes again and again. Blocks of 64 KiB and
// more are therefore kept when freed, at most 64 MiB in a process, the oldest going first.
#pragma once
#include <atomic>
#include <cstdint>
#include <new>

namespace sparseconv {

class SpareBlocks {
 public:
  static constexpr std::int64_t least = std::int64_t(1) << 16;
  static constexpr std::int64_t most = std::int64_t(1) << 26;

  struct Block {
    void* data;
    std::int64_t bytes;
  };

  static SpareBlocks& shared() {
    // never destroyed: arrays may outlive every other object
    static SpareBlocks* const made = new SpareBlocks;
    return *made;
  }

  // At least so many bytes, a quarter more at most.
  Block take(std::int64_t bytes) {
    if (bytes >= least) {
      const Hold hold(busy_);
      if (hold.held) {
        int best = -1;
        for (int i = 0; i < count_; ++i)
          if (blocks_[i].bytes >= bytes && blocks_[i].bytes <= bytes + bytes / 4 &&
              (best < 0 || blocks_[i].bytes <= blocks_[best].bytes))
            best = i;
        if (best >= 0) return remove(best);
      }
    }
    return {::operator new(std::size_t(bytes), std::align_val_t(64)), bytes};
  }

  void give(Block block) noexcept {
    if (block.bytes >= least && block.bytes <= most) {
      const Hold hold(busy_);
      if (hold.held) {
        while (count_ == slots || kept_ + block.bytes > most) release(remove(0));
        blocks_[count_++] = block;
        kept_ += block.bytes;
        return;
      }
    }
    release(block);
  }

 private:
  static constexpr int slots = 64;

  // Whoever comes second, or finds it held since a fork, does without.
  struct Hold {
    explicit Hold(std::atomic_flag& flag)
        : flag(flag), held(!flag.test_and_set(std::memory_order_acquire)) {}
    ~Hold() {
      if (held) flag.clear(std::memory_order_release);
    }
    Hold(const Hold&) = delete;
    std::atomic_flag& flag;
    bool held;
  };

  static void release(Block block) { ::operator delete(block.data, std::align_val_t(64)); }

  Block remove(int at) {
    const Block block = blocks_[at];
    for (--count_; at < count_; ++at) blocks_[at] = blocks_[at + 1];
    kept_ -= block.bytes;
    return block;
  }

  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  Block blocks_[slots];
  int count_ = 0;
  std::int64_t kept_ = 0;
};

}  // namespace sparseconv
