#include "arena.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "real.h"

namespace arena {

bool Arena::use(Plan&& plan) {
  plan_ = std::move(plan);
  cursor_ = std::make_unique<Cursor>(plan_);
  // The loop is recognised by all requests of at least its smallest, whatever the threshold is.
  smallest_ = plan_.requests.front().size;
  for (const Planned& request : plan_.requests) smallest_ = std::min(smallest_, request.size);
  settings_.threshold = std::min(settings_.threshold, smallest_);
  return plan_.bytes == 0 ||
         region_.map(plan_.bytes, plan_.requests.size(), settings_.huge_pages);
}

int Arena::allocate(void** out, std::size_t alignment, std::size_t size) {
  std::uint64_t id;
  {
    const std::lock_guard<std::mutex> held(lock_);
    id = counts_.requests++;
    if (void* place = cursor_ && !closed_ ? serve(size, alignment, id) : nullptr) {
      *out = place;
      count_peak();
      return 0;
    }
    if (!affords(size)) return deny(size);
    in_libc_ += size;
    count_peak();
  }
  const int failed = real()->posix_memalign(out, alignment, size);
  const std::lock_guard<std::mutex> held(lock_);
  if (failed) {
    in_libc_ -= size;
  } else {
    settle(*out, size, alignment, id);
  }
  return failed;
}

// A place of the plan, or null; the cursor and the counts move on.
void* Arena::serve(std::size_t size, std::size_t alignment, std::uint64_t id) {
  if (size < smallest_) {
    ++counts_.unknown;
    return nullptr;
  }
  if (!cursor_->follow(size)) {
    ++counts_.before;
    return nullptr;
  }
  void* place = nullptr;
  bool known = false, left = false;
  const bool served = cursor_->match(size, known, [&](std::size_t position) {
    const Planned& planned = plan_.requests[position];
    left = planned.offset < 0;
    if (left) return true;
    const auto offset = static_cast<std::size_t>(planned.offset), end = offset + size;
    const std::size_t touched = region_.touched();
    if (offset % alignment != 0 || !affords(end > touched ? end - touched : 0)) return false;
    place = region_.take(offset, size, position, id);
    return place != nullptr;
  });
  if (place != nullptr) {
    ++counts_.planned;
    in_region_ += size;
    if (settings_.check) require(region_.sound(), "two planned blocks overlap");
  } else {
    ++(served && left ? counts_.left : known ? counts_.taken : counts_.unknown);
  }
  return place;
}

// What is held is what libc has handed out, and the part of the plan's memory that was touched.
bool Arena::affords(std::size_t more) const {
  if (settings_.budget == 0) return true;
  const std::uint64_t held = in_libc_ + region_.touched();
  return held <= settings_.budget && more <= settings_.budget - held;
}

int Arena::deny(std::size_t size) {
  if (++counts_.denied <= 3) {
    dprintf(2,
            "loomax arena: out of budget: %zu bytes wanted, %" PRIu64 " held, budget %" PRIu64
            " (%s%s)\n",
            size, in_libc_ + region_.touched(), settings_.budget, cursor_ ? "plan " : "no plan",
            plan_.path.c_str());
  }
  return ENOMEM;
}

// Remembers a block of libc's.
void Arena::settle(void* pointer, std::size_t size, std::size_t alignment, std::uint64_t id) {
  if (settings_.check) require(!region_.contains(pointer), "libc handed out planned memory");
  if (!blocks_.add({reinterpret_cast<std::uintptr_t>(pointer), size, id})) {
    in_libc_ -= size;
    return;
  }
  log_.allocated(id, size, alignment);
}

bool Arena::free(void* pointer) {
  if (region_.contains(pointer)) {
    const std::lock_guard<std::mutex> held(lock_);
    // What is freed is spoilt: who reads it afterwards computes something else.
    if (settings_.check) std::memset(pointer, 0xA5, region_.size_of(pointer));
    Region::Place place{};
    require(region_.give_back(pointer, place), "free of a pointer that is no live block");
    in_region_ -= plan_.requests[place.position].size;
    return true;
  }
  if (!blocks_.maybe(pointer)) return false;
  const std::lock_guard<std::mutex> held(lock_);
  Block block;
  if (blocks_.take(pointer, block)) {
    in_libc_ -= block.size;
    log_.freed(block.id);
  }
  return false;
}

std::size_t Arena::planned_size(const void* pointer) {
  if (!region_.contains(pointer)) return 0;
  const std::lock_guard<std::mutex> held(lock_);
  return region_.size_of(pointer);
}

std::size_t Arena::close() {
  const std::lock_guard<std::mutex> held(lock_);
  closed_ = true;
  log_.flush();
  log_.abandon();
  if (region_.live() == 0) region_.unmap();
  return region_.live();
}

void Arena::count_peak() {
  counts_.most_live = std::max(counts_.most_live, in_libc_ + in_region_);
}

Counts Arena::counts() {
  const std::lock_guard<std::mutex> held(lock_);
  Counts now = counts_;
  now.recognised = cursor_ ? cursor_->recognised() : 0;
  now.live = in_libc_ + in_region_;
  now.touched = region_.touched();
  now.in_region = region_.live();
  return now;
}

void Arena::report() {
  const Counts now = counts();
  const std::lock_guard<std::mutex> held(lock_);
  log_.flush();
  if (now.requests == 0) return;
  if (log_.on()) {
    dprintf(2, "loomax arena: recorded %" PRIu64 " requests, at most %" PRIu64
               " bytes live, in %s\n", now.requests, now.most_live, log_.path());
  } else if (!cursor_) {
    dprintf(2, "loomax arena: %" PRIu64 " requests, at most %" PRIu64 " bytes live, %" PRIu64
               " denied\n", now.requests, now.most_live, now.denied);
  } else if (now.recognised == 0) {
    dprintf(2, "loomax arena: plan %s is of another program: its loop (hash %016" PRIx64
               ") never came in %" PRIu64 " requests; all went to libc\n",
            plan_.path.c_str(), plan_.program, now.requests);
  } else {
    dprintf(2, "loomax arena: plan %s: %" PRIu64 " requests, %" PRIu64 " as planned; to libc: %"
               PRIu64 " before the loop, %" PRIu64 " not in the plan, %" PRIu64
               " left by it, %" PRIu64 " whose place was taken; %" PRIu64 " denied; touched %"
               PRIu64 " of %" PRIu64 " bytes\n",
            plan_.path.c_str(), now.requests, now.planned, now.before, now.unknown, now.left,
            now.taken, now.denied, now.touched, plan_.bytes);
  }
}

void Arena::require(bool good, const char* what) const {
  if (good) return;
  dprintf(2, "loomax arena: %s; stopping before memory is corrupted\n", what);
  std::abort();
}

}  // namespace arena
