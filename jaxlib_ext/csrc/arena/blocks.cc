#include "blocks.h"

#include <sys/mman.h>

#include <atomic>

namespace arena {
namespace {

constexpr int kBits = 16;
// How many live blocks have each hash.
std::atomic<std::uint32_t> counts[1 << kBits];

std::uint64_t scatter(std::uintptr_t address) {
  return (static_cast<std::uint64_t>(address) >> 4) * 0x9E3779B97F4A7C15u;
}

std::atomic<std::uint32_t>& bucket(std::uintptr_t address) {
  return counts[scatter(address) >> (64 - kBits)];
}

// libc is not asked for memory here: its functions may be the hooks.
Block* reserve(std::size_t capacity) {
  void* found = mmap(nullptr, capacity * sizeof(Block), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return found == MAP_FAILED ? nullptr : static_cast<Block*>(found);
}

}  // namespace

std::size_t Blocks::slot(std::uintptr_t address) const {
  std::size_t at = (scatter(address) >> 20) & (capacity_ - 1);
  while (table_[at].address != 0 && table_[at].address != address) at = (at + 1) & (capacity_ - 1);
  return at;
}

bool Blocks::grow() {
  Block* old = table_;
  const std::size_t before = capacity_, wanted = before ? 2 * before : 4096;
  Block* larger = reserve(wanted);
  if (larger == nullptr) return false;
  table_ = larger;
  capacity_ = wanted;
  for (std::size_t i = 0; i < before; ++i) {
    if (old[i].address != 0) table_[slot(old[i].address)] = old[i];
  }
  if (old != nullptr) munmap(old, before * sizeof(Block));
  return true;
}

bool Blocks::add(const Block& block) {
  if (2 * (count_ + 1) > capacity_ && !grow()) return false;
  table_[slot(block.address)] = block;
  ++count_;
  bucket(block.address).fetch_add(1, std::memory_order_release);
  return true;
}

bool Blocks::take(const void* pointer, Block& block) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  if (capacity_ == 0) return false;
  std::size_t hole = slot(address);
  if (table_[hole].address == 0) return false;
  block = table_[hole];
  bucket(address).fetch_sub(1, std::memory_order_release);
  --count_;
  // Blocks behind the hole move up, so that searches for them still find them.
  for (std::size_t at = (hole + 1) & (capacity_ - 1); table_[at].address != 0;
       at = (at + 1) & (capacity_ - 1)) {
    const std::size_t home = (scatter(table_[at].address) >> 20) & (capacity_ - 1);
    if (((at - home) & (capacity_ - 1)) >= ((at - hole) & (capacity_ - 1))) {
      table_[hole] = table_[at];
      hole = at;
    }
  }
  table_[hole].address = 0;
  return true;
}

bool Blocks::maybe(const void* pointer) const {
  return bucket(reinterpret_cast<std::uintptr_t>(pointer)).load(std::memory_order_acquire) != 0;
}

}  // namespace arena
