// The state of the exact search: floors of sections, least offsets of buffers, and inference.
//
// A floor is a level below which a section is finished. Placing a buffer at the highest floor
// below it finishes everything beneath; floors only rise until they are undone. What is inferred
// (propagate) holds for every plan that has no buffer that could be moved down:
//   least offset   a buffer lies no lower than the highest floor of its sections;
//   section floor  a section is finished up to the least offset of its waiting buffers;
//   makespan       a section's buffers, released at their least offsets, must end by the capacity;
//   boundary       where floors differ across a boundary that a waiting buffer crosses, waiting
//                  births and deaths there, and the slack, must be able to level them;
//   no drop        no waiting buffer fits into a gap that is already finished.
#pragma once

#include <cstdint>
#include <vector>

#include "planner_problem.h"

namespace loomax::planner {

class State {
 public:
  State(const Problem& problem, const Index& index, Bytes capacity);

  const Problem& problem;
  const Index& index;
  const Bytes capacity;
  std::vector<Bytes> floor, top, waiting_bytes, options;  // of sections
  std::vector<Bytes> least, offset;                       // of buffers
  std::vector<char> placed;
  std::vector<int> crossing;             // waiting buffers that cross a boundary
  std::vector<std::int64_t> weight;      // how often a section failed, plus 1

  // The first inference, on the empty state.
  bool start();
  void place(int buffer);
  void raise(int section, Bytes level);
  // Draws all conclusions within sections [low, high); false when there is a contradiction.
  bool propagate(int low, int high);
  std::size_t mark() const { return trail_.size(); }
  void undo(std::size_t mark);
  bool supported(int buffer) const;
  // What a section can still waste.
  Bytes slack(int section) const {
    return capacity - floor[section] - waiting_bytes[section];
  }
  // Least level above the floor at which anything can lie on `section` if no option is taken.
  Bytes next_level(int section) const;
  std::uint64_t hash(int low, int high) const;

 private:
  enum class Kind : char { kFloor, kTop, kOptions, kLeast, kPlaced };
  struct Change {
    Kind kind;
    int at;
    Bytes old;
  };

  std::vector<Bytes>& values(Kind kind);
  void set(Kind kind, int at, Bytes value);
  void set_floor(int section, Bytes level);
  bool release(int section);
  bool makespan(int section);
  bool droppable(int buffer) const;
  bool no_drop();
  bool level(int boundary);
  bool boundaries(int low, int high);
  bool fail(int section);
  void forget();

  std::vector<Change> trail_;
  std::vector<int> queue_, raised_;
  std::vector<char> queued_, stale_, uneven_;
  std::vector<std::vector<int>> release_order_;  // live buffers by least offset, placed ones last
  std::vector<Bytes> below_, above_, merged_;    // subset sums of one boundary
};

}  // namespace loomax::planner
