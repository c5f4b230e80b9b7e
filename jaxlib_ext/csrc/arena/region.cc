#include "region.h"

#include <sys/mman.h>

#include <algorithm>

namespace arena {
namespace {

constexpr std::size_t kHuge = std::size_t{1} << 21;

}  // namespace

bool Region::map(std::size_t bytes, std::size_t most, bool huge_pages) {
  mapped_bytes_ = bytes + kHuge;
  void* found = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (found == MAP_FAILED) return false;
  mapped_ = reinterpret_cast<std::uintptr_t>(found);
  base_ = (mapped_ + kHuge - 1) & ~(kHuge - 1);
  bytes_ = bytes;
  touched_ = 0;
  live_.reserve(most);
  // Only whole huge pages of the plan, so that it takes no more memory than it says.
  const std::size_t whole = bytes & ~(kHuge - 1);
  if (huge_pages && whole != 0) madvise(reinterpret_cast<void*>(base_.load()), whole, MADV_HUGEPAGE);
  return true;
}

void Region::unmap() {
  if (mapped_ != 0) munmap(reinterpret_cast<void*>(mapped_), mapped_bytes_);
  mapped_ = 0;
  bytes_ = 0;
}

bool Region::contains(const void* pointer) const {
  return reinterpret_cast<std::uintptr_t>(pointer) - base_ < bytes_;
}

std::size_t Region::search(std::size_t offset) const {
  const auto at = std::lower_bound(live_.begin(), live_.end(), offset,
                                   [](const Place& a, std::size_t b) { return a.low < b; });
  return static_cast<std::size_t>(at - live_.begin());
}

void* Region::take(std::size_t offset, std::size_t size, std::size_t position, std::uint64_t id) {
  const std::size_t at = search(offset), high = offset + std::max<std::size_t>(size, 1);
  if (high > bytes_ || live_.size() == live_.capacity()) return nullptr;
  if (at < live_.size() && live_[at].low < high) return nullptr;
  if (at > 0 && live_[at - 1].high > offset) return nullptr;
  live_.insert(live_.begin() + static_cast<std::ptrdiff_t>(at), {offset, high, position, id});
  touched_ = std::max(touched_, high);
  return reinterpret_cast<void*>(base_ + offset);
}

bool Region::give_back(const void* pointer, Place& place) {
  const std::size_t offset = reinterpret_cast<std::uintptr_t>(pointer) - base_;
  const std::size_t at = search(offset);
  if (at == live_.size() || live_[at].low != offset) return false;
  place = live_[at];
  live_.erase(live_.begin() + static_cast<std::ptrdiff_t>(at));
  return true;
}

std::size_t Region::size_of(const void* pointer) const {
  const std::size_t offset = reinterpret_cast<std::uintptr_t>(pointer) - base_;
  const std::size_t at = search(offset);
  return at == live_.size() || live_[at].low != offset ? 0 : live_[at].high - offset;
}

bool Region::sound() const { return disjoint(live_.data(), live_.size()); }

bool disjoint(const Region::Place* places, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t j = i + 1; j < count; ++j) {
      if (places[i].low < places[j].high && places[j].low < places[i].high) return false;
    }
  }
  return true;
}

}  // namespace arena
