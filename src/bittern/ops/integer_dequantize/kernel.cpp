// SPDX-License-Identifier: Apache-2.0
#include "integer_dequantize/kernel.h"

#include "parallel.h"

namespace bittern {
namespace {

constexpr i64 kTaskNumbers = i64{1} << 15;

void dequantize_task(void* context, i64 index) {
  const IntegerDequantize& d = *static_cast<const IntegerDequantize*>(context);
  const float* table = d.table + 128;
  const i64 end = smaller(d.count, (index + 1) * kTaskNumbers);
  for (i64 i = index * kTaskNumbers; i < end; ++i) d.out[i] = table[d.x[i]];
}

}  // namespace

void integer_dequantize(const IntegerDequantize& d, int threads) {
  parallel_for(ceil_div(d.count, kTaskNumbers), threads, dequantize_task, const_cast<IntegerDequantize*>(&d));
}

}  // namespace bittern
