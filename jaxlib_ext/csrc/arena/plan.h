// A plan of one round of requests: the sizes in their order, and where each lies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace arena {

struct Planned {
  std::uint64_t size;
  std::int64_t offset;  // below 0: left to libc
  std::uint64_t alignment;
};

struct Plan {
  std::vector<Planned> requests;
  std::uint64_t bytes = 0;
  std::uint64_t program = 0;
  std::string path;
};

// One number for a size; a program is the sum over a round, which the order within does not change.
std::uint64_t mark(std::uint64_t size);

// Reads the file that `memory/arena/plan_file.py` writes. On failure the text says what is wrong.
std::string read_plan(const char* path, Plan& plan);

}  // namespace arena
