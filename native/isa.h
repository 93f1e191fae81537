// SPDX-License-Identifier: Apache-2.0

// What this CPU can execute, and which of the compiled instruction sets that allows.
#pragma once

#include <array>

#include "instruction_sets.h"

namespace bittern {

struct CpuFeature {
  const char* name;
  bool present;  // the CPU has it and the operating system saves its registers
};

constexpr int kFeatureCount = 15;
using CpuFeatures = std::array<CpuFeature, kFeatureCount>;

const CpuFeatures& cpu_features();

// Compiled into this build and executable here.
bool isa_available(Isa isa);
const char* isa_name(Isa isa);

// This CPU has that part of an instruction set.
bool part_available(Part part);

// The widest set that is available and not used on request alone.
Isa default_isa();

// VDPBF16PS, which not every CPU with the AVX-512 of this library has. Emulated in the test-only build.
bool has_avx512_bf16();

}  // namespace bittern
