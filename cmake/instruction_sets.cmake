# SPDX-License-Identifier: Apache-2.0

# The instruction sets of the native kernels: the one list. The build compiles the kernels by it, native/isa.h makes the
# C++ names of it, native/dispatch.h the choice of kernels, and Python asks for it (_native.instruction_sets()).
#
# instruction_set(name [NUMBER n] [PROCESSOR p] [BEHIND set] [WITHIN set] [ONLY ops] [FLAGS flags] [NEEDS features] [ON_REQUEST])
#   NUMBER     that stands for the set between Python and C++; kept for good
#   PROCESSOR  any, x86 or arm; that of the set behind where left out
#   BEHIND     the narrower set that this one contains: its flags and its needs come first, and its kernels serve the ops
#              that have none for this set
#   WITHIN     in place of a number: a part of that set, which some of its CPUs have; nobody chooses it by name
#   ONLY       the ops that have kernels for this set; all of them where left out
#   FLAGS      of the compiler
#   NEEDS      features of the CPU, by their names in native/isa.cpp
#   ON_REQUEST used only where BITTERN_ISA asks for it
# Narrowest first within each kind of processor.
set(INSTRUCTION_SETS)
function(instruction_set name)
  cmake_parse_arguments(PARSE_ARGV 1 it "ON_REQUEST" "NUMBER;PROCESSOR;BEHIND;WITHIN" "ONLY;FLAGS;NEEDS")
  set(behind ${it_BEHIND}${it_WITHIN})
  if(behind)
    list(PREPEND it_FLAGS ${FLAGS_${behind}})
    list(PREPEND it_NEEDS ${NEEDS_${behind}})
    set(it_PROCESSOR ${PROCESSOR_${behind}})
  endif()
  foreach(field IN ITEMS NUMBER PROCESSOR BEHIND WITHIN ONLY FLAGS NEEDS ON_REQUEST)
    set(${field}_${name} "${it_${field}}" PARENT_SCOPE)
  endforeach()
  set(INSTRUCTION_SETS ${INSTRUCTION_SETS} ${name} PARENT_SCOPE)
endfunction()

set(AVX512BW_FLAGS -mavx512f -mavx512bw -mavx512vl -mavx512dq)
set(AVX512BW_NEEDS avx512f avx512bw avx512vl avx512dq)
set(AVX512_FLAGS -mavx512vpopcntdq -mavx512vbmi -mavx512vnni)
set(AVX512_NEEDS avx512_vpopcntdq avx512_vbmi avx512_vnni)
set(AMX_FLAGS -mamx-tile -mamx-int8)
set(AMX_NEEDS amx_tile amx_int8)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC PR 105593: the compiler warns about its own AVX-512 header.
  list(APPEND AVX512BW_FLAGS -Wno-uninitialized -Wno-maybe-uninitialized)
endif()
if(BITTERN_EMULATE_AVX512)
  # The AVX-512 sources compiled to AVX2 instructions. GCC takes SIMDe's element loops for endless ones and warns of an
  # iteration 2^62 that no caller reaches.
  set(AVX512BW_FLAGS -Wno-psabi -Wno-aggressive-loop-optimizations)
  set(AVX512BW_NEEDS)
  set(AVX512_FLAGS)
  set(AVX512_NEEDS)
endif()
if(BITTERN_EMULATE_AMX)
  set(AMX_FLAGS) # tiles in plain C++
  set(AMX_NEEDS)
endif()

# At -O3 GCC takes half a minute to unroll the portable loops of a single op, which no usual CPU runs.
instruction_set(scalar NUMBER 0 PROCESSOR any FLAGS -O2)
instruction_set(avx2 NUMBER 1 PROCESSOR x86 FLAGS -mavx2 -mfma -mpopcnt -mbmi2 -mf16c NEEDS avx2 fma)
instruction_set(avx512bw NUMBER 3 BEHIND avx2 ONLY binary_conv2d FLAGS ${AVX512BW_FLAGS} NEEDS ${AVX512BW_NEEDS})
instruction_set(avx512 NUMBER 2 BEHIND avx512bw FLAGS ${AVX512_FLAGS} NEEDS ${AVX512_NEEDS})
instruction_set(amx NUMBER 4 BEHIND avx512 ONLY binary_conv2d FLAGS ${AMX_FLAGS} NEEDS ${AMX_NEEDS} ON_REQUEST)
instruction_set(neon NUMBER 16 PROCESSOR arm NEEDS neon) # part of every 64-bit ARM
instruction_set(neon_dotprod WITHIN neon ONLY linear_8bit linear_groups integer_conv integer_recurrent FLAGS -march=armv8.2-a+dotprod NEEDS neon_dotprod)
