// SPDX-License-Identifier: Apache-2.0
#include "isa.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace bittern {
namespace {

using u32 = std::uint32_t;
using u64 = std::uint64_t;

// Where a CPU says what it has: words of CPUID by leaf and register, and Linux's words for ARM.
enum Word { leaf1_c, leaf7_b, leaf7_c, leaf7_d, leaf7_1_a, arm_hwcap, arm_hwcap2, kWords };

// The registers that the operating system must save for a feature: bits of XCR0.
constexpr u64 kNone = 0, kYmm = 0x06, kZmm = 0xe6, kTiles = 0x60000;

struct Feature {
  const char* name;
  Word word;
  int bit;
  u64 state;
};

// Every feature that an instruction set may need, and products of bfloat16, which torch has: the one list.
constexpr Feature kFeatures[kFeatureCount] = {
    {"avx2", leaf7_b, 5, kYmm},
    {"fma", leaf1_c, 12, kYmm},
    {"avx512f", leaf7_b, 16, kZmm},
    {"avx512bw", leaf7_b, 30, kZmm},
    {"avx512vl", leaf7_b, 31, kZmm},
    {"avx512dq", leaf7_b, 17, kZmm},
    {"avx512_vpopcntdq", leaf7_c, 14, kZmm},
    {"avx512_vbmi", leaf7_c, 1, kZmm},
    {"avx512_vnni", leaf7_c, 11, kZmm},
    {"avx512_bf16", leaf7_1_a, 5, kZmm},
    {"amx_tile", leaf7_d, 24, kTiles},
    {"amx_int8", leaf7_d, 25, kTiles},
    {"neon", arm_hwcap, 1, kNone},
    {"neon_dotprod", arm_hwcap, 20, kNone},
    {"neon_bf16", arm_hwcap2, 14, kNone},
};

constexpr bool is_feature(std::string_view name) {
  for (const Feature& feature : kFeatures) {
    if (name == feature.name) return true;
  }
  return false;
}

constexpr bool all_are_features(const Needs& needs) {
  for (const char* name : needs) {
    if (name != nullptr && !is_feature(name)) return false;
  }
  return true;
}

constexpr bool needs_are_features() {
  for (const InstructionSet& set : kInstructionSets) {
    if (!all_are_features(set.needs)) return false;
  }
  for (const PartOfSet& part : kParts) {
    if (!all_are_features(part.needs)) return false;
  }
  return true;
}
static_assert(needs_are_features(), "NEEDS of an instruction set names no row of kFeatures");

// What the CPU and the operating system say.
struct Words {
  u32 value[kWords] = {};
  u64 saved = 0;  // XCR0
};

bool bit(u32 word, int index) {
  return (word >> index) & 1u;
}

#if defined(__x86_64__) || defined(__i386__)

// XCR0: the register sets that the operating system saves on a context switch.
u64 enabled_state() {
  u32 low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (u64{high} << 32) | low;
}

// Linux saves the tiles only of a process that has asked for it; the answer holds for all of its threads.
bool tiles_permitted() {
#if defined(__x86_64__) && defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

struct Cpuid {
  u32 a = 0, b = 0, c = 0, d = 0;
  Cpuid(u32 leaf, u32 subleaf) { __get_cpuid_count(leaf, subleaf, &a, &b, &c, &d); }
};

Words read_words() {
  const Cpuid basic(1, 0), extended(7, 0), more(7, 1);
  Words words;
  constexpr int kOsxsave = 27;
  if (!bit(basic.c, kOsxsave)) return words;
  words.value[leaf1_c] = basic.c;
  words.value[leaf7_b] = extended.b;
  words.value[leaf7_c] = extended.c;
  words.value[leaf7_d] = extended.d;
  words.value[leaf7_1_a] = more.a;
  words.saved = enabled_state();
  // The AVX2 kernels also use POPCNT, BMI2 and F16C, which every CPU with AVX2 so far has.
  constexpr int kPopcnt = 23, kF16c = 29, kBmi2 = 8, kAvx2 = 5;
  if (!bit(basic.c, kPopcnt) || !bit(basic.c, kF16c) || !bit(extended.b, kBmi2))
    words.value[leaf7_b] &= ~(1u << kAvx2);
  constexpr int kAmxTile = 24;
  const bool tiles = (words.saved & kTiles) == kTiles && bit(extended.d, kAmxTile);
  if (tiles && !tiles_permitted()) words.saved &= ~kTiles;
  return words;
}

#elif defined(__aarch64__)

Words read_words() {
  Words words;
#if defined(__linux__)
  words.value[arm_hwcap] = static_cast<u32>(getauxval(AT_HWCAP));
  words.value[arm_hwcap2] = static_cast<u32>(getauxval(AT_HWCAP2));
#else
  words.value[arm_hwcap] = 1u << 1;  // NEON is part of the architecture
#if defined(__ARM_FEATURE_DOTPROD)
  words.value[arm_hwcap] |= 1u << 20;  // the compiler was told so for the whole build
#endif
#if defined(__ARM_FEATURE_BF16)
  words.value[arm_hwcap2] |= 1u << 14;
#endif
#endif
  return words;
}

#else

Words read_words() {
  return {};
}

#endif

CpuFeatures detect() {
  const Words words = read_words();
  CpuFeatures found{};
  for (std::size_t i = 0; i < found.size(); ++i) {
    const Feature& f = kFeatures[i];
    found[i] = {f.name, (words.saved & f.state) == f.state && bit(words.value[f.word], f.bit)};
  }
  return found;
}

bool cpu_has(std::string_view name) {
  for (const CpuFeature& feature : cpu_features()) {
    if (name == feature.name) return feature.present;
  }
  return false;
}

bool cpu_has(const Needs& needs) {
  for (const char* name : needs) {
    if (name != nullptr && !cpu_has(std::string_view(name))) return false;
  }
  return true;
}

// Asked in every call of an op, so looked up once.
template <class Row, std::size_t n>
std::array<bool, n> available_rows(const Row (&rows)[n]) {
  std::array<bool, n> found{};
  for (std::size_t i = 0; i < n; ++i) found[i] = cpu_has(rows[i].needs);
  return found;
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

bool has_avx512_bf16() {
#if defined(BITTERN_EMULATE_AVX512)
  return true;
#else
  static const bool present = cpu_has("avx512_bf16");
  return present;
#endif
}

bool isa_available(Isa isa) {
  static const auto runs = available_rows(kInstructionSets);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (kInstructionSets[i].isa == isa) return kInstructionSets[i].compiled && runs[i];
  }
  return false;
}

bool part_available(Part part) {
  static const auto runs = available_rows(kParts);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (kParts[i].part == part) return runs[i];
  }
  return false;
}

Isa default_isa() {
  Isa widest = Isa::scalar;
  for (const InstructionSet& set : kInstructionSets) {
    if (isa_available(set.isa) && !set.on_request) widest = set.isa;
  }
  return widest;
}

const char* isa_name(Isa isa) {
  for (const InstructionSet& set : kInstructionSets) {
    if (set.isa == isa) return set.name;
  }
  return "unknown";
}

}  // namespace bittern
