// The hooks, and the library's C interface. It works in two ways: loaded with LD_PRELOAD, where
// the functions below stand before libc's and the environment says what to do; or loaded by a
// running process, where `loomax_arena_start` writes their addresses into jaxlib's slots.
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "arena.h"
#include "real.h"
#include "slots.h"

namespace {

using arena::Arena;
using arena::Kind;
using arena::real;

// The arena in use. It stays until the last of its blocks is freed; none is ever deleted, as a
// thread may be on its way into it.
std::atomic<Arena*> current{nullptr};
std::atomic<bool> serving{false};

int allocate(void** out, std::size_t alignment, std::size_t size) {
  Arena* arena = current.load(std::memory_order_acquire);
  if (arena != nullptr && serving.load(std::memory_order_relaxed) && size >= arena->threshold()) {
    return arena->allocate(out, alignment, size);
  }
  return real()->posix_memalign(out, alignment, size);
}

bool power_of_two(std::size_t number) { return number != 0 && (number & (number - 1)) == 0; }

// The last block of a closed arena is gone: its hooks go too.
void retire(Arena* arena) {
  if (serving.load() || arena->counts().in_region != 0) return;
  if (!current.compare_exchange_strong(arena, nullptr)) return;
  arena->close();
  arena::restore(Kind::kFree);
}

int hook_posix_memalign(void** out, std::size_t alignment, std::size_t size) {
  if (!power_of_two(alignment) || alignment % sizeof(void*) != 0) return EINVAL;
  return allocate(out, alignment, size);
}

void* hook_aligned_alloc(std::size_t alignment, std::size_t size) {
  if (!power_of_two(alignment) || alignment % sizeof(void*) != 0) {
    return real()->aligned_alloc(alignment, size);
  }
  void* out = nullptr;
  const int failed = allocate(&out, alignment, size);
  if (failed) errno = failed;
  return failed ? nullptr : out;
}

void hook_free(void* pointer) {
  if (pointer == nullptr) return;
  if (Arena* arena = current.load(std::memory_order_acquire)) {
    if (arena->free(pointer)) return retire(arena);
  }
  if (const arena::Real* found = real()) found->free(pointer);
}

void* hook_realloc(void* pointer, std::size_t size) {
  Arena* arena = current.load(std::memory_order_acquire);
  const std::size_t before = arena == nullptr ? 0 : arena->planned_size(pointer);
  if (before == 0) {
    // A block that may move is no longer ours to follow.
    if (arena != nullptr && pointer != nullptr) arena->free(pointer);
    return real()->realloc(pointer, size);
  }
  void* moved = real()->realloc(nullptr, size);
  if (moved == nullptr) return nullptr;
  std::memcpy(moved, pointer, before < size ? before : size);
  hook_free(pointer);
  return moved;
}

void before_fork() {
  if (Arena* arena = current.load()) arena->lock().lock();
}
void after_fork() {
  if (Arena* arena = current.load()) arena->lock().unlock();
}
void after_fork_in_child() {
  if (Arena* arena = current.load()) {
    arena->forked();
    arena->lock().unlock();
  }
}

// Their names are not libc's, so that their addresses are these functions' in either way.
const arena::Hook kHooks[] = {
    {"posix_memalign", reinterpret_cast<void*>(&hook_posix_memalign), true},
    {"aligned_alloc", reinterpret_cast<void*>(&hook_aligned_alloc), true},
    {"realloc", reinterpret_cast<void*>(&hook_realloc), false},
    {"free", reinterpret_cast<void*>(&hook_free), false},
};

// Makes an arena the current one; the text says why not.
std::string start(const char* log, const char* plan, const arena::Settings& settings) {
  if (current.load() != nullptr) {
    return serving.load() ? "an arena is in use already"
                          : "blocks of the last plan are still alive: free them first";
  }
  auto* made = new Arena(settings);
  if (plan != nullptr) {
    arena::Plan read;
    const std::string wrong = arena::read_plan(plan, read);
    if (!wrong.empty()) return "plan " + std::string(plan) + ": " + wrong;
    const auto bytes = read.bytes;
    if (settings.budget != 0 && bytes > settings.budget) {
      return "plan " + std::string(plan) + " needs " + std::to_string(bytes) +
             " bytes, and the budget is " + std::to_string(settings.budget);
    }
    if (!made->use(std::move(read))) return "no " + std::to_string(bytes) + " bytes of memory";
  }
  if (log != nullptr) made->record(log);
  static std::once_flag once;
  std::call_once(once, [] { pthread_atfork(before_fork, after_fork, after_fork_in_child); });
  real();
  current.store(made, std::memory_order_release);
  serving.store(true);
  if (arena::preloaded()) return "";
  const int slots = arena::install("/jaxlib/", kHooks, sizeof kHooks / sizeof *kHooks);
  if (slots > 0) return "";
  serving.store(false);
  current.store(nullptr);
  return slots == 0 ? "jaxlib is not loaded, or imports none of the functions: import jax first"
                    : "the slots of jaxlib cannot be written";
}

const char* variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == '\0' ? nullptr : value;
}

