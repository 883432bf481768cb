// How orders of sites and pyramids lie in memory: blocks of int64 that Python keeps as they are.
#pragma once
#include <cstdint>
#include <cstring>

#include "core/zkey.hpp"

namespace sparseconv {

constexpr int most_levels = 31;  // planes of int32 below the sign

// The first numbers of an order and of a pyramid.
struct SitesHead {
  std::int64_t rows;      // sites
  std::int64_t distinct;  // of them
  std::int64_t low[4];    // smallest batch, x, y, z; INT64_MAX where there are no sites
  std::int64_t high[4];
};

// What an order begins with, unless it has no keys: then its SitesHead stands alone.
struct OrderHead {
  SitesHead sites;
  std::int64_t moved;                   // whether rows were not in Z-order already
  std::int64_t nodes[most_levels + 1];  // sites of each level
};

// One level of a pyramid: its nodes, in Z-order, and where the block keeps what is known of them.
struct LevelPlace {
  std::int64_t nodes;
  // of levels above the sites
  std::int64_t families;    // [nodes] uint64: see SiteTree
  std::int64_t words;       // [nodes] uint64: mask and place of the neighbours in the list
  std::int64_t counts[27];  // nodes that have a neighbour at each tap
};

struct PyramidHead {
  SitesHead sites;
  std::int64_t root;  // its level, at least 1; 0: there is no pyramid
  std::int64_t rows;  // where [sites] int32 are: the rows of the sites; 0: those in Z-order already
  std::int64_t list;  // where the neighbours of all levels are, int32
  LevelPlace levels[most_levels + 1];
};

template <class Head>
constexpr std::int64_t words_of_head = std::int64_t(sizeof(Head) / 8);

inline std::int64_t words_of(std::int64_t bytes) { return (bytes + 7) / 8; }

template <class T>
T* part(std::int64_t* block, std::int64_t word) {
  return reinterpret_cast<T*>(block + word);
}
template <class T>
const T* part(const std::int64_t* block, std::int64_t word) {
  return reinterpret_cast<const T*>(block + word);
}

template <class Head>
Head read_head(const std::int64_t* block) {
  Head head;
  std::memcpy(&head, block, sizeof head);
  return head;
}
template <class Head>
void write_head(std::int64_t* block, const Head& head) {
  std::memcpy(block, &head, sizeof head);
}

inline Box box_in(const SitesHead& head) {
  Box box;
  for (int a = 0; a < 4; ++a) {
    box.low[a] = head.low[a];
    box.high[a] = head.high[a];
  }
  return box;
}

// Where an order keeps its keys and, where they were moved, the rows they came from.
template <class K>
struct OrderParts {
  std::int64_t keys, rows, words;
  explicit OrderParts(std::int64_t n)
      : keys(words_of_head<OrderHead>),
        rows(keys + words_of(n * std::int64_t(sizeof(K)))),
        words(rows + words_of(n * 4)) {}
};

}  // namespace sparseconv
