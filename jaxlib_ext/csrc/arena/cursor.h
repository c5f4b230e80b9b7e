// Where in its loop a program is, found from the sizes that it asks for. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "plan.h"

namespace arena {

// Nothing is served from the plan before a whole round of requests has had the planned sizes: what
// a program allocates before its loop may live for ever, and would take a place away. Threads
// race, so that a request belongs to the nearest position with its size, not to the next one.
class Cursor {
 public:
  explicit Cursor(const Plan& plan);

  // Tells of a request; whether the loop is recognised, and was so before this request.
  bool follow(std::uint64_t size);

  // Calls `take(position)` for the positions with this size, the nearest first, until it returns
  // true; whether it did. `known`: there is such a position nearby at all.
  template <typename Take>
  bool match(std::uint64_t size, bool& known, Take take);

  std::uint64_t recognised() const { return recognised_; }

 private:
  struct Size {
    std::uint64_t size;
    std::vector<std::size_t> positions;
  };

  void lock_on();
  const Size* find(std::uint64_t size) const;
  std::uint64_t target(std::size_t position) const;
  void pass(std::size_t position);

  const Plan& plan_;
  std::vector<Size> sizes_;
  // Rounds are counted on, so that each position is served once in each round.
  std::vector<std::uint64_t> served_;
  std::vector<std::uint64_t> recent_;
  std::uint64_t sum_ = 0, seen_ = 0, now_ = 0, missed_ = 0, recognised_ = 0;
  bool active_ = false;
};

// Tries at most this many positions, so that a request takes bounded time.
constexpr int kTries = 16;

template <typename Take>
bool Cursor::match(std::uint64_t size, bool& known, Take take) {
  known = false;
  const Size* found = find(size);
  if (found == nullptr) return false;
  const std::size_t round = plan_.requests.size(), many = found->positions.size();
  const std::size_t reach = round / 4 > 4 ? round / 4 : 4;
  const auto begin = found->positions.begin(), end = found->positions.end();
  std::size_t above = static_cast<std::size_t>(std::lower_bound(begin, end, now_ % round) - begin);
  std::size_t below = above + many - 1, nearest = round;
  for (int tried = 0; tried < kTries && static_cast<std::size_t>(tried) < many; ++tried) {
    const std::size_t high = found->positions[above % many], low = found->positions[below % many];
    const std::size_t ahead = (high + round - now_ % round) % round;
    const std::size_t behind = (now_ % round + round - low) % round;
    const bool forward = ahead <= behind;
    const std::size_t position = forward ? high : low;
    if ((forward ? ahead : behind) > reach) break;
    forward ? ++above : below += many - 1;
    if (served_[position] == target(position)) continue;
    known = true;
    if (nearest == round) nearest = position;
    if (!take(position)) continue;
    pass(position);
    missed_ = 0;
    return true;
  }
  if (known) pass(nearest);
  return false;
}

}  // namespace arena
