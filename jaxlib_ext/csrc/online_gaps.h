// Free ranges of addresses, in order; the last one has no end.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

namespace loomax::online {

using Bytes = std::int64_t;

constexpr Bytes kNever = std::numeric_limits<Bytes>::max() / 4;

inline Bytes round_up(Bytes size, Bytes unit) { return (size + unit - 1) / unit * unit; }

// Plain sorted arrays: packed memory has few gaps, whatever the number of buffers.
class Gaps {
 public:
  std::size_t count() const { return low_.size(); }
  Bytes low(std::size_t at) const { return low_[at]; }
  Bytes high(std::size_t at) const { return high_[at]; }

  bool clear(Bytes low, Bytes high) const {
    const std::size_t at = behind(low);
    return at > 0 && high <= high_[at - 1];
  }

  // Takes a range that is clear.
  void take(Bytes low, Bytes high) {
    if (low == high) return;
    const std::size_t at = behind(low) - 1;
    if (low_[at] < low && high < high_[at]) {
      insert(at + 1, high, high_[at]);
      high_[at] = low;
    } else if (low_[at] < low) {
      high_[at] = low;
    } else if (high < high_[at]) {
      low_[at] = high;
    } else {
      erase(at);
    }
  }

  // Gives back a range that was taken.
  void give(Bytes low, Bytes high) {
    if (low == high) return;
    const std::size_t at = behind(low);
    const bool joins_below = at > 0 && high_[at - 1] == low;
    const bool joins_above = at < count() && low_[at] == high;
    if (joins_below && joins_above) {
      high_[at - 1] = high_[at];
      erase(at);
    } else if (joins_below) {
      high_[at - 1] = high;
    } else if (joins_above) {
      low_[at] = low;
    } else {
      insert(at, low, high);
    }
  }

 private:
  // Index behind the gaps that begin at `address` or below.
  std::size_t behind(Bytes address) const {
    return std::upper_bound(low_.begin(), low_.end(), address) - low_.begin();
  }
  void insert(std::size_t at, Bytes low, Bytes high) {
    low_.insert(low_.begin() + at, low);
    high_.insert(high_.begin() + at, high);
  }
  void erase(std::size_t at) {
    low_.erase(low_.begin() + at);
    high_.erase(high_.begin() + at);
  }

  std::vector<Bytes> low_{0}, high_{kNever};
};

}  // namespace loomax::online
