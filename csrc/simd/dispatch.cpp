#include "simd/dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#ifdef SPARSECONV_AMX_SET
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace sparseconv {
namespace baseline {
void fill(Table&);
}
#ifdef SPARSECONV_X86_SETS
namespace avx2 {
void fill(Table&);
}
namespace avx512 {
void fill(Table&);
}
#endif
#ifdef SPARSECONV_AVX512BF16_SET
namespace avx512bf16 {
void improve(Table&);
}
#endif
#ifdef SPARSECONV_AMX_SET
namespace amx {
void improve(Table&);
}
#endif
#ifdef SPARSECONV_AMX_EMULATED_SET
namespace amx_emulated {
void improve(Table&);
}
#endif

namespace {

#ifdef SPARSECONV_AMX_SET
// Whether the processor multiplies tiles of bfloat16 and the system lets this process use them:
// Linux gives their state, 8 KiB a thread, only to a process that asks.
bool tiles_permitted() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned tile = 1u << 24, bf16 = 1u << 22;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & tile) == 0 || (d & bf16) == 0) return false;
  constexpr long request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, request, tile_data) == 0;
}
#endif

const std::vector<Table>& tables() {
  static const std::vector<Table> made = [] {
    std::vector<Table> list(1);
    baseline::fill(list[0]);
#ifdef SPARSECONV_X86_SETS
    __builtin_cpu_init();
    const bool two = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (two) {
      list.emplace_back();
      avx2::fill(list.back());
    }
    if (two && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      list.emplace_back();
      avx512::fill(list.back());
#ifdef SPARSECONV_AVX512BF16_SET
      if (__builtin_cpu_supports("avx512bf16")) {
        list.push_back(list.back());
        avx512bf16::improve(list.back());
#ifdef SPARSECONV_AMX_SET
        if (tiles_permitted()) {
          list.push_back(list.back());
          amx::improve(list.back());
        }
#endif
      }
#endif
    }
#endif
    return list;
  }();
  return made;
}

// Sets that show on any machine what another would do.
const std::vector<Table>& test_tables() {
  static const std::vector<Table> made = [] {
    std::vector<Table> list;
#ifdef SPARSECONV_AMX_EMULATED_SET
    list.push_back(tables().front());
    amx_emulated::improve(list.back());
#endif
    return list;
  }();
  return made;
}

const Table* find(const std::string& name, const char* source) {
  std::string known;
  for (const Table& one : tables()) {
    if (name == one.name) return &one;
    known += (known.empty() ? "" : ", ") + std::string(one.name);
  }
  for (const Table& one : test_tables())
    if (name == one.name) return &one;
  throw std::invalid_argument(std::string(source) + ": expected one of " + known +
                              ", which this build and machine can run, found '" + name + "'");
}

std::atomic<const Table*>& chosen() {
  static std::atomic<const Table*> current = [] {
    const char* forced = std::getenv("SPARSECONV_ISA");
    return forced && *forced ? find(forced, "SPARSECONV_ISA") : &tables().back();
  }();
  return current;
}

}  // namespace

const Table& table() { return *chosen().load(std::memory_order_relaxed); }

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Table& one : tables()) names.emplace_back(one.name);
  return names;
}

void set_isa(const std::string& name) { chosen().store(find(name, "name")); }

}  // namespace sparseconv
