// Live blocks that libc has handed out, by address. Not thread-safe but for `maybe`.
#pragma once

#include <cstddef>
#include <cstdint>

namespace arena {

struct Block {
  std::uintptr_t address;
  std::size_t size;
  std::uint64_t id;
};

class Blocks {
 public:
  // False: no memory to keep it in.
  bool add(const Block& block);

  // Takes a block out; false: it is not here.
  bool take(const void* pointer, Block& block);

  // A wrong yes is possible, a wrong no is not, in any thread that may free the block. It keeps
  // the many small blocks of a process away from the lock.
  bool maybe(const void* pointer) const;

 private:
  bool grow();
  std::size_t slot(std::uintptr_t address) const;

  Block* table_ = nullptr;
  std::size_t capacity_ = 0, count_ = 0;
};

}  // namespace arena
