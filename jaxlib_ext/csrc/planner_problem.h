// Buffers with fixed lifetimes [lower, upper) and sizes, and the sections of time between them.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

namespace loomax::planner {

using Bytes = std::int64_t;

constexpr Bytes kNever = std::numeric_limits<Bytes>::max() / 4;

// Time is cut into sections; only sections whose set of live buffers is maximal are kept, since
// two buffers that live at once meet in one of those. A buffer lives in [first, last).
struct Problem {
  int count = 0;
  int sections = 0;
  Bytes bound = 0;  // most bytes live at once: no plan has a lower peak
  std::vector<int> first, last;
  std::vector<Bytes> size;

  int width(int buffer) const { return last[buffer] - first[buffer]; }
  bool meet(int a, int b) const { return first[a] < last[b] && first[b] < last[a]; }
};

// Who lives, is born and dies where: what the search looks up all the time.
struct Index {
  std::vector<std::vector<int>> live, born, dying;  // dying[t]: the last section is t - 1
};

Problem make_problem(int count, const Bytes* lower, const Bytes* upper, const Bytes* size);
std::int64_t index_entries(const Problem& problem);
Index make_index(const Problem& problem);
Bytes peak_of(const Problem& problem, const std::vector<Bytes>& offsets);

}  // namespace loomax::planner
