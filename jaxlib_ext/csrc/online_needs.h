// When each address is needed next by the plan: the calendar of planned places.
//
// Between the ends of planned places lie segments of addresses. The next need of a segment is the
// next birth, now or later, of a place that covers it; time runs through iterations of one period.
// When a birth is over, its place is needed next by places that are known beforehand (their
// number is small: places seen from one another in time form a planar graph). Births that are over
// are worked off when somebody asks. Segments come in blocks that know their least and most.
#pragma once

#include <cstdint>
#include <vector>

#include "online_gaps.h"

namespace loomax::online {

struct Place {
  Bytes low, high;
  std::int64_t birth;
};

class Needs {
 public:
  Needs(std::vector<Place> places, std::int64_t period);

  // Calls found(low, high) for the parts of [low, high), from below, that the plan does not need
  // in the time [now, until), counted through all iterations; stops when it returns true.
  template <typename Found>
  void parts(Bytes low, Bytes high, std::int64_t until, Found found) const;

  // Time goes on.
  void advance(std::int64_t now);

 private:
  static constexpr int kBlock = 32;

  struct Block {
    std::int64_t least = kNever, most = kNever;
    bool even = true;  // all segments have the same time, which only the block knows
  };
  struct Next {
    int first, last;     // segments
    std::int64_t after;  // time from birth to birth
  };

  std::int64_t at(int segment) const {
    const Block& block = blocks_[segment / kBlock];
    return block.even ? block.least : needs_[segment];
  }
  int segment_of(Bytes address) const;
  std::vector<Next> followers(const Place& place) const;
  void assign(int first, int last, std::int64_t time);
  void assign_part(int first, int last, std::int64_t time);
  void rebuild();

  std::int64_t period_;
  std::vector<Place> places_;  // by birth
  std::vector<int> first_, last_;
  std::vector<std::vector<Next>> next_;
  std::vector<Bytes> ends_;  // segment i is [ends_[i], ends_[i + 1])
  int segments_ = 0;
  std::vector<std::int64_t> needs_;
  std::vector<Block> blocks_;
  std::size_t over_ = 0;   // places of this turn whose birth is over
  std::int64_t turn_ = 0;
};

template <typename Found>
void Needs::parts(Bytes low, Bytes high, std::int64_t until, Found found) const {
  Bytes start = low;
  bool open = true;
  // A stretch that begins at `begin` is needed, or not.
  auto stretch = [&](Bytes begin, bool needed) {
    if (needed && open) {
      open = false;
      return start < begin && found(start, begin);
    }
    if (!needed && !open) {
      start = begin;
      open = true;
    }
    return false;
  };
  if (segments_ > 0 && low < ends_.back() && high > ends_.front()) {
    int s = low <= ends_.front() ? 0 : segment_of(low);
    while (s < segments_ && ends_[s] < high) {
      const Block& block = blocks_[s / kBlock];
      const int stop = std::min(segments_, (s / kBlock + 1) * kBlock);
      const Bytes begin = std::max(low, ends_[s]);
      if (block.most < until || block.least >= until) {
        if (stretch(begin, block.most < until)) return;
        s = stop;
        continue;
      }
      if (stretch(begin, needs_[s] < until)) return;
      for (++s; s < stop && ends_[s] < high; ++s) {
        if (stretch(ends_[s], needs_[s] < until)) return;
      }
    }
    if (s == segments_ && stretch(std::max(low, ends_.back()), false)) return;
  }
  if (open && start < high) found(start, high);
}

}  // namespace loomax::online
