#include "planner_problem.h"

#include <algorithm>

namespace loomax::planner {
namespace {

// Start times of the maximal sections: the last birth before each run of deaths.
std::vector<Bytes> section_starts(int count, const Bytes* lower, const Bytes* upper) {
  std::vector<Bytes> births(lower, lower + count), deaths(upper, upper + count), starts;
  std::sort(births.begin(), births.end());
  std::sort(deaths.begin(), deaths.end());
  auto birth = births.begin();
  for (Bytes death : deaths) {
    // Deaths come before births of the same time; a birth since the last section makes another.
    const auto next = std::lower_bound(birth, births.end(), death);
    if (next != birth) starts.push_back(*(next - 1));
    birth = next;
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
