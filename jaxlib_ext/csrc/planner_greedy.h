// Placing buffers one after the other, in some order, into the gaps that are left.
#pragma once

#include <vector>

#include "planner_problem.h"

namespace loomax::planner {

// kFirst takes the lowest gap that is large enough, kBest the smallest such gap.
enum class Fit { kFirst, kBest };

enum class Order { kSize, kArea, kLength, kBirth, kPressure };
constexpr Order kOrders[] = {Order::kSize, Order::kArea, Order::kLength, Order::kPressure,
                             Order::kBirth};

struct Greedy {
  std::vector<int> order;
  Fit fit = Fit::kFirst;
  std::vector<Bytes> offsets;
  Bytes peak = kNever;
};

std::vector<int> sorted_by(const Problem& problem, Order order);
std::vector<Bytes> place_in_order(const Problem& problem, const std::vector<int>& order, Fit fit);

// Best of all orders and both fits; stops as soon as the peak is at most `goal`.
Greedy greedy_portfolio(const Problem& problem, Bytes goal);

}  // namespace loomax::planner
