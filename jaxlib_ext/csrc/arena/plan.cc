#include "plan.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>

namespace arena {
namespace {

constexpr std::int64_t kMost = std::int64_t{1} << 50;

bool read_text(const char* path, std::string& text) {
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  char part[1 << 14];
  ssize_t got;
  while ((got = read(file, part, sizeof part)) > 0) text.append(part, static_cast<std::size_t>(got));
  close(file);
  return got == 0;
}

// Behind `"name":`, or null.
const char* value(const std::string& text, const char* name) {
  const std::string quoted = '"' + std::string(name) + "\":";
  const auto at = text.find(quoted);
  return at == std::string::npos ? nullptr : text.c_str() + at + quoted.size();
}

// The next whole number of a list of lists; false at its end or at anything else.
bool next(const char*& at, std::int64_t& number) {
  while (*at == ' ' || *at == ',' || *at == '[' || *at == ']' || *at == '\n') ++at;
  char* end = nullptr;
  number = std::strtoll(at, &end, 10);
  const bool found = end != at;
  at = end;
  return found;
}

std::string check(const Plan& plan) {
  std::uint64_t program = 0;
  for (const Planned& request : plan.requests) {
    program += mark(request.size);
    const auto unit = request.alignment;
    if (unit == 0 || (unit & (unit - 1)) != 0) return "an alignment is no power of two";
    if (request.offset < 0) continue;
    const auto offset = static_cast<std::uint64_t>(request.offset);
    if (offset % unit != 0) return "an offset is not aligned";
    if (offset > plan.bytes || request.size > plan.bytes - offset) return "a place is outside";
  }
  return program == plan.program ? "" : "the sizes do not match the hash";
}

}  // namespace

std::uint64_t mark(std::uint64_t size) {
  // The finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
  std::uint64_t x = size + 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

std::string read_plan(const char* path, Plan& plan) {
  std::string text;
  if (!read_text(path, text)) return "it cannot be read";
  const char* bytes = value(text, "bytes");
  const char* program = value(text, "program");
  const char* list = value(text, "requests");
  if (value(text, "loomax_arena_plan") == nullptr || !bytes || !program || !list) {
    return "it is no plan of the arena";
  }
  const auto whole = std::strtoll(bytes, nullptr, 10);
  if (whole < 0 || whole > kMost) return "its bytes are out of range";
  plan.bytes = static_cast<std::uint64_t>(whole);
  while (*program == ' ' || *program == '"') ++program;
  plan.program = std::strtoull(program, nullptr, 16);
  plan.path = path;
  std::int64_t size, offset, alignment;
  while (next(list, size)) {
    if (!next(list, offset) || !next(list, alignment)) return "it ends within a request";
    if (size < 0 || size > kMost || alignment < 1) return "a request is out of range";
    plan.requests.push_back({static_cast<std::uint64_t>(size), offset,
                             static_cast<std::uint64_t>(alignment)});
  }
  if (plan.requests.empty()) return "it has no requests";
  return check(plan);
}

}  // namespace arena
