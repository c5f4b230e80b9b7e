#include "online.h"

#include <numeric>
#include <utility>

namespace loomax::online {
namespace {

Needs make_needs(const std::vector<Planned>& planned, std::int64_t period) {
  std::vector<Place> places;
  for (const Planned& record : planned) {
    if (record.padded == 0) continue;
    places.push_back({record.offset, record.offset + record.padded, record.birth});
  }
  return Needs(std::move(places), period);
}

}  // namespace

Online::Online(std::vector<Planned> planned, const Settings& settings)
    : reserved(0),
      peak(0),
      planned_(std::move(planned)),
      settings_(settings),
      period_(settings.end - settings.begin),
      now_(settings.begin),
      held_(planned_.size()),
      needs_(make_needs(planned_, period_)) {
  for (const Planned& record : planned_) peak = std::max(peak, record.offset + record.padded);
  reserved = peak;
}

void Online::grow_to(std::int64_t id) {
  if (id >= known()) held_.resize(id + 1);
}

void Online::predict(std::int64_t id, std::int64_t time) {
  grow_to(id);
  held_[id].predicted = time;
}

Bytes Online::malloc(std::int64_t id, Bytes size) {
  grow_to(id);
  Bytes low;
  if (id < static_cast<std::int64_t>(planned_.size())) {
    low = place(planned_[id], size);
  } else {
    std::int64_t until = held_[id].predicted;
    if (until != kNone && settings_.learns) until += now_;
    low = improvise(size, settings_.alignment, until == kNone ? kNever : coming(until));
  }
  if (low == kNone) return kNone;
  gaps_.take(low, low + size);
  allocated += size;
  Held& held = held_[id];
  held.low = low;
  held.high = low + size;
  held.born = started();
  return low;
}

void Online::free(std::int64_t id) {
  Held& held = held_[id];
  gaps_.give(held.low, held.high);
  allocated -= held.high - held.low;
  held.low = kNone;
  if (id < static_cast<std::int64_t>(planned_.size())) {
    const Planned& record = planned_[id];
    if (record.turn == turn_ && record.death > now_) {
      now_ = record.death;
      last_birth_ = false;
    }
  } else if (settings_.learns) {
    held.predicted = std::max(held.predicted, started() + last_birth_ - held.born);
  }
}

void Online::born(Planned& record) {
  if (record.turn == turn_ || 2 * (now_ - record.birth) > period_) {
    ++turn_;
    now_ = record.birth;
    last_birth_ = true;
  } else if (record.birth >= now_) {
    now_ = record.birth;
    last_birth_ = true;
  }
  record.turn = turn_;
}

std::int64_t Online::coming(std::int64_t until) const {
  return turn_ * period_ + until + (until < now_ ? period_ : 0);
}

// A planned buffer: its own place, if that is possible. Sets `size` to what is taken.
Bytes Online::place(Planned& record, Bytes& size) {
  born(record);
  const Bytes low = record.offset, high = low + record.padded;
  const bool empty = record.padded == 0 && size == 0;
  if (empty || (size <= record.padded && gaps_.clear(low, high))) {
    ++counts.hits;
    size = record.padded;
    return low;
  }
  const Bytes alignment = std::lcm(settings_.alignment, record.alignment);
  const Bytes found = improvise(size, alignment, coming(record.death));
  if (found == kNone) {
    record.turn = kNone;
  } else {
    ++counts.missed;
  }
  return found;
}

// The smallest gap until then, or else the end of all that is in the way.
Bytes Online::improvise(Bytes& size, Bytes alignment, std::int64_t until) {
  size = round_up(size, alignment);
  if (size == 0) return 0;
  needs_.advance(started());
  Bytes low = best_gap(size, alignment, until);
  // Rather in the way of the plan than not at all.
  if (low + size > settings_.capacity) low = best_gap(size, alignment, kNone);
  if (low + size > settings_.capacity) {
    wanted = low + size;
    return kNone;
  }
  reserved = std::max(reserved, low + size);
  counts.growth = reserved - peak;
  ++(low + size <= peak ? counts.gaps : counts.fallback);
  return low;
}

// The smallest gap that is not needed before `until`, the lowest of several; where none is large
// enough, the first place behind all. Where nothing is planned, what lies behind all is no gap.
Bytes Online::best_gap(Bytes size, Bytes alignment, std::int64_t until) {
  Bytes best = kNone, least = kNever, behind = 0;
  for (std::size_t at = 0; at < gaps_.count() && least > size; ++at) {
    if (gaps_.high(at) - gaps_.low(at) < size) continue;
    needs_.parts(gaps_.low(at), gaps_.high(at), until, [&](Bytes low, Bytes high) {
      if (high == kNever) {
        behind = round_up(low, alignment);
        if (planned_.empty()) return false;
      }
      const Bytes start = round_up(low, alignment), room = std::min(high, reserved) - start;
      if (size <= room && room < least) {
        best = start;
        least = room;
      }
      return least == size;
    });
  }
  return best == kNone ? behind : best;
}

}  // namespace loomax::online
