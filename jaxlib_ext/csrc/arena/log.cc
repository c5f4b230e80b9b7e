#include "log.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>

namespace arena {
namespace {

long thread() {
  static thread_local const long number = syscall(SYS_gettid);
  return number;
}

}  // namespace

void Log::open(const char* path, std::uint64_t threshold) {
  std::snprintf(path_, sizeof path_, "%s", path);
  threshold_ = threshold;
  used_ = 0;
  file_ = -1;
  on_ = true;
}

bool Log::create() {
  constexpr int kHow = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
  file_ = ::open(path_, kHow, 0666);
  if (file_ < 0 && errno == EEXIST) {
    const std::size_t length = std::strlen(path_);
    std::snprintf(path_ + length, sizeof path_ - length, ".%d", static_cast<int>(getpid()));
    file_ = ::open(path_, kHow, 0666);
  }
  if (file_ >= 0) return true;
  dprintf(2, "loomax arena: cannot write %s: %s; nothing is recorded\n", path_,
          std::strerror(errno));
  on_ = false;
  return false;
}

void Log::add(const char* line, int length) {
  if (!on_ || length <= 0) return;
  if (file_ < 0) {
    if (!create()) return;
    char head[128];
    const int size = std::snprintf(head, sizeof head,
                                   "{\"loomax_arena_log\": 1, \"threshold\": %" PRIu64 "}\n",
                                   threshold_);
    add(head, size);
  }
  if (used_ + static_cast<std::size_t>(length) > sizeof text_) flush();
  std::memcpy(text_ + used_, line, static_cast<std::size_t>(length));
  used_ += static_cast<std::size_t>(length);
}

void Log::allocated(std::uint64_t id, std::size_t size, std::size_t alignment) {
  char line[192];
  add(line, std::snprintf(line, sizeof line,
                          "{\"op\": \"alloc\", \"id\": %" PRIu64
                          ", \"size\": %zu, \"alignment\": %zu, \"thread\": %ld}\n",
                          id, size, alignment, thread()));
}

void Log::freed(std::uint64_t id) {
  char line[128];
  add(line, std::snprintf(line, sizeof line,
                          "{\"op\": \"free\", \"id\": %" PRIu64 ", \"thread\": %ld}\n", id,
                          thread()));
}

void Log::flush() {
  std::size_t done = 0;
  while (file_ >= 0 && done < used_) {
    const ssize_t wrote = write(file_, text_ + done, used_ - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) {
      dprintf(2, "loomax arena: cannot write %s: %s; the log ends here\n", path_,
              std::strerror(errno));
      on_ = false;
      break;
    }
    done += static_cast<std::size_t>(wrote);
  }
  used_ = 0;
}

}  // namespace arena
