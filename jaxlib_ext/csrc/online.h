// The plan at run time; its twin is loomax/memory/allocator/planned.py, which explains it.
#pragma once

#include <cstdint>
#include <vector>

#include "online_gaps.h"
#include "online_needs.h"

namespace loomax::online {

// No place, no prediction, no turn.
constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::min();

struct Planned {
  std::int64_t birth, death;
  Bytes offset, padded, alignment;
  std::int64_t turn = kNone;  // iteration of the last birth
};

struct Settings {
  std::int64_t begin, end;  // of an iteration
  Bytes alignment;
  Bytes capacity;  // kNever: no limit
  bool learns;     // predictions are spans that are learned, and not deaths that are known
};

struct Counts {
  std::int64_t hits = 0, gaps = 0, fallback = 0, missed = 0, growth = 0;
};

class Online {
 public:
  Online(std::vector<Planned> planned, const Settings& settings);

  // Buffers are numbered: first the planned ones, then all others. The address, or kNone where the
  // request does not fit; `wanted` then says where it would end.
  Bytes malloc(std::int64_t id, Bytes size);
  void free(std::int64_t id);
  bool live(std::int64_t id) const { return id < known() && held_[id].low != kNone; }
  std::int64_t known() const { return static_cast<std::int64_t>(held_.size()); }
  // Span or death of what is not planned; kNone: not predicted.
  void predict(std::int64_t id, std::int64_t time);
  std::int64_t predicted(std::int64_t id) const {
    return id < known() ? held_[id].predicted : kNone;
  }

  Bytes reserved, allocated = 0, peak, wanted = 0;
  Counts counts;

 private:
  struct Held {
    Bytes low = kNone, high = 0;
    std::int64_t born = 0, predicted = kNone;
  };

  void grow_to(std::int64_t id);
  void born(Planned& record);
  std::int64_t started() const { return turn_ * period_ + now_; }
  // When a time of this iteration, or of the next where it is over, comes.
  std::int64_t coming(std::int64_t until) const;
  Bytes place(Planned& record, Bytes& size);
  Bytes improvise(Bytes& size, Bytes alignment, std::int64_t until);
  Bytes best_gap(Bytes size, Bytes alignment, std::int64_t until);

  std::vector<Planned> planned_;
  Settings settings_;
  std::int64_t period_, now_, turn_ = 0;
  bool last_birth_ = false;
  std::vector<Held> held_;
  Gaps gaps_;
  Needs needs_;
};

}  // namespace loomax::online
