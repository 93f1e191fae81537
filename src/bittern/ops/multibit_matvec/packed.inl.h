// SPDX-License-Identifier: Apache-2.0

// Counts by table lookup (lookups.inl.h) straight from packed weights: few inputs are as fast as memory is,
// so a weight must not take more of it than its bits. A vector has one byte each of kBytes outputs, that is
// two steps, the low nibbles and the high ones; outputs are the rows of plane 0, then those of plane 1 ...
// Inputs' planes are pixels, two of which share a lookup. One pair takes the nibbles as they come from
// memory; for several, a chunk is taken apart once and stays in the first cache. Included inside the
// namespace of one instruction set, after parts.inl.h.

namespace {

constexpr int kBlockVectors = 4;                // side by side: they share a table
constexpr i64 kGroupBytes = 3;                  // of the reduction: 6 steps, 2 sums
constexpr i64 kChunkBytes = 30;                 // 20 sums, of at most kSumsPerChunk
constexpr i64 kTilePixels = 64;                 // whose counts stay in the first cache
constexpr i64 kLargestChunk = 8 * kChunkBytes;  // differences
constexpr i64 kChunksPerCount = 65535 / kLargestChunk;
static_assert(2 * kChunkBytes <= kSumsPerChunk * kStepsPerSum, "sums of a chunk must fit");
static_assert(2 * kChunkBytes * kStepBits < 256, "and counts of a pixel alone");

// Bytes of the reduction, filled up with zeros to whole groups.
inline i64 reduction_bytes(const MultibitWeight& w) {
  return round_up(ceil_div(w.n, 8), kGroupBytes);
}
inline i64 vectors_of(const MultibitWeight& w) {
  return ceil_div(w.planes * w.rows, kBytes);
}

// Even bytes first, so that widening by even and odd bytes gives outputs in order.
inline i64 byte_of_output(i64 output) {
  return output < kBytes / 2 ? 2 * output : 2 * (output - kBytes / 2) + 1;
}

// ---- weights: [block][byte of the reduction][vector of the block][kBytes]

i64 packed_bytes(const MultibitWeight& w, const BinaryConv2dKernels&) {
  return vectors_of(w) * reduction_bytes(w) * kBytes;
}

void prepare_packed(const MultibitWeight& w, const BinaryConv2dKernels& products, const u64* canonical,
                    u8* prepared) {
  const i64 bytes = ceil_div(w.n, 8), vectors = vectors_of(w);
  std::memset(prepared, 0, static_cast<std::size_t>(packed_bytes(w, products)));
  for (i64 output = 0; output < w.planes * w.rows; ++output) {
    const i64 vector = output / kBytes, block = vector / kBlockVectors;
    const i64 pitch = smaller(kBlockVectors, vectors - block * kBlockVectors) * kBytes;
    u8* out = prepared + block * kBlockVectors * kBytes * reduction_bytes(w);
    out += vector % kBlockVectors * kBytes + byte_of_output(output % kBytes);
    const u64* words = canonical + output * w.words();
    for (i64 b = 0; b < bytes; ++b) out[b * pitch] = static_cast<u8>(words[b / 8] >> (8 * (b % 8)));
  }
}

// ---- a tile of pixels

struct PackedTile {
  const Part* part;
  i64 first, count;    // pixels of the part
  const u16* offsets;  // [pairs][2 * reduction_bytes]: of tables
  i64 blocks, vectors;
};

const u64* words_of_pixel(const Part& part, i64 pixel) {
  const MultibitMatvec& job = *part.job;
  const i64 plane = pixel / part.count, input = part.first + pixel % part.count;
  return job.x + (plane * job.batch + input) * job.weight.words();
}

// Of a pair of pixels: the low nibbles of a byte, then the high ones.
void find_tables(const u64* first, const u64* second, i64 bytes, i64 padded, u16* offsets) {
  const u8* a = reinterpret_cast<const u8*>(first);
  const u8* b = reinterpret_cast<const u8*>(second);
  for (i64 i = 0; i < bytes; ++i) {
    offsets[2 * i] = table_offset(a[i], b[i]);
    offsets[2 * i + 1] = table_offset(a[i] >> 4, b[i] >> 4);
  }
  for (i64 i = 2 * bytes; i < 2 * padded; ++i) offsets[i] = 0;
}

inline Bytes low_nibbles(Bytes x) {
  return {_mm256_and_si256(x.bits, _mm256_set1_epi8(15))};
}
inline Bytes high_nibbles(Bytes x) {
  return low_nibbles(words_right<4>(x));
}

// counts [2 pixels][vectors * kBytes] += the bytes of one vector
inline void widen_counts(u16* counts, Bytes bytes) {
  const Bytes even = mask_words(bytes, 0xff), odd = words_right<8>(bytes);
  store_bytes(counts, add_words(load_bytes(counts), even));
  store_bytes(counts + kBytes / 2, add_words(load_bytes(counts + kBytes / 2), odd));
}

// A chunk of one pair, from packed weights of `pitch` bytes a byte of the reduction. More than two vectors
// would not leave their sums in registers.
template <int vectors>
__attribute__((noinline)) void count_packed(const u16* offsets, const u8* weights, i64 pitch, i64 groups,
                                            u16* counts) {
  Bytes t[vectors], x[vectors], sum[vectors];
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) t[v] = x[v] = zero_bytes();
  const auto take = [&](int v) {
    t[v] = add_bytes(t[v], sum[v]);
    x[v] = add_bytes(x[v], words_right<4>(sum[v]));
    keep_in_register(x[v]);
  };
  for (i64 g = 0; g < groups; ++g, offsets += 2 * kGroupBytes, weights += kGroupBytes * pitch) {
    BITTERN_UNROLL
    for (int b = 0; b < kGroupBytes; ++b) {
      __builtin_prefetch(weights + (b + kChunkBytes) * pitch);
      const Bytes low = load_table(kTables.entries[0] + offsets[2 * b]);
      const Bytes high = load_table(kTables.entries[0] + offsets[2 * b + 1]);
      BITTERN_UNROLL
      for (int v = 0; v < vectors; ++v) {
        const Bytes w = load_bytes(weights + b * pitch + v * kBytes);
        const Bytes of_low = lookup(low, low_nibbles(w)), of_high = lookup(high, high_nibbles(w));
        sum[v] = b == 0 ? of_low : add_bytes(sum[v], of_low);
        if (b == 1) {
          take(v);
          sum[v] = of_high;
        } else {
          sum[v] = add_bytes(sum[v], of_high);
        }
        keep_in_register(sum[v]);
        if (b == 2) take(v);
      }
    }
  }
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) {
    Bytes low, high;
    split_sums(t[v], x[v], low, high);
    widen_counts(counts + v * kBytes, low);
    widen_counts(counts + pitch + v * kBytes, high);
  }
}

