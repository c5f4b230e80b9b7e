// The whole planner: greedy portfolio, local search, then rounds of exact searches side by side.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "planner_greedy.h"
#include "planner_search.h"

namespace loomax::planner {

struct Options {
  Bytes capacity;  // stop at a peak of at most this; below 0: look for the least peak
  std::uint64_t seed;
  int threads;
  int moves;   // of local search
  int rounds;  // of exact search; below 0: no limit
  double seconds;
  double gap;  // without capacity, a peak of (1 + gap) lower bounds is good enough

  // A peak that ends the work.
  Bytes goal(Bytes bound) const {
    if (capacity >= 0) return std::max(capacity, bound);
    return std::max(static_cast<Bytes>(static_cast<double>(bound) * (1.0 + gap)), bound);
  }
};

enum class Method : int { kGreedy, kLocal, kSearch };

struct Plan {
  std::vector<Bytes> offsets;
  Bytes peak = 0;
  Bytes lower_bound = 0;  // proved
  Method method = Method::kGreedy;
  std::int64_t nodes = 0;
  std::int64_t work = 0;  // steps of the near-linear rules
};

// The same plan for the same options whenever it ends before `seconds` are over, whatever the
// number of threads: a strategy wins over all after it, and those before it finish their round.
Plan make_plan(const Problem& problem, const Options& options);

}  // namespace loomax::planner
