// What the hooks do: record, serve from a plan, or count and pass on to libc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "blocks.h"
#include "cursor.h"
#include "log.h"
#include "plan.h"
#include "region.h"

namespace arena {

struct Settings {
  std::uint64_t threshold;  // smaller requests are libc's
  std::uint64_t budget;     // bytes that may be held; 0: no limit
  bool huge_pages, check, report;
};

// The order is that of `_Counts` in jaxlib_ext/arena.py.
struct Counts {
  std::uint64_t requests = 0;
  std::uint64_t planned = 0;     // had a place of the plan
  std::uint64_t before = 0;      // came while the loop was not recognised
  std::uint64_t unknown = 0;     // no such size in this part of the plan
  std::uint64_t left = 0;        // the plan leaves them to libc
  std::uint64_t taken = 0;       // the place was in use
  std::uint64_t denied = 0;      // over the budget
  std::uint64_t recognised = 0;  // times that the loop was found
  std::uint64_t live = 0;        // bytes in use
  std::uint64_t most_live = 0;
  std::uint64_t touched = 0;     // of the plan's bytes
  std::uint64_t in_region = 0;   // blocks of the plan that live
};

class Arena {
 public:
  explicit Arena(const Settings& settings) : settings_(settings) {}

  // False: no memory for the plan.
  bool use(Plan&& plan);
  void record(const char* path) { log_.open(path, settings_.threshold); }

  // As posix_memalign, for requests of at least the threshold.
  int allocate(void** out, std::size_t alignment, std::size_t size);

  // Whether the block was ours; libc frees it otherwise.
  bool free(void* pointer);

  // Bytes of a block of the plan; 0: it is none.
  std::size_t planned_size(const void* pointer);

  // After this no block is placed any more. Returns how many of the plan's still live.
  std::size_t close();
  Counts counts();
  void report();
  std::uint64_t threshold() const { return settings_.threshold; }
  bool reports() const { return settings_.report; }

  std::mutex& lock() { return lock_; }
  void forked() { log_.abandon(), settings_.report = false; }

 private:
  void* serve(std::size_t size, std::size_t alignment, std::uint64_t id);
  bool affords(std::size_t more) const;
  int deny(std::size_t size);
  void settle(void* pointer, std::size_t size, std::size_t alignment, std::uint64_t id);
  void count_peak();
  void require(bool good, const char* what) const;

  Settings settings_;
  std::mutex lock_;
  Plan plan_;
  std::unique_ptr<Cursor> cursor_;
  Region region_;
  Blocks blocks_;
  Log log_;
  Counts counts_;
  std::uint64_t in_libc_ = 0, in_region_ = 0, smallest_ = 0;
  bool closed_ = false;
};

}  // namespace arena
