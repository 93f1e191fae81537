// SPDX-License-Identifier: Apache-2.0

// Bits counted by table lookup, two pixels at a time: for CPUs without an instruction that counts bits.
// Included inside the namespace of one instruction set, before kernel.inl.h.
//
// A step (lookups.inl.h) takes four bits of each of two pixels and looks up a vector of weights: one nibble
// in each byte, kBytes output channels. So one lookup counts 2 pixels * kBytes channels * 4 bits.
//
// Order of the steps within a 64-bit word: the low nibbles of its bytes, then the high nibbles. A last word
// that is not full has only as many bytes as its channels need.

#include "lookups.inl.h"

namespace {

constexpr i64 kVector = kBytes;   // output channels: one byte each
constexpr int kBlockVectors = 4;  // vectors of weights that share a table while it is in a register
constexpr i64 kBlock = kBlockVectors * kVector;
constexpr i64 kGroup = 2;  // pixels
constexpr i64 kWordBytes = 8;

// ---- steps

// Bytes of the last word of a tap.
i64 last_bytes(const Depth& depth) {
  return ceil_div(depth.channels - (depth.words - 1) * kWordBits, 8);
}

i64 tap_steps(const Depth& depth) {
  return depth.words == 0 ? 0 : 2 * ((depth.words - 1) * kWordBytes + last_bytes(depth));
}

i64 steps(const Depth& depth) {
  return round_up(depth.taps * tap_steps(depth), kStepsPerSum);
}

// ---- weights: [vector of a block][step] of bytes, the vectors of a block side by side

i64 vector_bytes(const Depth& depth) {
  return steps(depth) * kVector;
}

// Byte of a vector that belongs to a channel: even bytes first, so that widening to 16 bits by even and odd
// bytes gives channels in order.
i64 byte_of(i64 channel) {
  return channel < kVector / 2 ? 2 * channel : 2 * (channel - kVector / 2) + 1;
}

// Writes the nibbles of one channel; `out` is its byte in the first step, `pitch` the distance between steps.
void prepare_channel(const u64* words, const Depth& depth, i64 pitch, u8* out) {
  for (i64 i = 0; i < depth.taps * depth.words; ++i) {
    const i64 bytes = (i + 1) % depth.words == 0 ? last_bytes(depth) : kWordBytes;
    for (i64 b = 0; b < bytes; ++b) {
      const u8 byte = static_cast<u8>(words[i] >> (8 * b));
      out[b * pitch] = byte & 15;
      out[(bytes + b) * pitch] = byte >> 4;
    }
    out += 2 * bytes * pitch;
  }
}

void prepare_block(const u64* rows, i64 channels, const Depth& depth, u8* out) {
  const i64 pitch = round_up(channels, kVector);
  for (i64 i = 0; i < steps(depth) * pitch; ++i)
    out[i] = 0;  // surplus channels, and surplus steps at the end
  for (i64 channel = 0; channel < channels; ++channel) {
    const i64 byte = channel / kVector * kVector + byte_of(channel % kVector);
    prepare_channel(rows + channel * depth.taps * depth.words, depth, pitch, out + byte);
  }
}

// ---- panel: for each step, the offset of the pair's table: 16 * (nibble of pixel 0) + 256 * (nibble of
// pixel 1)

using PanelUnit = u16;

// A word is written as 16 units even where it has fewer; the next one overwrites them. The end needs the
// room.
i64 panel_units(const Depth& depth) {
  return round_up(steps(depth) + 2 * kWordBytes, 2 * kWordBytes);
}

// Writes the units of one word (or less) that has `bytes` bytes; returns the end.
inline u16* store_pairs(u16* out, Half low, Half high, i64 bytes) {
  store_half(out, low);
  store_half(out + bytes, high);
  return out + 2 * bytes;
}

inline u16* gather_run(const u64* first, const u64* second, i64 words, i64 bytes_of_last, u16* out) {
  const i64 full = bytes_of_last == kWordBytes ? words : words - 1;
  i64 i = 0;
  for (; i + 2 <= full; i += 2) {
    const NibblePairs pairs = pair_nibbles(load_half(first + i), load_half(second + i));
    out = store_pairs(out, pairs.low[0], pairs.high[0], kWordBytes);
    out = store_pairs(out, pairs.low[1], pairs.high[1], kWordBytes);
  }
  for (; i < words; ++i) {
    const NibblePairs pairs = pair_nibbles(load_quarter(first + i), load_quarter(second + i));
    out = store_pairs(out, pairs.low[0], pairs.high[0], i < full ? kWordBytes : bytes_of_last);
  }
  return out;
}

// rows: `runs` addresses for the first pixel, then as many for the second, each of `words` words.
void gather(const u64* const* rows, i64 runs, i64 words, const Depth& depth, u16* panel) {
  const i64 bytes_of_last = last_bytes(depth);
  u16* end = panel;
  for (i64 run = 0; run < runs; ++run) {
    end = gather_run(rows[run], rows[runs + run], words, bytes_of_last, end);
  }
  for (u16* stop = panel + steps(depth); end < stop;) *end++ = 0;
}

// ---- counts: 16 bits each; where the reduction has more, what went before is in `carry`

struct Counts {
  u16* low;
  i32* carry;  // null for short reductions
};

constexpr i64 kLargestChunkCount = kSumsPerChunk * kStepsPerSum * kStepBits;
constexpr i64 kChunksPerCarry = 65535 / kLargestChunkCount;

i64 chunks(const Depth& depth) {
  return larger(1, ceil_div(steps(depth) / kStepsPerSum, kSumsPerChunk));
}
bool needs_carry(const Depth& depth) {
  return chunks(depth) > kChunksPerCarry;
}

i64 count_bytes(const Depth& depth) {
  return static_cast<i64>(sizeof(u16)) + (needs_carry(depth) ? static_cast<i64>(sizeof(i32)) : 0);
}

// `total` is even, so that the carries are aligned.
Counts make_counts(void* memory, i64 total, const Depth& depth) {
  u16* low = static_cast<u16*>(memory);
  return {low, needs_carry(depth) ? reinterpret_cast<i32*>(low + total) : nullptr};
}

inline I32 load_counts(const Counts& counts, i64 i) {
  const I32 low = load(counts.low + i);
  return counts.carry == nullptr ? low : add(low, load(counts.carry + i));
}

inline i32 count_at(const Counts& counts, i64 i) {
  return counts.low[i] + (counts.carry == nullptr ? 0 : counts.carry[i]);
}

void carry_over(const Counts& counts, i64 total, bool first) {
  for (i64 i = 0; i < total; ++i) counts.carry[i] = counts.low[i] + (first ? 0 : counts.carry[i]);
}

// ---- the inner loops

// Adds byte counts to kVector channels of one pixel (or stores them, when there is nothing yet to add to).
inline void widen_into(u16* counts, Bytes bytes, bool first) {
  Bytes even = mask_words(bytes, 0xff), odd = words_right<8>(bytes);
  if (!first) {
    even = add_words(even, load_bytes(counts));
    odd = add_words(odd, load_bytes(counts + kVector / 2));
  }
  store_bytes(counts, even);
  store_bytes(counts + kVector / 2, odd);
}

// One pair of pixels, `vectors` * kVector channels, `sums` <= kSumsPerChunk times 3 steps.
template <int vectors>
void count_chunk(const u16* offsets, const u8* weights, i64 sums, bool first, u16* counts) {
  look_up<vectors>(offsets, weights, sums, [&](int v, Bytes low, Bytes high) {
    widen_into(counts + v * kVector, low, first);
    widen_into(counts + (vectors + v) * kVector, high, first);
  });
}

// All pairs of the panel against one block. A chunk of the weights (8 KiB at most on AVX2, 16 KiB on AVX-512)
// stays in the first-level cache while the pairs pass.
template <int vectors>
void count_block(const u16* panel, i64 pairs, const u8* weights, const Depth& depth, const Counts& counts) {
  constexpr i64 kPitch = vectors * kVector;
  const i64 sums = steps(depth) / kStepsPerSum, units = panel_units(depth), parts = chunks(depth);
  bool first = true;
  for (i64 part = 0; part < parts; ++part) {
    const i64 begin = part * sums / parts, end = (part + 1) * sums / parts;
    for (i64 pair = 0; pair < pairs; ++pair) {
      count_chunk<vectors>(panel + pair * units + begin * kStepsPerSum,
                           weights + begin * kStepsPerSum * kPitch, end - begin, first,
                           counts.low + pair * kGroup * kPitch);
    }
    first = false;
    if ((part + 1) % kChunksPerCarry != 0 || part + 1 == parts) continue;
    carry_over(counts, pairs * kGroup * kPitch, part < kChunksPerCarry);
    first = true;
  }
}

void count_differences(const u16* panel, i64 pairs, const u8* weights, i64 channels, const Depth& depth,
                       const Counts& counts) {
  switch (channels / kVector) {
    case 1:
      return count_block<1>(panel, pairs, weights, depth, counts);
    case 2:
      return count_block<2>(panel, pairs, weights, depth, counts);
    case 3:
      return count_block<3>(panel, pairs, weights, depth, counts);
    default:
      return count_block<kBlockVectors>(panel, pairs, weights, depth, counts);
  }
}

}  // namespace