std::uint64_t number(const char* name, std::uint64_t otherwise) {
  const char* value = variable(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

__attribute__((constructor)) void begin() {
  real();
  const char *log = variable("LOOMAX_ARENA_LOG"), *plan = variable("LOOMAX_ARENA_PLAN");
  const std::uint64_t budget = number("LOOMAX_ARENA_BUDGET", 0);
  if (!arena::preloaded() || (log == nullptr && plan == nullptr && budget == 0)) return;
  const std::string wrong =
      start(log, plan,
            {number("LOOMAX_ARENA_THRESHOLD", 1 << 16), budget, number("LOOMAX_ARENA_HUGE", 1) != 0,
             number("LOOMAX_ARENA_CHECK", 0) != 0, true});
  if (!wrong.empty()) dprintf(2, "loomax arena: %s; all memory comes from libc\n", wrong.c_str());
}

__attribute__((destructor)) void end() {
  Arena* arena = current.load();
  if (arena != nullptr && serving.load() && arena->reports()) arena->report();
}

}  // namespace

extern "C" {

int posix_memalign(void** out, std::size_t alignment, std::size_t size) noexcept {
  return hook_posix_memalign(out, alignment, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  return hook_aligned_alloc(alignment, size);
}
void* realloc(void* pointer, std::size_t size) noexcept { return hook_realloc(pointer, size); }
void free(void* pointer) noexcept { hook_free(pointer); }

// The text of what is wrong goes to `error`; 0: started.
int loomax_arena_start(const char* log, const char* plan, std::uint64_t threshold,
                       std::uint64_t budget, int huge_pages, int check, int report, char* error,
                       std::size_t error_bytes) {
  const std::string wrong =
      start(log, plan, {threshold, budget, huge_pages != 0, check != 0, report != 0});
  std::snprintf(error, error_bytes, "%s", wrong.c_str());
  return wrong.empty() ? 0 : 1;
}

// 0: none is in use.
int loomax_arena_counts(arena::Counts* out) {
  Arena* arena = current.load();
  if (arena == nullptr) return 0;
  *out = arena->counts();
  return 1;
}

// Restores the slots; those of `free` only with the last block of the plan. Returns how many live.
std::uint64_t loomax_arena_stop() {
  Arena* arena = current.load();
  if (arena == nullptr || !serving.exchange(false)) return 0;
  arena::restore(Kind::kAllocate);
  const std::uint64_t live = arena->close();
  retire(arena);
  return live;
}

int loomax_arena_slots() { return arena::installed(); }
int loomax_arena_preloaded() { return arena::preloaded(); }

// For tests: whether ranges [low, high) are disjoint, as the check on every event asks.
int loomax_arena_disjoint(std::uint64_t count, const std::uint64_t* lows,
                          const std::uint64_t* highs) {
  std::vector<arena::Region::Place> places;
  for (std::uint64_t i = 0; i < count; ++i) places.push_back({lows[i], highs[i], 0, 0});
  return arena::disjoint(places.data(), count);
}
}
