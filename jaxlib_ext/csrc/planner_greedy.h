// Placing buffers one after the other, in some order, into the gaps that are left.
#pragma once

#include <vector>

#include "planner_clock.h"
#include "planner_problem.h"

namespace loomax::planner {

// kFirst takes the lowest gap that is large enough, kBest the smallest such gap.
enum class Fit { kFirst, kBest };

// kStack: what lives for at least a share of the time first, the last death first, as what a
// forward pass keeps for its backward pass forms a stack; then the others, the fullest times first.
enum class Order { kSize, kArea, kLength, kBirth, kPressure, kStack };

struct Rule {
  Order order;
  int parts = 0;  // kStack: the share is one of so many parts
};

constexpr Rule kRules[] = {{Order::kStack, 16}, {Order::kStack, 64}, {Order::kStack, 4},
                           {Order::kSize},      {Order::kArea},      {Order::kLength},
                           {Order::kPressure},  {Order::kBirth}};

struct Greedy {
  std::vector<int> order;
  Fit fit = Fit::kFirst;
  std::vector<Bytes> offsets;
  Bytes peak = kNever;
};

std::vector<int> sorted_by(const Problem& problem, Rule rule);
// Empty when the clock shows `end` before all are placed.
std::vector<Bytes> place_in_order(const Problem& problem, const std::vector<int>& order, Fit fit,
                                  double end);

// Best of all rules, both fits and `best`; stops as soon as the peak is at most `goal`, or the
// clock, once there is a plan, shows `end`.
Greedy greedy_portfolio(const Problem& problem, Bytes goal, double end, Greedy best = {});

}  // namespace loomax::planner
