// SPDX-License-Identifier: Apache-2.0

// A code table made ready for the kernels: a microsecond, so it is done in every call.

#include <cmath>
#include <cstring>

#include "kernel.h"

namespace bittern {

void prepare_table(CodeTable& t, const float* entries, int count, bool keep_nonzero) {
  std::memset(&t, 0, sizeof t);
  t.entries = count;
  t.keep_nonzero = keep_nonzero;
  for (int i = 0; i < count; ++i) t.values[i] = entries[i];
  for (int i = 0; i < 256; ++i)
    t.borders[i] = i > 0 && i < count ? border_between(entries[i - 1], entries[i]) : NAN;
  for (int i = 0; i < 16; ++i) {
    t.nibble.values[i] = t.values[i];
    t.nibble.borders[i] = t.borders[i];
  }
  for (int i = 0; i < 256; ++i) {
    for (int j = 0; j < 4; ++j) t.bytes.value_bytes[j][i] = static_cast<u8>(float_bits(t.values[i]) >> 8 * j);
  }
  t.tree = -1;
  const Code plain[] = {Code::signed_tree8, Code::unsigned_tree8}, kept[] = {Code::state_tree8};
  auto same = [&](Code code) {
    return count == 256 && std::memcmp(tree_tables(code).values, t.values, sizeof t.values) == 0;
  };
  if (keep_nonzero) {
    for (Code code : kept) t.tree = same(code) ? static_cast<int>(code) : t.tree;
  } else {
    for (Code code : plain) t.tree = same(code) ? static_cast<int>(code) : t.tree;
  }
}

}  // namespace bittern
