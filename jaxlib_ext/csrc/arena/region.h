// The planned memory: one mapping, and which of its places are in use. Not thread-safe, but for
// `contains`.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace arena {

class Region {
 public:
  // Maps memory for at most `most` live blocks. False: the system refuses.
  bool map(std::size_t bytes, std::size_t most, bool huge_pages);
  void unmap();

  // The place [offset, offset + size) for a position; null: it meets a live one.
  void* take(std::size_t offset, std::size_t size, std::size_t position, std::uint64_t id);

  struct Place {
    std::size_t low, high, position;
    std::uint64_t id;
  };

  // False: no live block begins there.
  bool give_back(const void* pointer, Place& place);
  std::size_t size_of(const void* pointer) const;

  bool contains(const void* pointer) const;
  std::size_t live() const { return live_.size(); }
  std::size_t bytes() const { return bytes_; }
  // The highest end of any place so far: memory beyond it was never touched.
  std::size_t touched() const { return touched_; }
  std::uintptr_t base() const { return base_; }
  // Whether no two live places meet, found by comparing all pairs.
  bool sound() const;

 private:
  std::size_t search(std::size_t offset) const;

  std::atomic<std::uintptr_t> base_{0};
  std::atomic<std::size_t> bytes_{0};
  std::uintptr_t mapped_ = 0;
  std::size_t mapped_bytes_ = 0, touched_ = 0;
  std::vector<Place> live_;  // by offset; never grows beyond what was reserved
};

// Whether no two of the ranges meet.
bool disjoint(const Region::Place* places, std::size_t count);

}  // namespace arena
