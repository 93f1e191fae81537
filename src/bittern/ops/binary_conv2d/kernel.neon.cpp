// SPDX-License-Identifier: Apache-2.0

// Binary convolution on NEON, which counts the bits of every byte (CNT).
//
// A lane of 32 bits is an output channel: a vector of weights holds four bytes of each of four channels, and
// the same four bytes of a pixel are repeated against it. A *step* is XOR, CNT and an addition of bytes:
// three instructions for 128 products. (A carry-save adder spares a count and an addition, but takes three
// instructions itself.) How many bytes of a channel lie side by side changes nothing in a step, but what
// widening costs: one byte each of 16 channels is widened every 31 bytes of the reduction, by six
// instructions and more; eight bytes each of two channels take three pairwise additions and end in 64 bits.
// Four bytes take two, every 124 bytes, and end in the 32 bits that are wanted, in the order of the channels.
//
// A byte counts up to 8 per step, so it holds 31 steps (248 <= 255), a *chunk* of 992 bits. Counts of 16
// channels for kPixels pixels are in registers while a chunk passes, and are added up in memory between
// chunks.
//
// The reduction is a string of bytes, tap after tap, padded at its end only: a tap has as many bytes as its
// channels need, and a first layer with few channels pays for no empty words.

#include "kernel.h"

#include <cstring>

#include "parallel.h"
#include "scratch.h"
#include "simd/neon.h"

