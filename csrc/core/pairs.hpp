// Pairs of a rulebook, and whether they can be trusted.
#pragma once
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/parallel.hpp"

namespace sparseconv {

struct Pairs {
  const std::int32_t* in;        // [P]
  const std::int32_t* out;       // [P]
  const std::int64_t* segments;  // [taps + 1], pairs of tap t are segments[t] .. segments[t + 1]
  std::int64_t taps;
  std::int64_t count;  // P
};

// Whether segments go from 0 to P without falling and every row is in range, or std::invalid_argument; found
// in pieces, by as many threads as one likes. `swapped`: the caller's inputs are outputs here, which
// errors say.
class PairCheck {
 public:
  PairCheck(const Pairs& pairs, std::int64_t num_in, std::int64_t num_out, bool swapped = false)
      : pairs_(pairs),
        num_in_(num_in),
        num_out_(num_out),
        swapped_(swapped),
        falls_(pieces()),
        bad_(pieces()) {
    bool ordered = pairs.segments[0] == 0 && pairs.segments[pairs.taps] == pairs.count;
    for (std::int64_t t = 0; t < pairs.taps; ++t)
      ordered = ordered && pairs.segments[t] <= pairs.segments[t + 1];
    if (!ordered)
      throw std::invalid_argument("segments: expected numbers that never fall, from 0 to " +
                                  std::to_string(pairs.count));
  }

  std::int64_t pieces() const { return (pairs_.count + piece_ - 1) / piece_; }

  void check(std::int64_t i) {
    const std::int64_t begin = i * piece_, end = std::min(pairs_.count, begin + piece_);
    const std::uint32_t last_in = last(num_in_), last_out = last(num_out_);
    // the sign of a number or of its distance to the last row shows what is out of range
    std::uint32_t signs_in = 0, signs_out = 0;
    std::int32_t fallen = 0;
    const std::int64_t second = std::max<std::int64_t>(begin, 1);
    for (std::int64_t p = begin; p < second; ++p) {
      const std::uint32_t in = std::uint32_t(pairs_.in[p]), out = std::uint32_t(pairs_.out[p]);
      signs_in |= in | (last_in - in);
      signs_out |= out | (last_out - out);
    }
    for (std::int64_t p = second; p < end; ++p) {
      const std::uint32_t in = std::uint32_t(pairs_.in[p]), out = std::uint32_t(pairs_.out[p]);
      signs_in |= in | (last_in - in);
      signs_out |= out | (last_out - out);
      fallen += pairs_.out[p] < pairs_.out[p - 1];
    }
    falls_[i] = fallen;
    bad_[i] = signs_in >> 31 ? 1 : (signs_out >> 31 ? 2 : 0);
  }

  // Throw if a piece found a row out of range; return whether output rows never fall within a segment.
  bool finish() const {
    std::int64_t fallen = 0;
    for (std::int64_t i = 0; i < pieces(); ++i) {
      fallen += falls_[i];
      if (bad_[i] == 0) continue;
      const std::int64_t rows = bad_[i] == 1 ? num_in_ : num_out_;
      throw std::invalid_argument(
          (bad_[i] == 1) != swapped_
              ? "in_rows: expected rows below " + std::to_string(rows) +
                    ", found others; use the rulebook of these features' sites"
              : "out_rows: expected rows below " + std::to_string(rows) +
                    ", found others; use the rulebook of these output sites");
    }
    // a fall from one segment to the next is none, with or without empty ones between
    for (std::int64_t t = 1; t < pairs_.taps; ++t) {
      const std::int64_t p = pairs_.segments[t];
      if (p > pairs_.segments[t - 1] && p < pairs_.count)
        fallen -= pairs_.out[p] < pairs_.out[p - 1];
    }
    return fallen == 0;
  }

 private:
  static constexpr std::int64_t piece_ = 1 << 15;
  static std::uint32_t last(std::int64_t rows) {
    return std::uint32_t(std::min<std::int64_t>(rows, std::int64_t(1) << 31) - 1);
  }

  const Pairs pairs_;
  const std::int64_t num_in_, num_out_;
  const bool swapped_;
  std::vector<std::int64_t> falls_, bad_;
};

// Check all pieces; return whether output rows never fall within a segment.
inline bool check_pairs(const Pairs& pairs, std::int64_t num_in, std::int64_t num_out, int threads,
                        bool swapped = false) {
  PairCheck check(pairs, num_in, num_out, swapped);
  const int team = worth_sharing(pairs.count / 3, threads);
  parallel_tasks(check.pieces(), team, [&](std::int64_t piece) { check.check(piece); });
  return check.finish();
}

}  // namespace sparseconv
