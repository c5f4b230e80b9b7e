#include "planner_greedy.h"

#include <algorithm>
#include <array>
#include <numeric>

namespace loomax::planner {
namespace {

// Blocks that are looked at between two looks at the clock.
constexpr std::int64_t kClockEvery = 1 << 21;

struct Block {
  Bytes offset, end;
  int first, last;
};

// Blocks that are placed, by offset: all, and those that live in each stretch of time, since most
// buffers live in one stretch and meet few others.
class Placed {
 public:
  explicit Placed(const Problem& problem)
      : length_(problem.sections / kStretches + 1), stretches_(kStretches) {}

  const std::vector<Block>& near(int first, int last) const {
    const int at = first / length_;
    return at == (last - 1) / length_ ? stretches_[at] : all_;
  }

  void add(const Block& block) {
    insert(all_, block);
    const int last = (block.last - 1) / length_;
    for (int at = block.first / length_; at <= last; ++at) insert(stretches_[at], block);
  }

 private:
  static constexpr int kStretches = 64;

  static void insert(std::vector<Block>& blocks, const Block& block) {
    auto lower = [](const Block& a, const Block& b) { return a.offset < b.offset; };
    blocks.insert(std::upper_bound(blocks.begin(), blocks.end(), block, lower), block);
  }

  int length_;
  std::vector<Block> all_;
  std::vector<std::vector<Block>> stretches_;
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

std::vector<int> sorted_by(const Problem& problem, Rule rule) {
  std::vector<std::array<double, 3>> key(problem.count);
  std::vector<Bytes> loads;
  if (rule.order == Order::kPressure || rule.order == Order::kStack) loads = pressure(problem);
  for (int i = 0; i < problem.count; ++i) {
    const double size = static_cast<double>(problem.size[i]), width = problem.width(i);
    const double last = problem.last[i], first = problem.first[i];
    const double load = loads.empty() ? 0.0 : static_cast<double>(loads[i]);
    switch (rule.order) {
      case Order::kSize: key[i] = {-size, -width}; break;
      case Order::kArea: key[i] = {-size * width, -size}; break;
      case Order::kLength: key[i] = {-width, -size}; break;
      case Order::kBirth: key[i] = {first, -size}; break;
      case Order::kPressure: key[i] = {-load, -size}; break;
      case Order::kStack: {
        const bool is_long = std::int64_t{problem.width(i)} * rule.parts >= problem.sections;
        key[i] = {is_long ? 0.0 : 1.0, is_long ? -last : -load, -size};
      }
    }
  }
  std::vector<int> indices(problem.count);
  std::iota(indices.begin(), indices.end(), 0);
  std::stable_sort(indices.begin(), indices.end(), [&](int a, int b) { return key[a] < key[b]; });
  return indices;
}

std::vector<Bytes> place_in_order(const Problem& problem, const std::vector<int>& order, Fit fit,
                                  double end) {
  std::vector<Bytes> offsets(problem.count, 0);
  Placed placed(problem);
  std::int64_t work = 0;
  for (int buffer : order) {
    const int first = problem.first[buffer], last = problem.last[buffer];
    const auto& near = placed.near(first, last);
    work += 64 + static_cast<std::int64_t>(near.size());
    if (work > kClockEvery) {
      if (clock_seconds() > end) return {};
      work = 0;
    }
    const Bytes offset = find_gap(near, problem, buffer, fit);
    placed.add({offset, offset + problem.size[buffer], first, last});
    offsets[buffer] = offset;
  }
  return offsets;
}

Greedy greedy_portfolio(const Problem& problem, Bytes goal, double end, Greedy best) {
  for (Rule rule : kRules) {
    const auto indices = sorted_by(problem, rule);
    for (Fit fit : {Fit::kFirst, Fit::kBest}) {
      const bool first = best.offsets.empty();
      auto offsets = place_in_order(problem, indices, fit, first ? kEndless : end);
      if (offsets.empty()) return best;
      const Bytes peak = peak_of(problem, offsets);
      if (peak < best.peak) best = {indices, fit, std::move(offsets), peak};
      if (best.peak <= goal || clock_seconds() > end) return best;
    }
  }
  return best;
}

}  // namespace loomax::planner
