// SPDX-License-Identifier: Apache-2.0

// Panel of the kernels that count bits in 64-bit words: the words of one pixel, tap after tap. Included
// inside the namespace of one instruction set.

namespace {

constexpr i64 kGroup = 1;
using PanelUnit = u64;

struct Counts {
  i32* values;
};

i64 panel_units(const Depth& depth) {
  return depth.taps * depth.words;
}

// rows: `runs` addresses, each of `words` words.
void gather(const u64* const* rows, i64 runs, i64 words, const Depth&, u64* panel) {
  for (i64 run = 0; run < runs; ++run) {
    for (i64 i = 0; i < words; ++i) *panel++ = rows[run][i];
  }
}

i64 count_bytes(const Depth&) {
  return sizeof(i32);
}
Counts make_counts(void* memory, i64, const Depth&) {
  return {static_cast<i32*>(memory)};
}
inline I32 load_counts(const Counts& counts, i64 i) {
  return load(counts.values + i);
}
inline i32 count_at(const Counts& counts, i64 i) {
  return counts.values[i];
}

}  // namespace
