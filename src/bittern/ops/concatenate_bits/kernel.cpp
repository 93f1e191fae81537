// SPDX-License-Identifier: Apache-2.0
#include "concatenate_bits/kernel.h"

#include "parallel.h"

namespace bittern {
namespace {

// The words of one pixel behind what earlier parts wrote; the bits behind a part's channels are 0.
void put_pixel(const u64* x, i64 words, i64 offset, u64* out, i64 out_words) {
  const i64 shift = offset % kWordBits;
  i64 at = offset / kWordBits;
  u64 carry = shift == 0 ? 0 : out[at] & ((u64{1} << shift) - 1);
  for (i64 i = 0; i < words; ++i, ++at) {
    out[at] = carry | x[i] << shift;
    carry = shift == 0 ? 0 : x[i] >> (kWordBits - shift);
  }
  for (; at < out_words; ++at, carry = 0) out[at] = carry;
}

// One row of pixels.
void put_row(void* context, i64 index) {
  const auto& c = *static_cast<const ConcatenateBits*>(context);
  const i64 words = ceil_div(c.channels, kWordBits);
  const u64* x = c.x + index / c.height * c.x_image + index % c.height * c.x_row;
  u64* out = c.out + index / c.height * c.out_image + index % c.height * c.out_row;
  for (i64 i = 0; i < c.width; ++i)
    put_pixel(x + i * words, words, c.offset, out + i * c.out_words, c.out_words);
}

}  // namespace

void concatenate_bits(const ConcatenateBits& c, int threads) {
  constexpr i64 kWorthThreads = i64{1} << 15;  // words written
  ConcatenateBits job = c;
  const bool large = c.batch * c.height * c.width * c.out_words > kWorthThreads;
  parallel_for(c.batch * c.height, large ? threads : 1, put_row, &job);
}

}  // namespace bittern
