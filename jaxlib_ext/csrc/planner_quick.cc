#include "planner_quick.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <utility>

namespace loomax::planner {
namespace {

constexpr int kClockEvery = 4096;

// Free memory between live buffers; above the last of them all is free.
class Gaps {
 public:
  Bytes take(Bytes size) {
    const auto found = by_size_.lower_bound({size, 0});
    if (found == by_size_.end()) {
      const Bytes at = top_;
      top_ += size;
      return at;
    }
    const auto [length, at] = *found;
    remove(at, length);
    if (length > size) add(at + size, length - size);
    return at;
  }

  void give(Bytes at, Bytes size) {
    const auto after = by_offset_.find(at + size);
    if (after != by_offset_.end()) {
      const Bytes length = after->second;
      remove(at + size, length);
      size += length;
    }
    auto before = by_offset_.lower_bound(at);
    if (before != by_offset_.begin()) {
      --before;
      const auto [start, length] = *before;
      if (start + length == at) {
        remove(start, length);
        at = start;
        size += length;
      }
    }
    if (at + size == top_) {
      top_ = at;
    } else {
      add(at, size);
    }
  }

 private:
  void add(Bytes at, Bytes size) {
    by_offset_[at] = size;
    by_size_.insert({size, at});
  }
  void remove(Bytes at, Bytes size) {
    by_offset_.erase(at);
    by_size_.erase({size, at});
  }

  std::map<Bytes, Bytes> by_offset_;
  std::set<std::pair<Bytes, Bytes>> by_size_;
  Bytes top_ = 0;
};

// Heights over the sections: the most within a range, and one height for all of a range.
class Skyline {
 public:
  explicit Skyline(int sections) {
    while (leaves_ < sections) leaves_ *= 2;
    most_.assign(2 * leaves_, 0);
    all_.assign(2 * leaves_, -1);
  }

  Bytes most(int first, int last) { return most(1, 0, leaves_, first, last); }
  void raise(int first, int last, Bytes height) { raise(1, 0, leaves_, first, last, height); }
  std::int64_t work() const { return work_; }

 private:
  Bytes most(int node, int low, int high, int first, int last) {
    ++work_;
    if (last <= low || high <= first) return 0;
    if (first <= low && high <= last) return most_[node];
    if (all_[node] >= 0) return all_[node];
    const int middle = (low + high) / 2;
    return std::max(most(2 * node, low, middle, first, last),
                    most(2 * node + 1, middle, high, first, last));
  }

  void raise(int node, int low, int high, int first, int last, Bytes height) {
    ++work_;
    if (last <= low || high <= first) return;
    if (first <= low && high <= last) {
      most_[node] = all_[node] = height;
      return;
    }
    for (int child = 2 * node; all_[node] >= 0 && child <= 2 * node + 1; ++child) {
      most_[child] = all_[child] = all_[node];
    }
    all_[node] = -1;
    const int middle = (low + high) / 2;
    raise(2 * node, low, middle, first, last, height);
    raise(2 * node + 1, middle, high, first, last, height);
    most_[node] = std::max(most_[2 * node], most_[2 * node + 1]);
  }

  int leaves_ = 1;
  std::vector<Bytes> most_, all_;  // all_: the height of a whole node; -1: it has several
  std::int64_t work_ = 0;
};

}  // namespace

std::vector<Bytes> sweep(const Problem& problem, std::int64_t& work) {
  std::vector<Bytes> offsets(problem.count, 0);
  std::vector<int> births(problem.count), deaths(problem.count);
  std::iota(births.begin(), births.end(), 0);
  deaths = births;
  std::stable_sort(births.begin(), births.end(), [&](int a, int b) {
    return std::pair{problem.first[a], -problem.size[a]} <
           std::pair{problem.first[b], -problem.size[b]};
  });
  std::stable_sort(deaths.begin(), deaths.end(),
                   [&](int a, int b) { return problem.last[a] < problem.last[b]; });
  Gaps gaps;
  auto dying = deaths.begin();
  for (int buffer : births) {
    for (; dying != deaths.end() && problem.last[*dying] <= problem.first[buffer]; ++dying) {
      gaps.give(offsets[*dying], problem.size[*dying]);
    }
    offsets[buffer] = gaps.take(problem.size[buffer]);
    work += 2;
  }
  return offsets;
}

std::vector<Bytes> stack_up(const Problem& problem, const std::vector<int>& order, double end,
                            std::int64_t& work) {
  std::vector<Bytes> offsets(problem.count, 0);
  Skyline skyline(problem.sections);
  int count = 0;
  for (int buffer : order) {
    if (++count % kClockEvery == 0 && clock_seconds() > end) return {};
    const int first = problem.first[buffer], last = problem.last[buffer];
    offsets[buffer] = skyline.most(first, last);
    skyline.raise(first, last, offsets[buffer] + problem.size[buffer]);
  }
  work += skyline.work();
  return offsets;
}

Greedy quick_portfolio(const Problem& problem, Bytes goal, double end, std::int64_t& work) {
  Greedy best;
  best.offsets = sweep(problem, work);
  best.peak = peak_of(problem, best.offsets);
  for (Rule rule : kRules) {
    if (rule.order != Order::kStack) continue;
    if (best.peak <= goal || clock_seconds() > end) return best;
    auto offsets = stack_up(problem, sorted_by(problem, rule), end, work);
    if (offsets.empty()) return best;
    const Bytes peak = peak_of(problem, offsets);
    if (peak < best.peak) {
      best.offsets = std::move(offsets);
      best.peak = peak;
    }
  }
  return best;
}

}  // namespace loomax::planner
