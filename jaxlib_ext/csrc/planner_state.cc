#include "planner_state.h"

#include <algorithm>

#include "planner_random.h"

namespace loomax::planner {

State::State(const Problem& problem, const Index& index, Bytes capacity)
    : problem(problem), index(index), capacity(capacity) {
  const int sections = problem.sections, count = problem.count;
  for (auto* values : {&floor, &top, &waiting_bytes, &options}) values->assign(sections, 0);
  least.assign(count, 0);
  offset.assign(count, 0);
  placed.assign(count, 0);
  crossing.assign(sections + 1, 0);
  weight.assign(sections, 1);
  queued_.assign(sections, 0);
  stale_.assign(sections, 0);
  uneven_.assign(sections + 1, 0);
  release_order_ = index.live;
  for (int i = 0; i < count; ++i) {
    for (int s = problem.first[i]; s < problem.last[i]; ++s) waiting_bytes[s] += problem.size[i];
    for (int t = problem.first[i] + 1; t < problem.last[i]; ++t) ++crossing[t];
  }
}

std::vector<Bytes>& State::values(Kind kind) {
  switch (kind) {
    case Kind::kFloor: return floor;
    case Kind::kTop: return top;
    case Kind::kOptions: return options;
    default: return least;
  }
}

void State::set(Kind kind, int at, Bytes value) {
  Bytes& place = values(kind)[at];
  if (place == value) return;
  trail_.push_back({kind, at, place});
  place = value;
}

void State::set_floor(int section, Bytes level) {
  set(Kind::kFloor, section, level);
  uneven_[section] = uneven_[section + 1] = 1;
  if (!queued_[section]) {
    queued_[section] = 1;
    queue_.push_back(section);
  }
}

bool State::start() {
  for (int s = 0; s < problem.sections; ++s) set_floor(s, floor[s]);
  return propagate(0, problem.sections);
}

void State::place(int buffer) {
  const Bytes bottom = least[buffer], level = bottom + problem.size[buffer];
  offset[buffer] = bottom;
  placed[buffer] = 1;
  trail_.push_back({Kind::kPlaced, buffer, 0});
  for (int s = problem.first[buffer]; s < problem.last[buffer]; ++s) {
    waiting_bytes[s] -= problem.size[buffer];
    set_floor(s, level);
    set(Kind::kTop, s, level);
  }
  for (int t = problem.first[buffer] + 1; t < problem.last[buffer]; ++t) --crossing[t];
}

void State::raise(int section, Bytes level) {
  set_floor(section, level);
  raised_.push_back(section);
}

void State::undo(std::size_t mark) {
  while (trail_.size() > mark) {
    const Change change = trail_.back();
    trail_.pop_back();
    if (change.kind != Kind::kPlaced) {
      values(change.kind)[change.at] = change.old;
      continue;
    }
    const int buffer = change.at;
    placed[buffer] = 0;
    for (int s = problem.first[buffer]; s < problem.last[buffer]; ++s) {
      waiting_bytes[s] += problem.size[buffer];
    }
    for (int t = problem.first[buffer] + 1; t < problem.last[buffer]; ++t) ++crossing[t];
  }
}

bool State::fail(int section) {
  ++weight[section];
  return false;
}

void State::forget() {
  for (int s : queue_) queued_[s] = 0;
  queue_.clear();
  raised_.clear();
  std::fill(stale_.begin(), stale_.end(), 0);
  std::fill(uneven_.begin(), uneven_.end(), 0);
}

// A floor rose: so do the least offsets of the buffers that wait on it.
bool State::release(int section) {
  if (slack(section) < 0) return fail(section);
  stale_[section] = 1;
  for (int buffer : index.live[section]) {
    if (placed[buffer] || least[buffer] >= floor[section]) continue;
    set(Kind::kLeast, buffer, floor[section]);
    if (least[buffer] + problem.size[buffer] > capacity) return fail(section);
    std::fill(stale_.begin() + problem.first[buffer], stale_.begin() + problem.last[buffer], 1);
  }
  return true;
}

// Makespan of one machine with release times (Jackson's rule), and how many lie on the floor.
bool State::makespan(int section) {
  auto& order = release_order_[section];
  auto key = [&](int buffer) { return placed[buffer] ? kNever : least[buffer]; };
  for (int i = 1; i < static_cast<int>(order.size()); ++i) {
    const int buffer = order[i];
    const Bytes own = key(buffer);
    int at = i;
    for (; at > 0 && key(order[at - 1]) > own; --at) order[at] = order[at - 1];
    order[at] = buffer;
  }
  const Bytes lowest = least[order.front()];
  Bytes end = lowest, on_floor = 0;
  for (int buffer : order) {
    if (placed[buffer]) break;
    on_floor += least[buffer] == lowest;
    end = std::max(end, least[buffer]) + problem.size[buffer];
  }
  if (end > capacity) return fail(section);
  set(Kind::kOptions, section, on_floor);
  if (lowest > floor[section]) raise(section, lowest);
  return true;
}

bool State::propagate(int low, int high) {
  bool fine = true;
  while (fine && !queue_.empty()) {
    for (std::size_t i = 0; fine && i < queue_.size(); ++i) fine = release(queue_[i]);
    for (int s : queue_) queued_[s] = 0;
    queue_.clear();
    for (int s = low; fine && s < high; ++s) {
      if (!stale_[s]) continue;
      stale_[s] = 0;
      if (waiting_bytes[s] > 0) fine = makespan(s);
    }
  }
  fine = fine && no_drop() && boundaries(low, high);
  forget();
  return fine;
}

// Whether a finished gap runs below the floors of all of a buffer's sections and could hold it.
bool State::droppable(int buffer) const {
  Bytes bottom = 0, ceiling = kNever;
  for (int s = problem.first[buffer]; s < problem.last[buffer]; ++s) {
    bottom = std::max(bottom, top[s]);
    ceiling = std::min(ceiling, floor[s]);
    if (ceiling - bottom < problem.size[buffer]) return false;
  }
  return true;
}

bool State::no_drop() {
  for (int section : raised_) {
    const Bytes gap = floor[section] - top[section];
    for (int buffer : index.live[section]) {
      if (placed[buffer] || problem.size[buffer] > gap) continue;
      if (droppable(buffer)) return fail(section);
    }
  }
  return true;
}

// Some births and deaths at the boundary, with the slack of both sides, must level the floors.
bool State::level(int boundary) {
  constexpr int kMost = 7;
  const int left = boundary - 1, right = boundary;
  if (crossing[boundary] == 0 || floor[left] == floor[right]) return true;
  auto sums = [&](const std::vector<int>& buffers, Bytes base, std::vector<Bytes>& found) {
    found.assign(1, base);
    int waiting = 0;
    for (int buffer : buffers) {
      if (placed[buffer]) continue;
      if (++waiting > kMost) return false;
      const auto half = static_cast<std::ptrdiff_t>(found.size());
      merged_.resize(2 * half);
      for (std::ptrdiff_t i = 0; i < half; ++i) found.push_back(found[i] + problem.size[buffer]);
      std::merge(found.begin(), found.begin() + half, found.begin() + half, found.end(),
                 merged_.begin());
      found.swap(merged_);
    }
    return true;
  };
  if (!sums(index.dying[boundary], floor[left], below_)) return true;
  if (!sums(index.born[boundary], floor[right], above_)) return true;
  std::size_t at = 0;
  for (Bytes reached : below_) {
    while (at < above_.size() && above_[at] < reached - slack(right)) ++at;
    if (at < above_.size() && above_[at] <= reached + slack(left)) return true;
  }
  return fail(floor[left] < floor[right] ? left : right);
}

bool State::boundaries(int low, int high) {
  for (int t = low + 1; t < high; ++t) {
    if (uneven_[t] && !level(t)) return false;
  }
  return true;
}

bool State::supported(int buffer) const {
  if (least[buffer] == 0) return true;
  for (int s = problem.first[buffer]; s < problem.last[buffer]; ++s) {
    if (top[s] == least[buffer]) return true;
  }
  return false;
}

Bytes State::next_level(int section) const {
  Bytes level = kNever;
  for (int buffer : index.live[section]) {
    if (placed[buffer]) continue;
    if (least[buffer] > floor[section]) {
      level = std::min(level, least[buffer]);
      continue;
    }
    // It must lie on something that waits and does not reach this section.
    for (int s = problem.first[buffer]; s < problem.last[buffer]; ++s) {
      for (int other : index.live[s]) {
        if (placed[other]) continue;
        if (problem.first[other] <= section && section < problem.last[other]) continue;
        level = std::min(level, least[other] + problem.size[other]);
      }
    }
  }
  return level;
}

std::uint64_t State::hash(int low, int high) const {
  auto mix = [](std::uint64_t a, std::uint64_t b) {
    return scramble(a * 0x9E3779B97F4A7C15ull + b + 1);
  };
  std::uint64_t sum = mix(low, high);
  for (int s = low; s < high; ++s) {
    sum += mix(floor[s], 2 * s);
    if (top[s] != floor[s]) sum += mix(top[s], 2 * s + 1);
    for (int buffer : index.born[s]) {
      if (!placed[buffer]) sum += mix(~0ull, buffer);
    }
  }
  return scramble(sum);
}

}  // namespace loomax::planner
