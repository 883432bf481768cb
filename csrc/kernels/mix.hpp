// Where a grid of cells is read between them: the kernels that rows read at places of their own.
#pragma once
#include <cmath>
#include <cstdint>

namespace sparseconv {

// The cells about one place that lie in the grid.
template <class T>
struct Mix {
  std::int32_t cells[8], corners[8];
  T shares[8], fraction[3];
  int count;

  template <class P>
  void read(const P* place, const std::int32_t* scope) {
    std::int32_t low[3];
    count = 0;
    for (int a = 0; a < 3; ++a) {
      const P whole = std::floor(place[a]);
      // what is no number is nowhere
      if (!(whole >= P(-1) && whole < P(scope[a]))) return;
      low[a] = std::int32_t(whole);
      if constexpr (sizeof(T) > sizeof(P))
        fraction[a] = T(place[a]) - T(whole);
      else
        fraction[a] = T(place[a] - whole);
    }
    const T x[2] = {1 - fraction[0], fraction[0]}, y[2] = {1 - fraction[1], fraction[1]},
            z[2] = {1 - fraction[2], fraction[2]};
    for (int c = 0; c < 8; ++c) {
      const std::int32_t at[3] = {low[0] + (c >> 2), low[1] + (c >> 1 & 1), low[2] + (c & 1)};
      cells[count] = (at[0] * scope[1] + at[1]) * scope[2] + at[2];
      shares[count] = x[c >> 2] * y[c >> 1 & 1] * z[c & 1];
      corners[count] = c;
      count += (at[0] >= 0) & (at[0] < scope[0]) & (at[1] >= 0) & (at[1] < scope[1]) &
               (at[2] >= 0) & (at[2] < scope[2]);
    }
  }
};

}  // namespace sparseconv
