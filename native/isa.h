// What this CPU can execute, and which of the compiled instruction sets that allows.
#pragma once

#include <array>

namespace bittern {

enum class Isa : int { scalar = 0, avx2 = 1, avx512 = 2 };

struct CpuFeature {
  const char* name;
  bool present;  // the CPU has it and the operating system saves its registers
};

constexpr int kFeatureCount = 12;
using CpuFeatures = std::array<CpuFeature, kFeatureCount>;

const CpuFeatures& cpu_features();

// Compiled into this build and executable here.
bool isa_available(Isa isa);
const char* isa_name(Isa isa);

// VDPBF16PS, which not every CPU with the AVX-512 of this library has. Emulated in the test-only build.
bool has_avx512_bf16();

constexpr std::array<Isa, 3> kIsas = {Isa::scalar, Isa::avx2, Isa::avx512};

}  // namespace bittern
