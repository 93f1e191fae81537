// SPDX-License-Identifier: Apache-2.0

// The rate that a kernel can come near and not pass: its own counting of differences on operands that stay in
// the first-level cache, without gathering, borders and tails. Included after kernel.inl.h.

namespace {

constexpr i64 kPeakPixels = 12;  // whole groups and whole tiles of every kernel
constexpr i64 kPeakWeightBytes = i64{16} << 10;
constexpr i64 kPeakShortest = 1024;

// The longest reduction, by doubling, whose block of weights leaves half of the cache to the panel.
Depth peak_depth() {
  Depth depth = depth_of(1, kPeakShortest, 1);
  for (;;) {
    const Depth next = depth_of(1, 2 * depth.channels, 1);
    if (kBlock / kVector * vector_bytes(next) > kPeakWeightBytes) return depth;
    depth = next;
  }
}

// Counts a block of weights against some pixels, again and again; returns how many products that were.
i64 count_in_cache(i64 repeats) {
  const Depth depth = peak_depth();
  u64* words = scratch_array<u64>(Scratch::aligned_input, kBlock * depth.words);
  for (i64 i = 0; i < kBlock * depth.words; ++i) words[i] = static_cast<u64>(i) * 0x9e3779b97f4a7c15;
  u8* weights = scratch_array<u8>(Scratch::padded_input, kBlock / kVector * vector_bytes(depth));
  prepare_block(words, kBlock, depth, weights);
  const u64* rows[kGroup];
  for (const u64*& row : rows) row = words;
  PanelUnit* panel = scratch_array<PanelUnit>(Scratch::panel, kPeakPixels / kGroup * panel_units(depth));
  for (i64 group = 0; group < kPeakPixels / kGroup; ++group) {
    gather(rows, 1, depth.words, depth, panel + group * panel_units(depth));
  }
  constexpr i64 kCounts = kPeakPixels * kBlock;
  const Counts counts = make_counts(scratch(Scratch::counts, kCounts * count_bytes(depth)), kCounts, depth);
  i64 groups = kPeakPixels / kGroup;
  __asm__("" : "+r"(groups));  // a kernel is compiled for any number of them
  for (i64 i = 0; i < repeats; ++i) {
    count_differences(panel, groups, weights, kBlock, depth, counts);
    __asm__ volatile("" ::: "memory");  // nobody reads the counts, and yet they must be made
  }
  return repeats * kCounts * depth.channels;
}

}  // namespace
