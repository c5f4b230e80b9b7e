// The log of a trace: JSON lines, as `memory/lifetimes/log_file.py` reads them. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>

namespace arena {

class Log {
 public:
  // The file is made with the first line, so that processes that allocate nothing leave none. One
  // that exists is not touched: its name gets this process's number.
  void open(const char* path, std::uint64_t threshold);
  void allocated(std::uint64_t id, std::size_t size, std::size_t alignment);
  void freed(std::uint64_t id);
  void flush();
  // Without a last write: the file belongs to the parent of a fork.
  void abandon() { on_ = false; }

  bool on() const { return on_; }
  const char* path() const { return path_; }

 private:
  void add(const char* line, int length);
  bool create();

  char path_[4096] = "";
  char text_[1 << 16];
  std::size_t used_ = 0;
  std::uint64_t threshold_ = 0;
  int file_ = -1;
  bool on_ = false;
};

}  // namespace arena
