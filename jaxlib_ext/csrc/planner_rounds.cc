#include "planner_rounds.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <numeric>
#include <thread>
#include <utility>

#include "planner_local.h"
#include "planner_quick.h"

namespace loomax::planner {
namespace {

constexpr Strategy kStrategies[] = {
    {Prefer::kLong, Tie::kSlack},  {Prefer::kLarge, Tie::kFloor}, {Prefer::kShort, Tie::kSlack},
    {Prefer::kArea, Tie::kFloor},  {Prefer::kLarge, Tie::kSlack}, {Prefer::kLong, Tie::kFloor},
    {Prefer::kShort, Tie::kFloor}, {Prefer::kArea, Tie::kSlack},
};
constexpr int kCount = static_cast<int>(std::size(kStrategies));
constexpr std::int64_t kLeastNodes = 1'000;
constexpr std::int64_t kNodesPerBuffer = 8;
// Buffers times pairs of (buffer, section): one descent takes a node for each buffer, and a node
// looks at most of the pairs. Above, not even the first would end.
constexpr double kMostWork = 1e9;
// Rounds without a better plan or bound, beside four times those before, after which it gives up.
constexpr int kPatience = 32;
constexpr std::int64_t kMoveWork = 30'000'000;
constexpr int kBisections = 6;

// 1, 1, 2, 1, 1, 2, 4, 1, ...: lengths of restarts that suit any search whose time is heavy-tailed
// (Luby, Sinclair, Zuckerman, Inf. Process. Lett. 1993). Counted from 1.
std::int64_t luby(std::int64_t turn) {
  std::int64_t power = 1;
  while (2 * power - 1 < turn) power *= 2;
  return 2 * power - 1 == turn ? power : luby(turn - power + 1);
}

// One search for each strategy, all for one capacity.
class Team {
 public:
  Team(const Problem& problem, const Index& index, Bytes capacity, const Options& options)
      : capacity_(capacity), threads_(options.threads) {
    for (int i = 0; i < kCount; ++i) {
      const std::uint64_t seed = options.seed + 7'919ull * i;
      searches_.push_back(
          std::make_unique<Search>(problem, index, capacity, kStrategies[i], seed));
    }
  }

  Bytes capacity() const { return capacity_; }
  const std::vector<Bytes>& offsets() const { return searches_[winner_]->offsets(); }

  // Gives every strategy `nodes` more; the first in the list that knows the answer decides.
  Outcome round(std::int64_t nodes, double end) {
    std::atomic<int> next{0}, best{kCount};
    std::vector<Outcome> outcomes(kCount, Outcome::kStopped);
    std::vector<std::int64_t> used(kCount, 0);
    auto work = [&] {
      for (int i = next++; i < kCount && i < best; i = next++) {
        const std::int64_t before = searches_[i]->nodes();
        outcomes[i] = searches_[i]->run({nodes, end, &best, i});
        used[i] = searches_[i]->nodes() - before;
        int known = best;
        while (outcomes[i] != Outcome::kStopped && i < known &&
               !best.compare_exchange_weak(known, i)) {}
      }
    };
    std::vector<std::thread> helpers;
    for (int i = 1; i < std::min(threads_, kCount); ++i) helpers.emplace_back(work);
    work();
    for (auto& helper : helpers) helper.join();
    // Those after the one that decided do not count: how far they came depends on the threads.
    nodes_ = std::accumulate(used.begin(), used.begin() + std::min(best + 1, kCount),
                             std::int64_t{0});
    if (best == kCount) return Outcome::kStopped;
    winner_ = best;
    return outcomes[winner_];
  }

  // Nodes of the last round.
  std::int64_t nodes() const { return nodes_; }

 private:
  Bytes capacity_;
  int threads_;
  int winner_ = 0;
  std::int64_t nodes_ = 0;
  std::vector<std::unique_ptr<Search>> searches_;
};

class Rounds {
 public:
  Rounds(const Problem& problem, const Options& options, double end, Plan& plan)
      : problem_(problem), options_(options), end_(end), plan_(plan), index_(make_index(problem)) {
    unit_ = 0;
    for (Bytes size : problem.size) unit_ = std::gcd(unit_, size);
  }

