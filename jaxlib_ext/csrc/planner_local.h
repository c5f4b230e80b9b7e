// Local search on the order in which a greedy rule places the buffers.
#pragma once

#include <cstdint>

#include "planner_greedy.h"

namespace loomax::planner {

// Moves a buffer of the peak, or one that lives with it, to an earlier place in the order and
// keeps what is not worse. Ends after `moves`, when the peak is at most `goal`, or when the clock
// shows `end`.
void improve_order(const Problem& problem, Greedy& plan, Bytes goal, int moves,
                   std::uint64_t seed, double end);

}  // namespace loomax::planner
