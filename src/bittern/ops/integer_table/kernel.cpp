// SPDX-License-Identifier: Apache-2.0
#include "integer_table/kernel.h"

#include "parallel.h"

namespace bittern {
namespace {

constexpr i64 kTaskNumbers = i64{1} << 15;

void table_task(void* context, i64 index) {
  const IntegerTable& t = *static_cast<const IntegerTable*>(context);
  const std::int8_t* table = t.table + 128;
  const i64 end = smaller(t.count, (index + 1) * kTaskNumbers);
  for (i64 i = index * kTaskNumbers; i < end; ++i) t.out[i] = table[t.x[i]];
}

}  // namespace

void integer_table(const IntegerTable& t, int threads) {
  parallel_for(ceil_div(t.count, kTaskNumbers), threads, table_task, const_cast<IntegerTable*>(&t));
}

}  // namespace bittern
