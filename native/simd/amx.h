// SPDX-License-Identifier: Apache-2.0

// AMX tiles of signed bytes, two by two: the eight tiles hold a 2x2 square of sums, two of pixels and two of
// weights. A tile has 16 rows of 64 bytes.
#pragma once

#include "avx512_intrinsics.h"

#include "../types.h"

#if defined(BITTERN_EMULATE_AMX)
#include "amx_emulated.h"
#endif

namespace bittern::amx {

#include "ymm.inl.h"

#include "zmm.inl.h"

using i8 = signed char;

constexpr i64 kTileRows = 16, kTileRowBytes = 64, kTileBytes = kTileRows * kTileRowBytes;

// One byte per bit, from bit 0 on: +1 where it is set, else -1.
static inline void expand_signs(u64 bits, i8* out) {
  _mm512_storeu_si512(out, _mm512_mask_blend_epi8(bits, _mm512_set1_epi8(-1), _mm512_set1_epi8(1)));
}
static inline void fill_64(i8 value, i8* out) {
  _mm512_storeu_si512(out, _mm512_set1_epi8(value));
}

// What LDTILECFG reads.
struct alignas(64) TileConfig {
  u8 palette, start_row, reserved[14];
  u16 row_bytes[16];
  u8 rows[16];
};

// All eight tiles at their full size. Static, because GCC believes that LDTILECFG reads eight bytes only.
constexpr TileConfig kFullTiles = {
    1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

static inline void configure_tiles() {
  _tile_loadconfig(&kFullTiles);
}
// Leaves nothing for the operating system to save.
static inline void release_tiles() {
  _tile_release();
}

// Begins a square of sums; the tiles loaded after it see all that was stored before. GCC's intrinsics do not
// say that they read memory, so the compiler could move a store below them.
static inline void zero_sums() {
  __asm__ volatile("" ::: "memory");
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

// Adds the products of 32 pixels and 32 output channels over 64 input channels. Pixels lie `pitch` bytes
// apart; the weights are two tiles, in each row four input channels of each of 16 output channels.
static inline void add_products(const i8* pixels, i64 pitch, const i8* weights) {
  _tile_loadd(4, pixels, pitch);
  _tile_loadd(6, weights, kTileRowBytes);
  _tile_dpbssd(0, 4, 6);
  _tile_loadd(7, weights + kTileBytes, kTileRowBytes);
  _tile_dpbssd(1, 4, 7);
  _tile_loadd(5, pixels + kTileRows * pitch, pitch);
  _tile_dpbssd(2, 5, 6);
  _tile_dpbssd(3, 5, 7);
}

// [32 pixels][32 output channels]
static inline void store_sums(i32* out) {
  constexpr i64 kPitch = 2 * kTileRowBytes, kBelow = kTileRows * 2 * kTileRows;
  _tile_stored(0, out, kPitch);
  _tile_stored(1, out + kTileRows, kPitch);
  _tile_stored(2, out + kBelow, kPitch);
  _tile_stored(3, out + kBelow + kTileRows, kPitch);
}

}  // namespace bittern::amx
