// Which instruction set runs: the best of this machine, or a forced one.
#pragma once
#include <string>
#include <vector>

#include "simd/table.hpp"

namespace sparseconv {

// The table in use. On first use SPARSECONV_ISA, if set, is obeyed.
const Table& table();

// Names this build and this machine can run, slowest first.
std::vector<std::string> available_isas();

// Lets a thread run products of `loops` while it lives.
template <class Loops>
class Ready {
 public:
  explicit Ready(const Loops& loops) : end_(loops.end) {
    if (loops.begin != nullptr) loops.begin();
  }
  ~Ready() {
    if (end_ != nullptr) end_();
  }
  Ready(const Ready&) = delete;
  Ready& operator=(const Ready&) = delete;

 private:
  void (*end_)();
};

// Force a set, also one for tests that is never chosen and not listed; throws std::invalid_argument where it is unknown or cannot run here.
void set_isa(const std::string& name);

}  // namespace sparseconv
