#include "planner_local.h"

#include <algorithm>
#include <vector>

#include "planner_random.h"

namespace loomax::planner {
namespace {

// Positions in the order of the buffers that reach the peak and of those that live with them.
std::vector<int> positions_at_peak(const Problem& problem, const Greedy& plan) {
  std::vector<int> tops, positions;
  for (int i = 0; i < problem.count; ++i) {
    if (plan.offsets[i] + problem.size[i] == plan.peak) tops.push_back(i);
  }
  for (int at = 1; at < problem.count; ++at) {
    const int buffer = plan.order[at];
    auto meets = [&](int top) { return problem.meet(top, buffer); };
    if (std::any_of(tops.begin(), tops.end(), meets)) positions.push_back(at);
  }
  return positions;
}

}  // namespace

void improve_order(const Problem& problem, Greedy& plan, Bytes goal, int moves,
                   std::uint64_t seed, double end) {
  if (moves <= 0 || plan.order.empty()) return;
  Random random(seed);
  auto positions = positions_at_peak(problem, plan);
  for (int move = 0; move < moves && plan.peak > goal && !positions.empty(); ++move) {
    Greedy next = plan;
    const int from = positions[random.below(static_cast<int>(positions.size()))];
    const int to = random.below(from);
    std::rotate(next.order.begin() + to, next.order.begin() + from,
                next.order.begin() + from + 1);
    next.offsets = place_in_order(problem, next.order, plan.fit, end);
    if (next.offsets.empty() || clock_seconds() > end) return;
    next.peak = peak_of(problem, next.offsets);
    if (next.peak > plan.peak) continue;
    plan = std::move(next);
    positions = positions_at_peak(problem, plan);
  }
}

}  // namespace loomax::planner
