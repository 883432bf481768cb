// The rulebooks of several scans as that of their batch.
#pragma once
#include <cstdint>
#include <vector>

namespace sparseconv {

// One list of rows a part, grouped by tap.
struct Part {
  const std::int32_t* rows;
  std::int64_t count;
  const std::int64_t* segments;  // [taps + 1]
  std::int32_t start;            // added to every row
};

// Write, tap by tap, the rows of all parts in turn, each with its start added. Throw
// std::invalid_argument unless the segments of every part go from 0 to its count without falling.
void join_rows(const std::vector<Part>& parts, std::int64_t taps, std::int32_t* joined,
               int threads);

}  // namespace sparseconv
