// Seconds of a steady clock, for time limits.
#pragma once

#include <chrono>
#include <limits>

namespace loomax::planner {

constexpr double kEndless = std::numeric_limits<double>::infinity();

inline double clock_seconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

}  // namespace loomax::planner
