// SPDX-License-Identifier: Apache-2.0

// The AMX intrinsics that amx.h uses, in plain C++: a test build (BITTERN_EMULATE_AMX) runs the same kernel
// with them, so that its results are checked on a CPU without AMX. Like the CPU, it ends a program that uses
// a tile which was not configured, or tiles whose shapes do not fit.
#pragma once

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../types.h"

namespace bittern::emulated_amx {

struct Tile {
  int rows, row_bytes;  // 0: not configured
  u8 bytes[16][64];
};

static thread_local Tile tiles[8];
static std::atomic<i64> products{0};  // of tiles, in all threads

static inline void require(bool holds, const char* rule) {
  if (holds) return;
  std::fprintf(stderr, "emulated AMX: %s\n", rule);
  std::abort();
}

static inline Tile& tile(int index) {
  require(tiles[index].rows > 0, "a tile was used that is not configured");
  return tiles[index];
}

static inline void load_config(const void* config) {
  const u8* bytes = static_cast<const u8*>(config);
  require(bytes[0] == 1 && bytes[1] == 0, "the palette must be 1 and the first row 0");
  for (int i = 0; i < 8; ++i) {
    u16 row_bytes;
    std::memcpy(&row_bytes, bytes + 16 + 2 * i, sizeof row_bytes);
    require(row_bytes <= 64 && bytes[48 + i] <= 16, "a tile has at most 16 rows of 64 bytes");
    tiles[i] = Tile{bytes[48 + i], row_bytes, {}};
  }
}

static inline void release() {
  for (Tile& t : tiles) t = Tile{};
}

static inline void zero(int index) {
  std::memset(tile(index).bytes, 0, sizeof tiles[index].bytes);
}

static inline void load(int index, const void* base, i64 pitch) {
  Tile& t = tile(index);
  for (int row = 0; row < t.rows; ++row) {
    std::memcpy(t.bytes[row], static_cast<const u8*>(base) + row * pitch,
                static_cast<std::size_t>(t.row_bytes));
  }
}

static inline void store(int index, void* base, i64 pitch) {
  const Tile& t = tile(index);
  for (int row = 0; row < t.rows; ++row) {
    std::memcpy(static_cast<u8*>(base) + row * pitch, t.bytes[row], static_cast<std::size_t>(t.row_bytes));
  }
}

// sum[m][n] += a[m][4k + i] * b[k][4n + i] over k and i < 4, of signed bytes; wraps around.
static inline void dot_products(int sum, int a, int b) {
  Tile &s = tile(sum), &x = tile(a), &w = tile(b);
  require(s.rows == x.rows && s.row_bytes == w.row_bytes && x.row_bytes == 4 * w.rows,
          "the shapes of the three tiles do not fit");
  for (int m = 0; m < s.rows; ++m) {
    u32 row[16];
    std::memcpy(row, s.bytes[m], sizeof row);
    for (int k = 0; k < w.rows; ++k) {
      for (int byte = 0; byte < w.row_bytes; ++byte) {
        const int product = static_cast<signed char>(x.bytes[m][4 * k + byte % 4]) *
                            static_cast<signed char>(w.bytes[k][byte]);
        row[byte / 4] += static_cast<u32>(product);
      }
    }
    std::memcpy(s.bytes[m], row, sizeof row);
  }
  ++products;
}

}  // namespace bittern::emulated_amx

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbssd
#define _tile_loadconfig(config) bittern::emulated_amx::load_config(config)
#define _tile_release() bittern::emulated_amx::release()
#define _tile_zero(tile) bittern::emulated_amx::zero(tile)
#define _tile_loadd(tile, base, pitch) bittern::emulated_amx::load(tile, base, pitch)
#define _tile_stored(tile, base, pitch) bittern::emulated_amx::store(tile, base, pitch)
#define _tile_dpbssd(sum, a, b) bittern::emulated_amx::dot_products(sum, a, b)
