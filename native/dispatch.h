// SPDX-License-Identifier: Apache-2.0

// From an instruction set to the kernels of an op. An op has a struct of functions; each set that has kernels
// of it defines one such object in its own namespace. A line at the end of the op's kernel.h,
//
//   BITTERN_DISPATCH(sign, SignKernels)
//
// declares all of these objects, called sign_kernels, and the function sign_kernels(isa) that chooses one.
// Which sets those are is written by CMake (instruction_sets.h).
#pragma once

#include "isa.h"

// clang-format off
#define BITTERN_DECLARE_KERNELS(set, of, op, Kernels) namespace of { extern const Kernels op##_kernels; }
#define BITTERN_CHOOSE_WHOLE(set, of, op, Kernels) \
  if (isa == Isa::set) return of::op##_kernels;
#define BITTERN_CHOOSE_PART(set, part, op, Kernels) \
  if (isa == Isa::set && part_available(Part::part)) return part::op##_kernels;

// The last line is never reached: isa_available() is false for a set that this build lacks.
#define BITTERN_DISPATCH(op, Kernels)                                                 \
  BITTERN_CHOICES_##op(BITTERN_DECLARE_KERNELS, BITTERN_DECLARE_KERNELS, op, Kernels) \
  static inline const Kernels& op##_kernels(Isa isa) {                                \
    BITTERN_CHOICES_##op(BITTERN_CHOOSE_WHOLE, BITTERN_CHOOSE_PART, op, Kernels)      \
    return scalar::op##_kernels;                                                      \
  }
// clang-format on
