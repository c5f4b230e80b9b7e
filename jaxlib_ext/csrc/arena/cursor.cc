#include "cursor.h"

#include <algorithm>

namespace arena {

Cursor::Cursor(const Plan& plan)
    : plan_(plan), served_(plan.requests.size(), 0), recent_(plan.requests.size(), 0) {
  std::vector<std::size_t> order(plan.requests.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return plan.requests[a].size < plan.requests[b].size;
  });
  for (const std::size_t i : order) {
    const std::uint64_t size = plan.requests[i].size;
    if (sizes_.empty() || sizes_.back().size != size) sizes_.push_back({size, {}});
    sizes_.back().positions.push_back(i);
  }
}

bool Cursor::follow(std::uint64_t size) {
  const std::size_t round = recent_.size();
  std::uint64_t& oldest = recent_[seen_ % round];
  sum_ += mark(size) - (seen_ >= round ? mark(oldest) : 0);
  oldest = size;
  ++seen_;
  if (active_) {
    // `match` sets this back. Two rounds without a match: the loop has gone, or its phase has.
    active_ = ++missed_ <= 2 * round;
    return active_;
  }
  if (seen_ >= round && sum_ == plan_.program) lock_on();
  return false;
}

// The rotation of the plan that the recent requests agree with best.
void Cursor::lock_on() {
  const std::size_t round = recent_.size(), last = std::min<std::size_t>(round, 64);
  std::size_t best = 0, most = 0;
  for (std::size_t shift = 0; shift < round; ++shift) {
    std::size_t agreed = 0;
    for (std::size_t back = 1; back <= last; ++back) {
      const std::uint64_t size = recent_[(seen_ - back) % round];
      agreed += size == plan_.requests[(shift + round - back) % round].size;
    }
    if (agreed > most) {
      most = agreed;
      best = shift;
    }
  }
  // Two rounds ahead, so that no position was served in the first one.
  now_ = (now_ / round + 2) * round + best;
  missed_ = 0;
  active_ = true;
  ++recognised_;
}

const Cursor::Size* Cursor::find(std::uint64_t size) const {
  const auto at = std::lower_bound(sizes_.begin(), sizes_.end(), size,
                                   [](const Size& a, std::uint64_t b) { return a.size < b; });
  return at == sizes_.end() || at->size != size ? nullptr : &*at;
}

// The count, over all rounds, at which a position is nearest to now.
std::uint64_t Cursor::target(std::size_t position) const {
  const std::size_t round = recent_.size();
  const std::size_t ahead = (position + round - now_ % round) % round;
  return 2 * ahead <= round ? now_ + ahead : now_ + ahead - round;
}

void Cursor::pass(std::size_t position) {
  served_[position] = target(position);
  now_ = std::max(now_, served_[position] + 1);
}

}  // namespace arena
