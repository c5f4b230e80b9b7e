// The planner as a plain C function: what ctypes calls.

#include "planner_rounds.h"

using loomax::planner::Bytes;

// settings: capacity, seed, threads, moves, rounds. result: peak, lower bound, method, nodes, work.
// Returns 0, or 1 when memory ran out; no exception crosses this line.
extern "C" int loomax_planner_pack(std::int64_t count, const Bytes* lower, const Bytes* upper,
                                   const Bytes* size, const std::int64_t* settings,
                                   double seconds, double gap, Bytes* offsets,
                                   std::int64_t* result) try {
  using namespace loomax::planner;
  const Problem problem = make_problem(static_cast<int>(count), lower, upper, size);
  const Options options{settings[0],
                        static_cast<std::uint64_t>(settings[1]),
                        static_cast<int>(settings[2]),
                        static_cast<int>(settings[3]),
                        static_cast<int>(settings[4]),
                        seconds,
                        gap};
  const Plan plan = make_plan(problem, options);
  for (int i = 0; i < problem.count; ++i) offsets[i] = plan.offsets[i];
  result[0] = plan.peak;
  result[1] = plan.lower_bound;
  result[2] = static_cast<int>(plan.method);
  result[3] = plan.nodes;
  result[4] = plan.work;
  return 0;
} catch (...) {
  return 1;
}
