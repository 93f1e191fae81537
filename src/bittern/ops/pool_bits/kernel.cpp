// SPDX-License-Identifier: Apache-2.0
#include "pool_bits/kernel.h"

#include "parallel.h"

namespace bittern {
namespace {

u64 pooled(const PoolBits& p, const u64* image, i64 y, i64 x, i64 word, u64 flip) {
  const i64 top = y * p.stride_h - p.pad_h, left = x * p.stride_w - p.pad_w;
  const i64 bottom = smaller(top + p.kernel_h, p.height), right = smaller(left + p.kernel_w, p.width);
  u64 found = 0;
  for (i64 row = larger(top, 0); row < bottom; ++row) {
    const u64* at = image + row * p.x_row + word;
    for (i64 column = larger(left, 0); column < right; ++column) found |= at[column * p.words] ^ flip;
  }
  return found ^ flip;
}

// One row of results.
void pool_row(void* context, i64 index) {
  const auto& p = *static_cast<const PoolBits*>(context);
  const i64 y = index % p.out_height;
  const u64* image = p.x + index / p.out_height * p.x_image;
  u64* out = p.out + index / p.out_height * p.out_image + y * p.out_row;
  for (i64 x = 0; x < p.out_width; ++x) {
    for (i64 word = 0; word < p.words; ++word) {
      *out++ = pooled(p, image, y, x, word, p.flip != nullptr ? p.flip[word] : 0);
    }
  }
}

}  // namespace

void pool_bits(const PoolBits& p, int threads) {
  constexpr i64 kWorthThreads = i64{1} << 15;  // words read
  PoolBits job = p;
  const bool large = p.batch * p.height * p.width * p.words > kWorthThreads;
  parallel_for(p.batch * p.out_height, large ? threads : 1, pool_row, &job);
}

}  // namespace bittern
