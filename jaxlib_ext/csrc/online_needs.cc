#include "online_needs.h"

namespace loomax::online {

Needs::Needs(std::vector<Place> places, std::int64_t period)
    : period_(period), places_(std::move(places)) {
  std::stable_sort(places_.begin(), places_.end(),
                   [](const Place& a, const Place& b) { return a.birth < b.birth; });
  for (const Place& place : places_) {
    ends_.push_back(place.low);
    ends_.push_back(place.high);
  }
  std::sort(ends_.begin(), ends_.end());
  ends_.erase(std::unique(ends_.begin(), ends_.end()), ends_.end());
  segments_ = std::max(0, static_cast<int>(ends_.size()) - 1);
  needs_.assign(segments_, kNever);
  blocks_.resize(segments_ / kBlock + 1);
  for (const Place& place : places_) {
    first_.push_back(segment_of(place.low));
    last_.push_back(segment_of(place.high));
  }
  turn_ = 1;
  rebuild();
  turn_ = 0;
  next_.resize(places_.size());
  for (std::size_t i = places_.size(); i-- > 0;) {
    next_[i] = followers(places_[i]);
    assign(first_[i], last_[i], places_[i].birth);
  }
}

// The segment that begins at an address or holds it.
int Needs::segment_of(Bytes address) const {
  const auto behind = std::upper_bound(ends_.begin(), ends_.end(), address);
  return static_cast<int>(behind - ends_.begin()) - 1;
}

// Who needs the segments of a place after it, from the needs of later births.
std::vector<Needs::Next> Needs::followers(const Place& place) const {
  std::vector<Next> found;
  const int last = segment_of(place.high);
  for (int s = segment_of(place.low); s < last; ++s) {
    const std::int64_t after = at(s) - place.birth;
    if (found.empty() || found.back().after != after) found.push_back({s, s, after});
    found.back().last = s + 1;
  }
  found.shrink_to_fit();
  return found;
}

void Needs::assign(int first, int last, std::int64_t time) {
  while (first < last) {
    const int stop = std::min(last, (first / kBlock + 1) * kBlock);
    if (first % kBlock == 0 && stop == first + kBlock) {
      blocks_[first / kBlock] = {time, time, true};
    } else {
      assign_part(first, stop, time);
    }
    first = stop;
  }
}

// Within one block.
void Needs::assign_part(int first, int last, std::int64_t time) {
  Block& block = blocks_[first / kBlock];
  const int begin = first / kBlock * kBlock, end = std::min(segments_, begin + kBlock);
  if (block.even) std::fill(needs_.begin() + begin, needs_.begin() + end, block.least);
  block.even = false;
  std::fill(needs_.begin() + first, needs_.begin() + last, time);
  std::int64_t least = kNever, most = 0;
  for (int s = begin; s < end; ++s) {
    least = std::min(least, needs_[s]);
    most = std::max(most, needs_[s]);
  }
  block.least = least;
  block.most = most;
}

void Needs::advance(std::int64_t now) {
  const std::size_t count = places_.size();
  if (count == 0) return;
  auto birth = [&] { return turn_ * period_ + places_[over_].birth; };
  if (now - birth() > period_) {
    // More than an iteration was skipped.
    while (now - birth() > period_) ++turn_;
    rebuild();
  }
  while (birth() < now) {
    const std::int64_t time = birth();
    for (const Next& next : next_[over_]) assign(next.first, next.last, time + next.after);
    if (++over_ == count) {
      over_ = 0;
      ++turn_;
    }
  }
}

// From the births that follow, the last first.
void Needs::rebuild() {
  for (std::size_t n = places_.size(); n-- > 0;) {
    const std::size_t i = (over_ + n) % places_.size();
    const std::int64_t turn = turn_ + (over_ + n >= places_.size() ? 1 : 0);
    assign(first_[i], last_[i], turn * period_ + places_[i].birth);
  }
}

}  // namespace loomax::online
