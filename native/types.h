// SPDX-License-Identifier: Apache-2.0

// Names that every native file uses: integer widths, element types, one division.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bittern {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i32 = std::int32_t;
using i64 = std::int64_t;

// Element types of the Python side, by the code that crosses the boundary.
enum class DType : int { f32 = 0, f64 = 1, f16 = 2, bf16 = 3, i32 = 4 };

// Bits of the two 16-bit float formats; only their widening to float32 is ever needed.
struct f16 {
  u16 bits;
};
struct bf16 {
  u16 bits;
};

constexpr i64 kWordBits = 64;

// Before a loop over registers, which must leave no loop behind: an array that is indexed at run time lives
// in memory.
#if defined(__clang__)
#define BITTERN_UNROLL _Pragma("clang loop unroll(full)")
#else
#define BITTERN_UNROLL _Pragma("GCC unroll 16")
#endif

// For parts of an inner loop that must stay in registers, which a call would spill.
#define BITTERN_INLINE inline __attribute__((always_inline))

// `static`, because a kernel file must not emit a weak symbol that a file for a narrower CPU could link to.
static constexpr inline i64 ceil_div(i64 a, i64 b) {
  return (a + b - 1) / b;
}
static constexpr inline i64 round_up(i64 a, i64 b) {
  return ceil_div(a, b) * b;
}
static constexpr inline i64 smaller(i64 a, i64 b) {
  return a < b ? a : b;
}
static constexpr inline i64 larger(i64 a, i64 b) {
  return a > b ? a : b;
}

}  // namespace bittern