// A chunk of weights as lookups.inl.h reads it.
template <int vectors>
void take_apart(const u8* weights, i64 bytes, u8* nibbles) {
  constexpr i64 kPitch = vectors * kBytes;
  for (i64 b = 0; b < bytes; ++b, weights += kPitch, nibbles += 2 * kPitch) {
    for (i64 line = 0; line < kPitch; line += 64) __builtin_prefetch(weights + kChunkBytes * kPitch + line);
    BITTERN_UNROLL
    for (int v = 0; v < vectors; ++v) {
      const Bytes w = load_bytes(weights + v * kBytes);
      store_bytes(nibbles + v * kBytes, low_nibbles(w));
      store_bytes(nibbles + kPitch + v * kBytes, high_nibbles(w));
    }
  }
}

template <int vectors>
__attribute__((noinline)) void count_nibbles(const u16* offsets, const u8* nibbles, i64 sums, u16* counts) {
  look_up<vectors>(offsets, nibbles, sums, [&](int v, Bytes low, Bytes high) {
    widen_counts(counts + v * kBytes, low);
    widen_counts(counts + (vectors + v) * kBytes, high);
  });
}

// The same of a pixel paired with itself, the last of an odd number. A lookup gives 17 times its count, so
// the bytes add up to s = 17 C (mod 256); C < 256 follows as s - 16 s, and no fields are kept apart on the
// way.
template <int vectors>
__attribute__((noinline)) void count_single(const u16* offsets, const u8* nibbles, i64 steps, u16* counts) {
  Bytes sum[vectors];
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) sum[v] = zero_bytes();
  for (i64 step = 0; step < steps; ++step, nibbles += vectors * kBytes) {
    const Bytes table = load_table(kTables.entries[0] + offsets[step]);
    BITTERN_UNROLL
    for (int v = 0; v < vectors; ++v) {
      sum[v] = add_bytes(sum[v], lookup(table, load_bytes(nibbles + v * kBytes)));
      keep_in_register(sum[v]);
    }
  }
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) {
    const Bytes sixteen = mask_words(words_left<4>(sum[v]), 0xf0f0);
    widen_counts(counts + v * kBytes, subtract_bytes(sum[v], sixteen));
  }
}

// acc of the pixels of a tile -= 2 * counts [pairs][2][vectors * kBytes], which are cleared
void take_counts(const PackedTile& tile, i64 block, i64 width, u16* counts) {
  const MultibitWeight& w = tile.part->job->weight;
  const i64 outputs = w.planes * w.rows, first = block * kBlockVectors * kBytes;
  const i64 used = smaller(width, outputs - first);
  for (i64 p = 0; p < tile.count; ++p) {
    i32* acc = tile.part->acc + (tile.first + p) * outputs + first;
    for (i64 o = 0; o < used; ++o) acc[o] -= 2 * counts[p * width + o];
  }
  std::memset(counts, 0, static_cast<std::size_t>(round_up(tile.count, 2) * width) * sizeof(u16));
}

