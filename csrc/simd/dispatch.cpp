#include "simd/dispatch.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <stdexcept>

#ifdef SPARSECONV_AMX_SET
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "core/buffer.hpp"

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

// Whether two sets give the same bfloat16 products of whole numbers, whose sums are exact: asked of
// tiles before they are taken.
[[maybe_unused]] bool same_products(const Loops<Bf16, float>& one, const Loops<Bf16, float>& other) {
  constexpr std::int64_t rows = 40, channels = 64, width = 40;
  constexpr std::uint16_t numbers[] = {0x0000, 0x3f80, 0x4000, 0x4040, 0xbf80, 0xc000, 0x4080};
  std::vector<Bf16> x(rows * channels), w(channels * width), g(rows * width);
  std::vector<std::int32_t> run(rows);
  for (auto* values : {&x, &w, &g})
    for (std::size_t i = 0; i < values->size(); ++i) (*values)[i].bits = numbers[i * i / 3 % 7];
  for (std::int64_t r = 0; r < rows; ++r) run[r] = std::int32_t(r);
  const auto products = [&](const Loops<Bf16, float>& loops) {
    const Ready ready(loops);
    const std::int64_t wide = loops.padded(width);
    Buffer<float> packed(channels * wide), sums((rows + channels) * wide);
    std::fill_n(sums.data(), sums.size(), 0.0f);
    loops.pack(w.data(), width, 1, channels, width, packed.data());
    loops.gather_gemm(x.data(), channels, channels, packed.data(), width, run.data(), run.data(),
                      rows, 0, sums.data(), wide, nullptr, run.data(), 0, {});
    loops.gather_outer(x.data(), channels, channels, g.data(), width, width, run.data(), run.data(),
                       rows, run.data(), run.data(), 0, false, sums.data() + rows * wide, wide,
                       false);
    std::vector<float> kept;
    for (std::int64_t r = 0; r < rows + channels; ++r)
      kept.insert(kept.end(), sums.data() + r * wide, sums.data() + r * wide + width);
    return kept;
  };
  return products(one) == products(other);
}

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
          if (!same_products(list.back().bf16, list[list.size() - 2].bf16)) list.pop_back();
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
    if (!same_products(list.back().bf16, tables().front().bf16))
      throw std::logic_error("amx_emulated: wrong products");
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
