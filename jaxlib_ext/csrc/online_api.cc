// The allocator as plain C functions: what ctypes calls. No exception crosses these lines.

#include <iterator>
#include <utility>

#include "online.h"

using loomax::online::kNever;
using loomax::online::kNone;
using loomax::online::Online;
using loomax::online::Planned;

namespace {

// What a call returns in place of an address.
constexpr std::int64_t kNoRoom = -1, kLive = -2, kNotLive = -3, kFailed = -4;

std::int64_t allocate(Online& online, std::int64_t id, std::int64_t size) try {
  if (online.live(id)) return kLive;
  const std::int64_t low = online.malloc(id, size);
  return low == kNone ? kNoRoom : low;
} catch (...) {
  return kFailed;
}

std::int64_t release(Online& online, std::int64_t id) try {
  if (!online.live(id)) return kNotLive;
  online.free(id);
  return 0;
} catch (...) {
  return kFailed;
}

}  // namespace

extern "C" {

// records: birth, death, offset, padded size and alignment of each. settings: begin and end of an
// iteration, alignment, capacity (below 0: none), whether it learns. Null: out of memory.
void* loomax_online_new(std::int64_t count, const std::int64_t* records,
                        const std::int64_t* settings) try {
  std::vector<Planned> planned;
  for (const std::int64_t* r = records; r != records + 5 * count; r += 5) {
    planned.push_back({r[0], r[1], r[2], r[3], r[4]});
  }
  const std::int64_t capacity = settings[3] < 0 ? kNever : settings[3];
  return new Online(std::move(planned),
                    {settings[0], settings[1], settings[2], capacity, settings[4] != 0});
} catch (...) {
  return nullptr;
}

void loomax_online_delete(void* online) { delete static_cast<Online*>(online); }

std::int64_t loomax_online_malloc(void* online, std::int64_t id, std::int64_t size) {
  return allocate(*static_cast<Online*>(online), id, size);
}

std::int64_t loomax_online_free(void* online, std::int64_t id) {
  return release(*static_cast<Online*>(online), id);
}

// Events (id, size), of which a size below 0 frees; what each returned, and what was reserved at
// most. Returns how many were done: all, or those before the first that is wrong. To free what
// found no room is nothing.
std::int64_t loomax_online_replay(void* handle, std::int64_t count, const std::int64_t* ids,
                                  const std::int64_t* sizes, std::int64_t* found) {
  Online& online = *static_cast<Online*>(handle);
  std::vector<char> refused;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::size_t id = ids[i];
    if (sizes[i] >= 0) {
      found[i] = allocate(online, ids[i], sizes[i]);
      if (found[i] == kNoRoom && id >= refused.size()) refused.resize(id + 1);
      if (id < refused.size()) refused[id] = found[i] == kNoRoom;
    } else if (id < refused.size() && refused[id]) {
      found[i] = refused[id] = 0;
    } else {
      found[i] = release(online, ids[i]);
    }
    if (found[i] < kNoRoom) return i;
  }
  return count;
}

// out: reserved, allocated, peak, where the last refused request would end, hits, gaps, fallback,
// missed, growth.
void loomax_online_state(const void* handle, std::int64_t* out) {
  const Online& online = *static_cast<const Online*>(handle);
  const auto& counts = online.counts;
  const std::int64_t state[] = {online.reserved, online.allocated, online.peak,
                                online.wanted,   counts.hits,      counts.gaps,
                                counts.fallback, counts.missed,    counts.growth};
  std::copy(std::begin(state), std::end(state), out);
}

// A learned span, or a known death, of a buffer that is not planned.
int loomax_online_predict(void* online, std::int64_t id, std::int64_t time) try {
  static_cast<Online*>(online)->predict(id, time);
  return 0;
} catch (...) {
  return 1;
}

// Predictions of buffers [first, first + count); the least number where there is none.
void loomax_online_predictions(const void* online, std::int64_t first, std::int64_t count,
                               std::int64_t* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] = static_cast<const Online*>(online)->predicted(first + i);
  }
}

}  // extern "C"
