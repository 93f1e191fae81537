// SPDX-License-Identifier: Apache-2.0

// For a kernel.cpp, which CMake compiles once per instruction set with BITTERN_SET defined as the set's name:
//
//   #include BITTERN_SIMD                     "simd/avx2.h"
//   #include BITTERN_FILE(linear_8bit, dot)   "linear_8bit/dot.avx2.inl.h"
#pragma once

#if !defined(BITTERN_SET)
#error "a kernel.cpp is compiled by cmake/kernels.cmake, which says for which instruction set"
#endif

#define BITTERN_QUOTE(path) #path
#define BITTERN_PATH(path) BITTERN_QUOTE(path)
// clang-format off
#define BITTERN_SIMD BITTERN_PATH(simd/BITTERN_SET.h)
#define BITTERN_FILE(op, stem) BITTERN_PATH(op/stem.BITTERN_SET.inl.h)
// clang-format on