namespace bittern::neon {
namespace {

constexpr i64 kVector = kLanes;   // output channels
constexpr int kBlockVectors = 4;  // vectors of weights that share a repeated word of a pixel
constexpr i64 kBlock = kBlockVectors * kVector;
constexpr int kPixels = 4;  // 16 counts, 4 weights, 4 words: within 32 registers
constexpr i64 kStepBytes = 4;
constexpr i64 kStepsPerChunk = 31;
constexpr i64 kVectorBytes = kVector * kStepBytes;
constexpr i64 kWordBytes = 8;

// ---- the string of bytes

// Bytes of the last word of a tap.
i64 last_bytes(const Depth& depth) {
  return ceil_div(depth.channels - (depth.words - 1) * kWordBits, 8);
}

i64 tap_bytes(const Depth& depth) {
  return depth.words == 0 ? 0 : (depth.words - 1) * kWordBytes + last_bytes(depth);
}

i64 steps(const Depth& depth) {
  return ceil_div(depth.taps * tap_bytes(depth), kStepBytes);
}

// Writes whole words; the next one overwrites the bytes that a short word has too many. Returns the end.
inline u8* append(const u64* words, i64 count, i64 bytes_of_last, u8* out) {
  if (count == 0) return out;
  for (i64 i = 0; i < count; ++i) std::memcpy(out + i * kWordBytes, words + i, sizeof(u64));
  return out + (count - 1) * kWordBytes + bytes_of_last;
}

// ---- weights: [step][vector of a block][channel] of four bytes

i64 vector_bytes(const Depth& depth) {
  return steps(depth) * kVectorBytes;
}

// Bytes of one channel; `out` is its place in the first step, `pitch` the distance between steps.
void prepare_channel(const u64* words, const Depth& depth, i64 pitch, u8* out) {
  i64 at = 0;
  for (i64 i = 0; i < depth.taps * depth.words; ++i) {
    const i64 bytes = (i + 1) % depth.words == 0 ? last_bytes(depth) : kWordBytes;
    for (i64 b = 0; b < bytes; ++b, ++at) {
      out[at / kStepBytes * pitch + at % kStepBytes] = static_cast<u8>(words[i] >> (8 * b));
    }
  }
}

void prepare_block(const u64* rows, i64 channels, const Depth& depth, u8* out) {
  const i64 pitch = round_up(channels, kVector) * kStepBytes;
  // surplus channels, and surplus bytes at the end
  std::memset(out, 0, static_cast<std::size_t>(steps(depth) * pitch));
  for (i64 channel = 0; channel < channels; ++channel) {
    prepare_channel(rows + channel * depth.taps * depth.words, depth, pitch, out + channel * kStepBytes);
  }
}

// ---- panel: the string of one pixel

constexpr i64 kGroup = 1;
using PanelUnit = u32;

// The end needs room for a whole word.
i64 panel_units(const Depth& depth) {
  return steps(depth) + kWordBytes / kStepBytes;
}

// rows: `runs` addresses, each of `words` words. Bytes of the last step behind the string are 0.
void gather(const u64* const* rows, i64 runs, i64 words, const Depth& depth, u32* panel) {
  u8* end = reinterpret_cast<u8*>(panel);
  for (i64 run = 0; run < runs; ++run) end = append(rows[run], words, last_bytes(depth), end);
  std::memset(end, 0, kStepBytes);
}

// ---- counts

struct Counts {
  i32* values;
};

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

// ---- the inner loops

// `pixels` pixels, `vectors` * 4 channels, `count` <= kStepsPerChunk steps; adds to the counts unless
// `first`.
template <int pixels, int vectors>
__attribute__((noinline)) void count_chunk(const u32* panel, i64 units, const u8* weights, i64 count,
                                           bool first, i32* counts) {
  Bytes sum[pixels][vectors];
  BITTERN_UNROLL
  for (int p = 0; p < pixels; ++p) {
    BITTERN_UNROLL
    for (int v = 0; v < vectors; ++v) sum[p][v] = zero_bytes();
  }
  const u32* next[pixels];
  BITTERN_UNROLL
  for (int p = 0; p < pixels; ++p) next[p] = panel + p * units;
  for (i64 step = 0; step < count; ++step) {
    Bytes w[vectors];
    BITTERN_UNROLL
    for (int v = 0; v < vectors; ++v) w[v] = load_bytes(weights + v * kVectorBytes);
    BITTERN_UNROLL
    for (int p = 0; p < pixels; ++p) {
      const Bytes x = splat_word(next[p]++);
      keep_increment(next[p]);
      BITTERN_UNROLL
      for (int v = 0; v < vectors; ++v) {
        sum[p][v] = add_bytes(sum[p][v], count_differences(x, w[v]));
        keep_order(sum[p][v], w[v]);
      }
    }
    weights += vectors * kVectorBytes;
  }
  BITTERN_UNROLL
  for (int p = 0; p < pixels; ++p) {
    BITTERN_UNROLL
    for (int v = 0; v < vectors; ++v) {
      i32* out = counts + (p * vectors + v) * kVector;
      store(out, first ? sum_of_bytes(sum[p][v]) : add_sum_of_bytes(load(out), sum[p][v]));
    }
  }
}

// All pixels of the panel against one block, chunk by chunk: 2 KiB of weights stay in the first-level cache
// while the pixels pass.
template <int vectors>
void count_block(const u32* panel, i64 pixels, const u8* weights, const Depth& depth, const Counts& counts) {
  constexpr i64 kPitch = vectors * kVector;
  const i64 units = panel_units(depth), total = steps(depth),
            parts = larger(1, ceil_div(total, kStepsPerChunk));
  for (i64 part = 0; part < parts; ++part) {
    const i64 begin = part * total / parts, count = (part + 1) * total / parts - begin;
    const u32* x = panel + begin;
    const u8* w = weights + begin * vectors * kVectorBytes;
    i64 p = 0;
    for (; p + kPixels <= pixels; p += kPixels) {
      count_chunk<kPixels, vectors>(x + p * units, units, w, count, part == 0, counts.values + p * kPitch);
    }
    for (; p < pixels; ++p) {
      count_chunk<1, vectors>(x + p * units, units, w, count, part == 0, counts.values + p * kPitch);
    }
  }
}

void count_differences(const u32* panel, i64 pixels, const u8* weights, i64 channels, const Depth& depth,
                       const Counts& counts) {
  switch (channels / kVector) {
    case 1:
      return count_block<1>(panel, pixels, weights, depth, counts);
    case 2:
      return count_block<2>(panel, pixels, weights, depth, counts);
    case 3:
      return count_block<3>(panel, pixels, weights, depth, counts);
    default:
      return count_block<kBlockVectors>(panel, pixels, weights, depth, counts);
  }
}

}  // namespace

#include "kernel.inl.h"

#include "rows.inl.h"

#include "finish_rows.inl.h"

#include "depthwise.inl.h"

#include "lanes.neon.inl.h"

#include "grouped.inl.h"

#include "lookups.inl.h"

constexpr i64 kFewChannels = 32;  // with more, counting bytes costs as little

#include "pixels.inl.h"

#include "choose.inl.h"

#include "peak.inl.h"

const BinaryConv2dKernels binary_conv2d_kernels = {chosen_bytes, prepare_chosen, conv2d_chosen<conv2d>,
                                                   finish_accumulators, count_in_cache};

}  // namespace bittern::neon
