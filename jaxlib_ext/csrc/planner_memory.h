// A set of 64-bit hashes that only grows: one flat table, since a search remembers a million.
#pragma once

#include <cstdint>
#include <vector>

namespace loomax::planner {

class HashSet {
 public:
  std::size_t size() const { return size_; }

  bool contains(std::uint64_t hash) const { return slots_[find(spare(hash))] != 0; }

  void insert(std::uint64_t hash) {
    hash = spare(hash);
    const std::size_t at = find(hash);
    if (slots_[at] != 0) return;
    slots_[at] = hash;
    if (2 * ++size_ > slots_.size()) grow();
  }

 private:
  // 0 marks an empty slot.
  static std::uint64_t spare(std::uint64_t hash) { return hash == 0 ? 1 : hash; }

  std::size_t find(std::uint64_t hash) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = hash & mask;
    while (slots_[at] != 0 && slots_[at] != hash) at = (at + 1) & mask;
    return at;
  }

  void grow() {
    std::vector<std::uint64_t> old(2 * slots_.size(), 0);
    old.swap(slots_);
    for (std::uint64_t hash : old) {
      if (hash != 0) slots_[find(hash)] = hash;
    }
  }

  std::vector<std::uint64_t> slots_ = std::vector<std::uint64_t>(1024, 0);
  std::size_t size_ = 0;
};

}  // namespace loomax::planner
