#include "planner_search.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "planner_greedy.h"
#include "planner_random.h"

namespace loomax::planner {
namespace {

constexpr std::size_t kRemembered = 1'000'000;
constexpr int kDepth = 8'000;
// Nodes of larger problems take longer than to look at the clock.
constexpr int kQuickCount = 600;

}  // namespace

Search::Search(const Problem& problem, const Index& index, Bytes capacity, Strategy strategy,
               std::uint64_t seed)
    : problem_(problem), state_(problem, index, capacity), strategy_(strategy), seed_(seed) {}

// The rank in the preferred order; from the second run on, each moves by up to a sixth of all.
void Search::rank_buffers() {
  const int count = problem_.count;
  const Prefer prefer = strategy_.prefer;
  auto order = sorted_by(problem_, {prefer == Prefer::kLarge  ? Order::kSize
                                    : prefer == Prefer::kArea ? Order::kArea
                                                              : Order::kLength});
  if (prefer == Prefer::kShort) std::reverse(order.begin(), order.end());
  Random random(seed_ + 1'000'003ull * runs_);
  std::vector<int> key(count);
  for (int at = 0; at < count; ++at) {
    key[order[at]] = 6 * at + (runs_ > 0 ? random.below(count) : 0);
  }
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return key[a] < key[b]; });
  rank_.resize(count);
  for (int at = 0; at < count; ++at) rank_[order[at]] = at;
}

Outcome Search::run(const Limits& limits) {
  if (clock_seconds() > limits.time) return Outcome::kStopped;
  limits_ = limits;
  last_node_ = nodes_ + limits.nodes;
  stopped_ = false;
  rank_buffers();
  ++runs_;
  const std::size_t mark = state_.mark();
  const bool found = state_.start() && parts(0, problem_.sections, 0);
  if (found) return Outcome::kFound;
  state_.undo(mark);
  return stopped_ ? Outcome::kStopped : Outcome::kImpossible;
}

bool Search::out_of_budget(int depth) {
  ++nodes_;
  if (nodes_ > last_node_ || depth > kDepth) stopped_ = true;
  if (problem_.count > kQuickCount || nodes_ % 64 == 0) {
    const bool beaten = limits_.best->load(std::memory_order_relaxed) < limits_.own;
    if (beaten || clock_seconds() > limits_.time) stopped_ = true;
  }
  return stopped_;
}

// Splits [low, high) where nothing that waits crosses, and solves the smallest part first.
bool Search::parts(int low, int high, int depth) {
  std::vector<std::pair<int, int>> found;  // waiting buffers, first section
  std::vector<int> ends;
  int begin = low, waiting = 0;
  for (int t = low; t < high; ++t) {
    for (int buffer : state_.index.born[t]) waiting += !state_.placed[buffer];
    if (t + 1 < high && state_.crossing[t + 1] > 0) continue;
    if (waiting > 0) {
      found.emplace_back(waiting, static_cast<int>(ends.size()));
      ends.push_back(begin);
      ends.push_back(t + 1);
    }
    begin = t + 1;
    waiting = 0;
  }
  std::sort(found.begin(), found.end());
  for (const auto& part : found) {
    if (!solve(ends[part.second], ends[part.second + 1], depth)) return false;
  }
  return true;
}

Bytes Search::answer_count(int section) const {
  return state_.options[section] + (state_.slack(section) > 0 ? 1 : 0);
}

bool Search::better(int section, int than) const {
  const Bytes own = answer_count(section) * state_.weight[than];
  const Bytes other = answer_count(than) * state_.weight[section];
  if (own != other) return own < other;
  if (strategy_.tie == Tie::kSlack) return state_.slack(section) < state_.slack(than);
  return state_.floor[section] < state_.floor[than];
}

// The section of a niche to ask next.
int Search::choose(int low, int high) const {
  const auto& floor = state_.floor;
  int best = -1;
  for (int begin = low, end; begin < high; begin = end) {
    for (end = begin; end < high && floor[end] == floor[begin]; ++end) {}
    const bool left = begin == low || floor[begin - 1] > floor[begin];
    const bool right = end == high || floor[end] > floor[begin];
    if (!left || !right) continue;
    for (int s = begin; s < end; ++s) {
      if (state_.waiting_bytes[s] == 0) continue;
      if (answer_count(s) <= 1) return s;
      if (best < 0 || better(s, best)) best = s;
    }
  }
  return best;
}

// Waiting buffers that can lie on the floor of a section, one of each kind.
std::vector<int> Search::candidates(int section) const {
  std::vector<int> found;
  for (int buffer : state_.index.live[section]) {
    if (state_.placed[buffer] || state_.least[buffer] != state_.floor[section]) continue;
    auto same = [&](int other) {
      return problem_.first[other] == problem_.first[buffer] &&
             problem_.last[other] == problem_.last[buffer] &&
             problem_.size[other] == problem_.size[buffer];
    };
    if (std::any_of(found.begin(), found.end(), same)) continue;
    if (state_.supported(buffer)) found.push_back(buffer);
  }
  std::sort(found.begin(), found.end(), [&](int a, int b) { return rank_[a] < rank_[b]; });
  return found;
}

bool Search::follow(int low, int high, int depth) {
  return state_.propagate(low, high) && parts(low, high, depth + 1);
}

bool Search::answers(int section, int low, int high, int depth) {
  const std::size_t mark = state_.mark();
  for (int buffer : candidates(section)) {
    state_.place(buffer);
    if (follow(low, high, depth)) return true;
    state_.undo(mark);
    if (stopped_) return false;
  }
  const Bytes level = state_.next_level(section);
  if (level + state_.waiting_bytes[section] > state_.capacity) return false;
  state_.raise(section, level);
  if (follow(low, high, depth)) return true;
  state_.undo(mark);
  return false;
}

bool Search::solve(int low, int high, int depth) {
  if (out_of_budget(depth)) return false;
  const std::uint64_t hash = state_.hash(low, high);
  if (failed_.contains(hash)) return false;
  const int section = choose(low, high);
  if (section < 0) return false;
  if (answers(section, low, high, depth)) return true;
  if (!stopped_ && failed_.size() < kRemembered) failed_.insert(hash);
  return false;
}

}  // namespace loomax::planner
