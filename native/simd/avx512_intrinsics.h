// SPDX-License-Identifier: Apache-2.0

// The intrinsics of AVX-512.
//
// Only those are used that SIMDe 0.7.4 implements, or that simde_gaps.h adds: a test build
// (BITTERN_EMULATE_AVX512) compiles the same sources to AVX2 instructions, so that their results are checked
// on every machine.
#pragma once

#if defined(BITTERN_EMULATE_AVX512)
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#include "simde_gaps.h"
#endif
#include <immintrin.h>
