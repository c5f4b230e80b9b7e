#include "real.h"

#include <dlfcn.h>

#include <atomic>
#include <initializer_list>

namespace arena {
namespace {

Real found;
std::atomic<bool> ready{false};
bool searching = false;

template <typename F>
void find(F*& target, const char* name) {
  target = reinterpret_cast<F*>(dlsym(preloaded() ? RTLD_NEXT : RTLD_DEFAULT, name));
}

}  // namespace

const Real* real() {
  // The first call comes before the process has a second thread, or from `start`.
  if (ready.load(std::memory_order_acquire)) return &found;
  if (searching) return nullptr;
  searching = true;
  find(found.posix_memalign, "posix_memalign");
  find(found.aligned_alloc, "aligned_alloc");
  find(found.realloc, "realloc");
  find(found.free, "free");
  ready.store(true, std::memory_order_release);
  searching = false;
  return &found;
}

bool preloaded() {
  static const char here = 0;
  Dl_info ours{};
  if (dladdr(&here, &ours) == 0) return false;
  // A program that is not position-independent and takes the address of one of them (compilers do)
  // has an entry of its own for it, which leads back to us.
  for (const char* name : {"posix_memalign", "aligned_alloc", "realloc", "free"}) {
    Dl_info first{};
    if (dladdr(dlsym(RTLD_DEFAULT, name), &first) != 0 && first.dli_fbase == ours.dli_fbase) {
      return true;
    }
  }
  return false;
}

}  // namespace arena
