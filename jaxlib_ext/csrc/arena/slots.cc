#include "slots.h"

#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>

namespace arena {
namespace {

#if defined(__x86_64__)
constexpr std::uint64_t kJump = R_X86_64_JUMP_SLOT, kData = R_X86_64_GLOB_DAT, kWord = R_X86_64_64;
#elif defined(__aarch64__)
constexpr std::uint64_t kJump = R_AARCH64_JUMP_SLOT, kData = R_AARCH64_GLOB_DAT,
                        kWord = R_AARCH64_ABS64;
#else
#error "the arena knows the relocations of x86-64 and aarch64 only"
#endif

struct Slot {
  void** place;
  void* before;
  void* after;
  bool read_only;
  Kind kind;
  bool set;
};

constexpr int kMost = 256;
Slot slots[kMost];
int count = 0;

struct Search {
  const char* library;
  const Hook* hooks;
  std::size_t hook_count;
  bool full;
};

struct Tables {
  const ElfW(Rela) * jump = nullptr;
  std::size_t jump_bytes = 0;
  const ElfW(Rela) * data = nullptr;
  std::size_t data_bytes = 0;
  const ElfW(Sym) * symbols = nullptr;
  const char* names = nullptr;
};

Tables tables_of(const dl_phdr_info& library, const ElfW(Phdr) & dynamic) {
  Tables found;
  auto* entry = reinterpret_cast<const ElfW(Dyn)*>(library.dlpi_addr + dynamic.p_vaddr);
  for (; entry->d_tag != DT_NULL; ++entry) {
    // glibc has turned these into addresses.
    const auto pointer = entry->d_un.d_ptr;
    if (entry->d_tag == DT_JMPREL) found.jump = reinterpret_cast<const ElfW(Rela)*>(pointer);
    if (entry->d_tag == DT_PLTRELSZ) found.jump_bytes = entry->d_un.d_val;
    if (entry->d_tag == DT_RELA) found.data = reinterpret_cast<const ElfW(Rela)*>(pointer);
    if (entry->d_tag == DT_RELASZ) found.data_bytes = entry->d_un.d_val;
    if (entry->d_tag == DT_SYMTAB) found.symbols = reinterpret_cast<const ElfW(Sym)*>(pointer);
    if (entry->d_tag == DT_STRTAB) found.names = reinterpret_cast<const char*>(pointer);
  }
  return found;
}

// Whether the linker has made the page of a slot read-only: whole pages of the RELRO part.
bool protected_slot(const dl_phdr_info& library, ElfW(Addr) offset) {
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  for (int i = 0; i < library.dlpi_phnum; ++i) {
    const auto& part = library.dlpi_phdr[i];
    if (part.p_type != PT_GNU_RELRO) continue;
    const std::uintptr_t begin = library.dlpi_addr + part.p_vaddr;
    const std::uintptr_t end = (begin + part.p_memsz) & ~(page - 1);
    const std::uintptr_t place = library.dlpi_addr + offset;
    if (place >= (begin & ~(page - 1)) && place < end) return true;
  }
  return false;
}

void collect(const dl_phdr_info& library, const Tables& from, const ElfW(Rela) * table,
             std::size_t bytes, Search& search) {
  for (std::size_t i = 0; table != nullptr && i < bytes / sizeof(*table); ++i) {
    const auto type = ELF64_R_TYPE(table[i].r_info);
    if (type != kJump && type != kData && type != kWord) continue;
    if (type == kWord && table[i].r_addend != 0) continue;
    const char* name = from.names + from.symbols[ELF64_R_SYM(table[i].r_info)].st_name;
    for (std::size_t h = 0; h < search.hook_count; ++h) {
      const Hook& hook = search.hooks[h];
      if (std::strcmp(name, hook.name) != 0) continue;
      if (count == kMost) {
        search.full = true;
        return;
      }
      auto** place = reinterpret_cast<void**>(library.dlpi_addr + table[i].r_offset);
      slots[count++] = {place, *place, hook.address,
                        protected_slot(library, table[i].r_offset),
                        hook.allocates ? Kind::kAllocate : Kind::kFree, false};
    }
  }
}

int visit(dl_phdr_info* library, std::size_t, void* data) {
  auto& search = *static_cast<Search*>(data);
  if (std::strstr(library->dlpi_name, search.library) == nullptr) return 0;
  for (int i = 0; i < library->dlpi_phnum; ++i) {
    if (library->dlpi_phdr[i].p_type != PT_DYNAMIC) continue;
    const Tables found = tables_of(*library, library->dlpi_phdr[i]);
    if (found.symbols == nullptr || found.names == nullptr) continue;
    collect(*library, found, found.jump, found.jump_bytes, search);
    collect(*library, found, found.data, found.data_bytes, search);
  }
  return 0;
}

// What the linker protected after it wrote it (RELRO) is opened for one write.
bool write(const Slot& slot, void* value) {
  const auto size = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  auto* page = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(slot.place) & ~(size - 1));
  if (slot.read_only && mprotect(page, size, PROT_READ | PROT_WRITE) != 0) return false;
  __atomic_store_n(slot.place, value, __ATOMIC_RELEASE);
  return !slot.read_only || mprotect(page, size, PROT_READ) == 0;
}

}  // namespace

int install(const char* library, const Hook* hooks, std::size_t hook_count) {
  count = 0;
  Search search{library, hooks, hook_count, false};
  dl_iterate_phdr(visit, &search);
  if (search.full) return -1;
  // What frees first: from then on a block of either origin can be freed.
  for (const Kind kind : {Kind::kFree, Kind::kAllocate}) {
    for (int i = 0; i < count; ++i) {
      if (slots[i].kind != kind) continue;
      if (!write(slots[i], slots[i].after)) {
        restore(Kind::kAllocate);
        restore(Kind::kFree);
        return -1;
      }
      slots[i].set = true;
    }
  }
  return count;
}

bool restore(Kind kind) {
  bool good = true;
  for (int i = 0; i < count; ++i) {
    if (!slots[i].set || slots[i].kind != kind) continue;
    slots[i].set = !write(slots[i], slots[i].before);
    good = good && !slots[i].set;
  }
  return good;
}

int installed() {
  int set = 0;
  for (int i = 0; i < count; ++i) set += slots[i].set;
  return set;
}

}  // namespace arena
