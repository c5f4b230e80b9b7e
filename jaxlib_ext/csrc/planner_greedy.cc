#include "planner_greedy.h"

#include <algorithm>
#include <numeric>

namespace loomax::planner {
namespace {

struct Block {
  Bytes offset, end;
  int first, last;
};

Bytes find_gap(const std::vector<Block>& placed, const Problem& problem, int buffer, Fit fit) {
  const int first = problem.first[buffer], last = problem.last[buffer];
  const Bytes size = problem.size[buffer];
  Bytes level = 0, best = -1, best_gap = kNever;
  for (const Block& block : placed) {
    if (block.first >= last || first >= block.last) continue;
    const Bytes gap = block.offset - level;
    if (gap >= size && gap < best_gap) {
      if (fit == Fit::kFirst) return level;
      best = level;
      best_gap = gap;
    }
    level = std::max(level, block.end);
  }
  return best >= 0 ? best : level;
}

// Most bytes that live at once with a buffer.
std::vector<Bytes> pressure(const Problem& problem) {
  std::vector<Bytes> load(problem.sections + 1, 0), most(problem.count, 0);
  for (int i = 0; i < problem.count; ++i) {
    load[problem.first[i]] += problem.size[i];
    load[problem.last[i]] -= problem.size[i];
  }
  for (int s = 1; s <= problem.sections; ++s) load[s] += load[s - 1];
  for (int i = 0; i < problem.count; ++i) {
    most[i] = *std::max_element(load.begin() + problem.first[i], load.begin() + problem.last[i]);
  }
  return most;
}

}  // namespace

std::vector<int> sorted_by(const Problem& problem, Order order) {
  std::vector<double> key(problem.count), tie(problem.count);
  std::vector<Bytes> loads;
  if (order == Order::kPressure) loads = pressure(problem);
  for (int i = 0; i < problem.count; ++i) {
    const double size = static_cast<double>(problem.size[i]), width = problem.width(i);
    tie[i] = -size;
    switch (order) {
      case Order::kSize: key[i] = -size; tie[i] = -width; break;
      case Order::kArea: key[i] = -size * width; break;
      case Order::kLength: key[i] = -width; break;
      case Order::kBirth: key[i] = problem.first[i]; break;
      case Order::kPressure: key[i] = -static_cast<double>(loads[i]); break;
    }
  }
  std::vector<int> indices(problem.count);
  std::iota(indices.begin(), indices.end(), 0);
  std::stable_sort(indices.begin(), indices.end(), [&](int a, int b) {
    return key[a] != key[b] ? key[a] < key[b] : tie[a] < tie[b];
  });
  return indices;
}

std::vector<Bytes> place_in_order(const Problem& problem, const std::vector<int>& order, Fit fit) {
  std::vector<Bytes> offsets(problem.count, 0);
  std::vector<Block> placed;  // by offset
  placed.reserve(order.size());
  for (int buffer : order) {
    const Bytes offset = find_gap(placed, problem, buffer, fit);
    const Block block{offset, offset + problem.size[buffer], problem.first[buffer],
                      problem.last[buffer]};
    auto lower = [](const Block& a, const Block& b) { return a.offset < b.offset; };
    placed.insert(std::upper_bound(placed.begin(), placed.end(), block, lower), block);
    offsets[buffer] = offset;
  }
  return offsets;
}

Greedy greedy_portfolio(const Problem& problem, Bytes goal) {
  Greedy best;
  for (Order order : kOrders) {
    const auto indices = sorted_by(problem, order);
    for (Fit fit : {Fit::kFirst, Fit::kBest}) {
      auto offsets = place_in_order(problem, indices, fit);
      const Bytes peak = peak_of(problem, offsets);
      if (peak < best.peak) best = {indices, fit, std::move(offsets), peak};
      if (best.peak <= goal) return best;
    }
  }
  return best;
}

}  // namespace loomax::planner
