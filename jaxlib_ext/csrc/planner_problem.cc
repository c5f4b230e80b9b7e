#include "planner_problem.h"

#include <algorithm>
#include <map>

namespace loomax::planner {
namespace {

// Start times of the maximal sections: the last birth before each run of deaths.
std::vector<Bytes> section_starts(int count, const Bytes* lower, const Bytes* upper) {
  constexpr int kBirth = 1, kDeath = 2;
  std::map<Bytes, int> events;
  for (int i = 0; i < count; ++i) {
    events[lower[i]] |= kBirth;
    events[upper[i]] |= kDeath;
  }
  std::vector<Bytes> starts;
  Bytes birth = 0;
  bool open = false;
  for (const auto& [time, kinds] : events) {
    if ((kinds & kDeath) && open) {
      starts.push_back(birth);
      open = false;
    }
    if (kinds & kBirth) {
      birth = time;
      open = true;
    }
  }
  return starts;
}

Bytes most_live(const Problem& problem) {
  std::vector<Bytes> change(problem.sections + 1, 0);
  for (int i = 0; i < problem.count; ++i) {
    change[problem.first[i]] += problem.size[i];
    change[problem.last[i]] -= problem.size[i];
  }
  Bytes live = 0, most = 0;
  for (Bytes step : change) most = std::max(most, live += step);
  return most;
}

}  // namespace

Problem make_problem(int count, const Bytes* lower, const Bytes* upper, const Bytes* size) {
  Problem problem;
  const auto starts = section_starts(count, lower, upper);
  auto section = [&](Bytes time) {
    return static_cast<int>(std::lower_bound(starts.begin(), starts.end(), time) - starts.begin());
  };
  problem.count = count;
  problem.sections = static_cast<int>(starts.size());
  for (int i = 0; i < count; ++i) {
    problem.first.push_back(section(lower[i]));
    problem.last.push_back(section(upper[i]));
    problem.size.push_back(size[i]);
  }
  problem.bound = most_live(problem);
  return problem;
}

std::int64_t index_entries(const Problem& problem) {
  std::int64_t entries = 0;
  for (int i = 0; i < problem.count; ++i) entries += problem.width(i);
  return entries;
}

Index make_index(const Problem& problem) {
  Index index;
  index.live.resize(problem.sections);
  index.born.resize(problem.sections + 1);
  index.dying.resize(problem.sections + 1);
  for (int i = 0; i < problem.count; ++i) {
    for (int s = problem.first[i]; s < problem.last[i]; ++s) index.live[s].push_back(i);
    index.born[problem.first[i]].push_back(i);
    index.dying[problem.last[i]].push_back(i);
  }
  return index;
}

Bytes peak_of(const Problem& problem, const std::vector<Bytes>& offsets) {
  Bytes peak = 0;
  for (int i = 0; i < problem.count; ++i) peak = std::max(peak, offsets[i] + problem.size[i]);
  return peak;
}

}  // namespace loomax::planner
