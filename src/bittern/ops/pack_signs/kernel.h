// SPDX-License-Identifier: Apache-2.0

// pack_signs: one bit per element, 1 where x >= threshold.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

// Images whose pixels lie side by side, each channel in a plane of its own.
struct PlanarImages {
  const void* x;
  DType type;
  i64 images, rows, width, channels;
  i64 x_image, x_row, x_channel;  // elements from one to the next
  const void* threshold;          // as for `pack`; null for levels
  const float* affine;            // [2, channels], factor and addend as for `pack_mapped`; null for none
  u64* words;  // pixel (0, 0); the words of a pixel lie side by side, and the pixels of a row do
  i64 words_row, words_image;
  i64 planes;       // 1: signs; more, of float32 only: the bit planes of `pack_levels`
  i64 plane_words;  // from one to the next
};

// Where the bits of a pixel's channels begin, which may be behind those of others.
struct BitPlace {
  u64* words;       // of the first pixel: the word that holds the first bit
  i64 pixel_words;  // from one pixel to the next
  i64 first_bit;    // 0 ... 63; bits below it stay, and those above the last channel of its word become 0
};

struct PackSignsKernels {
  // x [rows, cols] of `type` -> words [rows, ceil(cols / 64)], column c in bit c % 64 of word c / 64, surplus
  // bits 0. threshold: null for 0, else one number per column: double for f64, int32 for i32, float for all
  // others.
  void (*pack)(const void* x, DType type, i64 rows, i64 cols, const void* threshold, u64* words, int threads);
  // The same of float32 x that is multiplied and added to first, rounded once: 1 where x * affine[0, column]
  // + affine[1, column] >= threshold. factor, addend: [cols], or null for none.
  void (*pack_mapped)(const float* x, i64 rows, i64 cols, const float* factor, const float* addend,
                      const float* threshold, const BitPlace& place);
  // Bit planes, `plane_words` apart, of round(clip(x, 0, 1) * (2^planes - 1)), ties to even; planes <= 8.
  void (*pack_levels)(const float* x, i64 rows, i64 cols, i64 planes, u64* words, i64 plane_words,
                      int threads);
  // Either of them, of images as torch lays them out.
  void (*pack_planar)(const PlanarImages& images, int threads);
};

BITTERN_DISPATCH(pack_signs, PackSignsKernels)

}  // namespace bittern
