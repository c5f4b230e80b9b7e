// The places in which a loaded library keeps the addresses of functions that it imports.
#pragma once

#include <cstddef>

namespace arena {

struct Hook {
  const char* name;
  void* address;
  bool allocates;
};

enum class Kind { kAllocate, kFree };

// Writes the hooks into the slots of every loaded library whose path contains `library`. Returns
// the number of slots, 0 where there are none, and -1 where one cannot be written; none is changed
// then.
int install(const char* library, const Hook* hooks, std::size_t count);

// Writes the old addresses back. False: a slot could not be written.
bool restore(Kind kind);

// Slots that hold a hook now.
int installed();

}  // namespace arena
