#include "kernels/merge.hpp"

#include <stdexcept>
#include <string>

#include "core/buffer.hpp"
#include "core/parallel.hpp"

namespace sparseconv {

void join_rows(const std::vector<Part>& parts, std::int64_t taps, std::int32_t* joined,
               int threads) {
  std::int64_t count = 0;
  for (const Part& part : parts) {
    bool ordered = part.segments[0] == 0 && part.segments[taps] == part.count;
    for (std::int64_t t = 0; t < taps; ++t)
      ordered = ordered && part.segments[t] <= part.segments[t + 1];
    if (!ordered)
      throw std::invalid_argument("segments: expected numbers that never fall, from 0 to " +
                                  std::to_string(part.count));
    count += part.count;
  }
  prefer_large_pages(joined, count * std::int64_t(sizeof(std::int32_t)));
  parallel_tasks(taps, threads, [&](std::int64_t t) {
    std::int32_t* to = joined;
    for (const Part& part : parts) to += part.segments[t];
    for (const Part& part : parts) {
      const std::int32_t* from = part.rows + part.segments[t];
      const std::int64_t n = part.segments[t + 1] - part.segments[t];
      for (std::int64_t i = 0; i < n; ++i) to[i] = from[i] + part.start;
      to += n;
    }
  });
}

}  // namespace sparseconv
