// SPDX-License-Identifier: Apache-2.0
#include "isa.h"

#include <cstdint>

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

// Indices into CpuFeatures.
enum Feature {
  avx2,
  fma,
  avx512f,
  avx512bw,
  avx512vl,
  avx512dq,
  avx512_vpopcntdq,
  avx512_vbmi,
  avx512_vnni,
  avx512_bf16,
  amx_tile,
  amx_int8,
  neon,
  neon_dotprod
};

// In the order of the names above.
constexpr CpuFeatures kNothing = {{{"avx2", false},
                                   {"fma", false},
                                   {"avx512f", false},
                                   {"avx512bw", false},
                                   {"avx512vl", false},
                                   {"avx512dq", false},
                                   {"avx512_vpopcntdq", false},
                                   {"avx512_vbmi", false},
                                   {"avx512_vnni", false},
                                   {"avx512_bf16", false},
                                   {"amx_tile", false},
                                   {"amx_int8", false},
                                   {"neon", false},
                                   {"neon_dotprod", false}}};

#if defined(__x86_64__) || defined(__i386__)

bool bit(std::uint32_t word, int index) {
  return (word >> index) & 1u;
}

// XCR0: the register sets that the operating system saves on a context switch.
std::uint64_t enabled_state() {
  std::uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (std::uint64_t{high} << 32) | low;
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
  std::uint32_t a = 0, b = 0, c = 0, d = 0;
  Cpuid(std::uint32_t leaf, std::uint32_t subleaf) { __get_cpuid_count(leaf, subleaf, &a, &b, &c, &d); }
};

CpuFeatures detect() {
  CpuFeatures f = kNothing;
  const Cpuid basic(1, 0), extended(7, 0), more(7, 1);
  constexpr int kOsxsave = 27;
  if (!bit(basic.c, kOsxsave)) return f;
  constexpr std::uint64_t kYmm = 0x06, kZmm = 0xe6, kTiles = 0x60000;
  const std::uint64_t state = enabled_state();
  const bool ymm = (state & kYmm) == kYmm, zmm = (state & kZmm) == kZmm;
  const bool tiles = (state & kTiles) == kTiles && bit(extended.d, 24) && tiles_permitted();
  // The AVX2 kernels also use POPCNT, BMI2 and F16C, which every CPU with AVX2 so far has.
  const bool companions = bit(basic.c, 23) && bit(basic.c, 29) && bit(extended.b, 8);
  f[avx2].present = ymm && companions && bit(extended.b, 5);
  f[fma].present = ymm && bit(basic.c, 12);
  f[avx512f].present = zmm && bit(extended.b, 16);
  f[avx512dq].present = zmm && bit(extended.b, 17);
  f[avx512bw].present = zmm && bit(extended.b, 30);
  f[avx512vl].present = zmm && bit(extended.b, 31);
  f[avx512_vbmi].present = zmm && bit(extended.c, 1);
  f[avx512_bf16].present = zmm && bit(more.a, 5);
  f[avx512_vnni].present = zmm && bit(extended.c, 11);
  f[avx512_vpopcntdq].present = zmm && bit(extended.c, 14);
  f[amx_tile].present = tiles;
  f[amx_int8].present = tiles && bit(extended.d, 25);
  return f;
}

#elif defined(__aarch64__)

bool cpu_has_dotprod() {
#if defined(__linux__)
  constexpr unsigned long kAsimdDotProduct = 1ul << 20;  // HWCAP_ASIMDDP
  return (getauxval(AT_HWCAP) & kAsimdDotProduct) != 0;
#elif defined(__ARM_FEATURE_DOTPROD)
  return true;  // the compiler was told so for the whole build
#else
  return false;
#endif
}

CpuFeatures detect() {
  CpuFeatures f = kNothing;
  f[neon].present = true;  // part of the architecture
  f[neon_dotprod].present = cpu_has_dotprod();
  return f;
}

#else

CpuFeatures detect() {
  return kNothing;
}

#endif

bool can_run_avx2(const CpuFeatures& f) {
  return f[avx2].present && f[fma].present;
}

bool can_run_avx512bw(const CpuFeatures& f) {
#if defined(BITTERN_EMULATE_AVX512)
  return can_run_avx2(f);  // test-only build: the AVX-512 sources compiled to AVX2 instructions
#else
  return can_run_avx2(f) && f[avx512f].present && f[avx512bw].present && f[avx512vl].present &&
         f[avx512dq].present;
#endif
}

bool can_run_avx512(const CpuFeatures& f) {
#if defined(BITTERN_EMULATE_AVX512)
  return can_run_avx512bw(f);
#else
  return can_run_avx512bw(f) && f[avx512_vpopcntdq].present && f[avx512_vbmi].present &&
         f[avx512_vnni].present;
#endif
}

bool can_run_amx(const CpuFeatures& f) {
#if defined(BITTERN_EMULATE_AMX)
  return can_run_avx512(f);  // test-only build: tiles in plain C++
#else
  return can_run_avx512(f) && f[amx_tile].present && f[amx_int8].present;
#endif
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
  return cpu_features()[avx512_bf16].present;
#endif
}

bool has_neon_dotprod() {
  return cpu_features()[neon_dotprod].present;
}

bool isa_available(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      return true;
#if defined(BITTERN_X86)
    case Isa::avx2:
      return can_run_avx2(cpu_features());
    case Isa::avx512bw:
      return can_run_avx512bw(cpu_features());
    case Isa::avx512:
      return can_run_avx512(cpu_features());
    case Isa::amx:
      return can_run_amx(cpu_features());
#endif
#if defined(BITTERN_ARM)
    case Isa::neon:
      return cpu_features()[neon].present;
#endif
    default:
      (void)can_run_amx;
      return false;
  }
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      return "scalar";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512bw:
      return "avx512bw";
    case Isa::avx512:
      return "avx512";
    case Isa::amx:
      return "amx";
    case Isa::neon:
      return "neon";
  }
  return "unknown";
}

}  // namespace bittern