  void run() {
    const auto unit = std::max(kLeastNodes, kNodesPerBuffer * problem_.count);
    for (int round = 0; round != options_.rounds && !done(); ++round) {
      if (options_.capacity < 0 && round > kPatience + 4 * improved_) return;
      round_ = round;
      const std::int64_t nodes = unit * luby(round + 1);
      attempt(nodes);
      if (options_.capacity < 0) bisect(nodes);
    }
  }

 private:
  bool done() const {
    const bool ruled_out = options_.capacity >= 0 && plan_.lower_bound > options_.capacity;
    return plan_.peak <= options_.goal(plan_.lower_bound) || ruled_out || clock_seconds() > end_;
  }

  // At the capacity, or at the least peak that has not been ruled out.
  void attempt(std::int64_t nodes) {
    const Bytes target = options_.capacity >= 0 ? options_.capacity : plan_.lower_bound;
    if (!team_ || team_->capacity() != target) {
      team_ = std::make_unique<Team>(problem_, index_, target, options_);
    }
    judge(*team_, nodes);
  }

  // Between what was not found and what was.
  void bisect(std::int64_t nodes) {
    Bytes below = plan_.lower_bound;
    for (int step = 0; step < kBisections && !done(); ++step) {
      const Bytes target = (below + (plan_.peak - below) / 2) / unit_ * unit_;
      if (target <= below || target >= plan_.peak) return;
      Team team(problem_, index_, target, options_);
      if (judge(team, nodes) != Outcome::kFound) below = target;
    }
  }

  Outcome judge(Team& team, std::int64_t nodes) {
    const Outcome outcome = team.round(nodes, end_);
    plan_.nodes += team.nodes();
    if (outcome == Outcome::kImpossible) {
      const Bytes above = team.capacity() / unit_ * unit_ + unit_;
      if (above > plan_.lower_bound) improved_ = round_;
      plan_.lower_bound = std::max(plan_.lower_bound, above);
    }
    if (outcome == Outcome::kFound) {
      plan_.offsets = team.offsets();
      plan_.peak = peak_of(problem_, plan_.offsets);
      plan_.method = Method::kSearch;
      improved_ = round_;
    }
    return outcome;
  }

  const Problem& problem_;
  const Options& options_;
  double end_;
  Plan& plan_;
  Index index_;
  Bytes unit_;
  int round_ = 0, improved_ = 0;
  std::unique_ptr<Team> team_;
};

}  // namespace

Plan make_plan(const Problem& problem, const Options& options) {
  const double end = clock_seconds() + options.seconds;
  const Bytes goal = options.goal(problem.bound);
  std::int64_t work = 0;
  Greedy greedy;
  if (problem.count >= kQuickFrom) greedy = quick_portfolio(problem, goal, end, work);
  if (greedy.peak > goal && (greedy.offsets.empty() || clock_seconds() <= end)) {
    greedy = greedy_portfolio(problem, goal, end, std::move(greedy));
  }
  Plan plan{greedy.offsets, greedy.peak, problem.bound, Method::kGreedy, 0, work};
  if (plan.peak <= goal) return plan;
  const std::int64_t pairs = std::int64_t{problem.count} * problem.count;
  const auto moves = static_cast<int>(std::min<std::int64_t>(options.moves, kMoveWork / pairs));
  improve_order(problem, greedy, goal, moves, options.seed, end);
  if (greedy.peak < plan.peak) {
    plan = {greedy.offsets, greedy.peak, problem.bound, Method::kLocal, 0, work};
  }
  const auto entries = static_cast<double>(index_entries(problem));
  if (plan.peak > goal && entries * problem.count <= kMostWork) {
    Rounds(problem, options, end, plan).run();
  }
  return plan;
}

}  // namespace loomax::planner
