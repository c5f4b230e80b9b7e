// The allocation functions that the hooks stand in for.
#pragma once

#include <cstddef>

namespace arena {

struct Real {
  int (*posix_memalign)(void**, std::size_t, std::size_t);
  void* (*aligned_alloc)(std::size_t, std::size_t);
  void* (*realloc)(void*, std::size_t);
  void (*free)(void*);
};

// Found on the first call. Null while that call is under way in this very thread: finding a
// symbol may free memory.
const Real* real();

// Whether this library was loaded before the process started, so that its hooks are what every
// other library calls.
bool preloaded();

}  // namespace arena
