// Exact search for a plan within a capacity: depth first over "what lies on this floor?".
//
// A niche is a run of sections on one floor between higher ones. On any of its sections, what
// comes next is a buffer whose least offset is that floor, or nothing (the floor rises to the
// next possible level). The section with the fewest answers is asked first, weighted by how often
// it failed (Boussemart et al., ECAI 2004). Where no waiting buffer crosses a boundary of time, the
// two sides are searched apart; states that failed are remembered, over restarts too.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "planner_clock.h"
#include "planner_memory.h"
#include "planner_state.h"

namespace loomax::planner {

// In which order buffers are tried, and what decides between sections of equal promise.
enum class Prefer { kLarge, kLong, kArea, kShort };
enum class Tie { kFloor, kSlack };

struct Strategy {
  Prefer prefer;
  Tie tie;
};

enum class Outcome { kFound, kImpossible, kStopped };

// When a search has to stop; `time` is in seconds of a steady clock.
struct Limits {
  std::int64_t nodes;
  double time;
  const std::atomic<int>* best;  // index of the best strategy that succeeded
  int own;
};

class Search {
 public:
  Search(const Problem& problem, const Index& index, Bytes capacity, Strategy strategy,
         std::uint64_t seed);

  // Searches for at most limits.nodes more nodes. Every call after the first shuffles the order.
  Outcome run(const Limits& limits);
  const std::vector<Bytes>& offsets() const { return state_.offset; }
  std::int64_t nodes() const { return nodes_; }

 private:
  void rank_buffers();
  bool solve(int low, int high, int depth);
  bool answers(int section, int low, int high, int depth);
  bool parts(int low, int high, int depth);
  bool follow(int low, int high, int depth);
  int choose(int low, int high) const;
  Bytes answer_count(int section) const;
  bool better(int section, int than) const;
  std::vector<int> candidates(int section) const;
  bool out_of_budget(int depth);

  const Problem& problem_;
  State state_;
  Strategy strategy_;
  std::uint64_t seed_;
  Limits limits_{};
  std::vector<int> rank_;
  HashSet failed_;
  std::int64_t nodes_ = 0, last_node_ = 0;
  int runs_ = 0;
  bool stopped_ = false;
};

}  // namespace loomax::planner
