// SPDX-License-Identifier: Apache-2.0

// What this CPU can execute, and which of the compiled instruction sets that allows.
#pragma once

#include <array>

namespace bittern {

// The numbers cross the boundary to Python. Those of ARM start apart from those of x86, so that either can
// grow.
enum class Isa : int { scalar = 0, avx2 = 1, avx512 = 2, avx512bw = 3, amx = 4, neon = 16 };

struct CpuFeature {
  const char* name;
  bool present;  // the CPU has it and the operating system saves its registers
};

constexpr int kFeatureCount = 14;
using CpuFeatures = std::array<CpuFeature, kFeatureCount>;

const CpuFeatures& cpu_features();

// Compiled into this build and executable here.
bool isa_available(Isa isa);
const char* isa_name(Isa isa);

// VDPBF16PS, which not every CPU with the AVX-512 of this library has. Emulated in the test-only build.
bool has_avx512_bf16();

// SDOT, which the 8-bit products of Isa::neon use where it is there.
bool has_neon_dotprod();

// Narrowest first.
constexpr std::array<Isa, 6> kIsas = {Isa::scalar, Isa::avx2, Isa::avx512bw,
                                      Isa::avx512, Isa::amx,  Isa::neon};

// Two sets have kernels of their own in binary_conv2d alone; this is the set whose kernels all other ops use
// there.
static constexpr inline Isa common_isa(Isa isa) {
  if (isa == Isa::avx512bw) return Isa::avx2;
  return isa == Isa::amx ? Isa::avx512 : isa;
}

}  // namespace bittern
