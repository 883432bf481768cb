// Fetching what a call to come reads. Included inside the namespace of one instruction set.

// A line at a time, to the second-level cache: many at once would wait for one another, and what
// comes behind them for all.
class LaterWalk {
 public:
  LaterWalk(const Later& what, std::int64_t steps)
      : at_(what.first), end_(what.first), next_(what.first), pitch_(what.pitch),
        bytes_((what.bytes + 63) / 64 * 64), left_(what.pieces) {
    const std::int64_t lines = bytes_ / 64 * left_;
    twice_ = lines > steps;
  }
  bool any() const { return left_ > 0 || at_ != end_; }
  INLINED void step() {
    line();
    if (twice_) line();
  }

 private:
  INLINED void line() {
    if (at_ == end_) {
      if (left_ == 0) return;
      --left_;
      at_ = next_;
      end_ = at_ + bytes_;
      next_ += pitch_;
    }
    PREFETCH_FAR(at_);
    at_ += 64;
  }

  const char *at_, *end_, *next_;
  std::int64_t pitch_, bytes_, left_;
  bool twice_;
};