template <int vectors>
void count_block(const PackedTile& tile, i64 block) {
  constexpr i64 kWidth = vectors * kBytes;
  alignas(32) u16 counts[kTilePixels * kWidth];
  alignas(32) u8 nibbles[2 * kChunkBytes * kWidth];
  const MultibitMatvec& job = *tile.part->job;
  const i64 bytes = reduction_bytes(job.weight), pairs = ceil_div(tile.count, 2);
  const u8* weights = job.weights + block * kBlockVectors * kBytes * bytes;
  std::memset(counts, 0, static_cast<std::size_t>(2 * pairs * kWidth) * sizeof(u16));
  i64 chunks = 0;
  for (i64 first = 0; first < bytes; first += kChunkBytes) {
    const i64 count = smaller(kChunkBytes, bytes - first);
    const u8* chunk = weights + first * kWidth;
    if (pairs == 1) {
      const u16* offsets = tile.offsets + 2 * first;
      for (int v = 0; v + 2 <= vectors; v += 2) {
        count_packed<2>(offsets, chunk + v * kBytes, kWidth, count / kGroupBytes, counts + v * kBytes);
      }
      if (vectors % 2 != 0) {
        constexpr i64 kLast = (vectors - 1) * kBytes;
        count_packed<1>(offsets, chunk + kLast, kWidth, count / kGroupBytes, counts + kLast);
      }
    } else {
      take_apart<vectors>(chunk, count, nibbles);
      for (i64 p = 0; p < pairs; ++p) {
        const u16* offsets = tile.offsets + 2 * (p * bytes + first);
        u16* found = counts + 2 * p * kWidth;
        if (2 * p + 1 == tile.count) {
          count_single<vectors>(offsets, nibbles, 2 * count, found);
        } else {
          count_nibbles<vectors>(offsets, nibbles, 2 * count / kStepsPerSum, found);
        }
      }
    }
    if (++chunks % kChunksPerCount == 0) take_counts(tile, block, kWidth, counts);
  }
  take_counts(tile, block, kWidth, counts);
}

void block_task(void* context, i64 block) {
  const auto& tile = *static_cast<const PackedTile*>(context);
  const MultibitWeight& w = tile.part->job->weight;
  const i64 outputs = w.planes * w.rows, first = block * kBlockVectors * kBytes;
  const i64 used = smaller(kBlockVectors * kBytes, outputs - first);
  for (i64 p = tile.first; p < tile.first + tile.count; ++p) {
    i32* acc = tile.part->acc + p * outputs + first;
    for (i64 o = 0; o < used; ++o) acc[o] = static_cast<i32>(w.n);
  }
  switch (smaller(kBlockVectors, tile.vectors - block * kBlockVectors)) {
    case 1:
      return count_block<1>(tile, block);
    case 2:
      return count_block<2>(tile, block);
    case 3:
      return count_block<3>(tile, block);
    default:
      return count_block<kBlockVectors>(tile, block);
  }
}

void count_packed_part(const Part& part, int threads) {
  constexpr i64 kWorthThreads = i64{1} << 23;  // products: some 25 us, of which a second thread saves a fifth
  const MultibitWeight& w = part.job->weight;
  const i64 bytes = reduction_bytes(w), vectors = vectors_of(w), pixels = part.count * part.job->planes;
  u16* offsets = scratch_array<u16>(Scratch::linear_panel, kTilePixels * bytes);
  for (i64 first = 0; first < pixels; first += kTilePixels) {
    const i64 count = smaller(kTilePixels, pixels - first);
    for (i64 p = 0; p < count; p += 2) {
      const i64 second = smaller(first + p + 1, pixels - 1);  // nothing reads what a doubled last one counts
      find_tables(words_of_pixel(part, first + p), words_of_pixel(part, second), ceil_div(w.n, 8), bytes,
                  offsets + p * bytes);
    }
    PackedTile tile{&part, first, count, offsets, ceil_div(vectors, kBlockVectors), vectors};
    const bool small = count * w.planes * w.rows * w.n <= kWorthThreads;
    parallel_for(tile.blocks, small ? 1 : threads, block_task, &tile);
  }
}

void multiply_packed(const MultibitMatvec& job, const BinaryConv2dKernels&, int threads) {
  multiply_in_parts(job, threads, [&](const Part& part) { count_packed_part(part, threads); });
}

}  // namespace
