// Plans in near-linear time, for traces of so many buffers that looking at every pair takes long.
#pragma once

#include "planner_greedy.h"

namespace loomax::planner {

// From so many buffers on these rules come first.
constexpr int kQuickFrom = 32'768;

// As an allocator would, in the order of births: the smallest gap that is large enough, the lowest
// of equal ones. Buffers born together come largest first. O(N log N).
std::vector<Bytes> sweep(const Problem& problem, std::int64_t& work);

// In any order, each on top of the highest buffer that lives with it: a skyline over time, as a
// segment tree. O(N log N). Empty when the clock shows `end` before all are placed.
std::vector<Bytes> stack_up(const Problem& problem, const std::vector<int>& order, double end,
                            std::int64_t& work);

// The best of both, the second for every stack order; the sweep is always finished.
Greedy quick_portfolio(const Problem& problem, Bytes goal, double end, std::int64_t& work);

}  // namespace loomax::planner
