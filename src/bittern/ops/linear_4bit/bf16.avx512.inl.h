// SPDX-License-Identifier: Apache-2.0

// bf16 inputs on a CPU that multiplies pairs of bf16 (VDPBF16PS). Included inside namespace avx512, after
// kernel.inl.h.
//
// 16-bit words of four codes give 32 numbers at a time from a table of 32: entries 0 to 15 serve the lower
// 64 elements of a chunk of 128, entries 16 to 31 the upper ones. The absmax is multiplied into the table and
// rounded there, so that every number is the bf16 that the contract asks for. Code j of word l is element
// 4 l + (j ^ 1).

namespace {

#if defined(BITTERN_EMULATE_AVX512)
inline __m512 dot_bf16(__m512 sum, __m512i a, __m512i b) {
  return emulated_dpbf16(sum, a, b);
}
inline __m512i narrow_both(__m512 low, __m512 high) {
  return emulated_cvtne2ps_pbh(high, low);
}
#else
// Written as assembly because the compiler offers the intrinsics only to code that is compiled for such CPUs
// alone.
inline __m512 dot_bf16(__m512 sum, __m512i a, __m512i b) {
  __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  return sum;
}
// The bf16 of `low` in the lower half, those of `high` in the upper.
inline __m512i narrow_both(__m512 low, __m512 high) {
  __m512i both;
  __asm__("vcvtne2ps2bf16 %2, %1, %0" : "=v"(both) : "v"(high), "v"(low));
  return both;
}
#endif

struct DotBf16 {
  using In = u16;
  using Sum = F32;
  static constexpr i64 kStep = 32;
  static inline __m512i load_in(const u16* p) { return _mm512_loadu_si512(p); }
  static inline Sum step(Sum sum, __m512i w, __m512i x) { return dot_bf16(sum, w, x); }
};

inline i64 pair_place_of(i64 element) {
  const i64 in_chunk = element % kChunk;
  return element - in_chunk + ((in_chunk % 4) ^ 1) * DotBf16::kStep + in_chunk / 4;
}

struct PairChunk {
  __m512i codes, table;
};

// Asks for the codes that a row of 4096 has below these: the hardware's own prefetching pauses at the end of
// each page, of which two rows take one. They may lie behind the last ones, for a prefetch reads nothing.
// Always inline, for GCC drops calls of functions that only prefetch.
BITTERN_INLINE void fetch_codes_behind(const u8* codes) {
  constexpr std::uintptr_t kAhead = 2048;
  _mm_prefetch(reinterpret_cast<const char*>(reinterpret_cast<std::uintptr_t>(codes) + kAhead), _MM_HINT_T0);
}

inline PairChunk load_pair_chunk(const Grid& grid, __m512 values, const Row& row, i64 start) {
  const u8* codes = grid.weight.packed + (row.base + start) / 2;
  const float* scale = grid.scale(row, start);
  fetch_codes_behind(codes);
  const i64 n = row.end - start, second = grid.weight.block < kChunk && n >= kChunk ? 1 : 0;
  const __m512i table = narrow_both(_mm512_mul_ps(values, _mm512_set1_ps(scale[0])),
                                    _mm512_mul_ps(values, _mm512_set1_ps(scale[second])));
  if (n >= kChunk) return {_mm512_loadu_si512(codes), table};
  return {_mm512_maskz_loadu_epi8(~0ull >> (64 - n / 2), codes), table};
}

// The numbers of code j of each word.
inline __m512i pair_numbers(PairChunk chunk, __m512i upper, int j) {
  const __m512i shifted = _mm512_srli_epi16(chunk.codes, static_cast<unsigned>(4 * j));
  constexpr int kAndOr = 0xea;  // (a & b) | c
  const __m512i index = _mm512_ternarylogic_epi32(shifted, _mm512_set1_epi16(15), upper, kAndOr);
  return _mm512_permutexvar_epi16(index, chunk.table);
}

// 16 in the words of the upper half.
inline __m512i upper_words() {
  return _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(16), 1);
}

struct PairJob {
  Linear4bitJob base;
  const u16* x;  // [m, padded(k)] bf16 in the order of pairs
};

template <int kInputs>
inline void multiply_pair_rows(const PairJob& job, i64 row, i64 other) {
  const Weight4bit& w = *job.base.weight;
  const i64 pitch = padded(w.k);
  const Grid grid(w);
  float* scales = scale_buffer(w, 2, w.k);
  const Row rows[2] = {grid.row(row, 0, w.k, scales), grid.row(other, 0, w.k, scales + scale_pitch(w, w.k))};
  const __m512 values = _mm512_loadu_ps(w.table.values);
  const __m512i upper = upper_words();
  F32 sum[2][2][kInputs];
  for (int i = 0; i < 4 * kInputs; ++i) sum[i / 2 % 2][i % 2][i / 4] = splat(0.0f);
  for (i64 start = 0; start < w.k; start += kChunk) {
    const PairChunk chunk[2] = {load_pair_chunk(grid, values, rows[0], start),
                                load_pair_chunk(grid, values, rows[1], start)};
    BITTERN_UNROLL
    for (int j = 0; j < 4; ++j) {
      BITTERN_UNROLL
      for (int r = 0; r < 2; ++r) {
        const __m512i value = pair_numbers(chunk[r], upper, j);
        BITTERN_UNROLL
        for (int i = 0; i < kInputs; ++i) {
          const __m512i input = DotBf16::load_in(job.x + i * pitch + start + j * DotBf16::kStep);
          sum[r][j % 2][i] = dot_bf16(sum[r][j % 2][i], value, input);
        }
      }
    }
  }
  for (int i = 0; i < kInputs; ++i) {
    store_sum(job.base, i, row, sum_of_lanes(add(sum[0][0][i], sum[0][1][i])));
    if (other != row) store_sum(job.base, i, other, sum_of_lanes(add(sum[1][0][i], sum[1][1][i])));
  }
}

inline void multiply_pair_rows_by(const PairJob& job, i64 row, i64 other) {
  switch (job.base.call->m) {
    case 1:
      return multiply_pair_rows<1>(job, row, other);
    case 2:
      return multiply_pair_rows<2>(job, row, other);
    case 3:
      return multiply_pair_rows<3>(job, row, other);
    default:
      return multiply_pair_rows<4>(job, row, other);
  }
}

constexpr i64 kFewPairInputs = 4;

inline void decode_pairs(const Grid& grid, const Row& row, i64 start, i64 n, u16* out) {
  const __m512 values = _mm512_loadu_ps(grid.weight.table.values);
  const __m512i upper = upper_words();
  for (i64 at = 0; at < n; at += kChunk) {
    const PairChunk chunk = load_pair_chunk(grid, values, row, start + at);
    BITTERN_UNROLL
    for (int j = 0; j < 4; ++j)
      _mm512_storeu_si512(out + at + j * DotBf16::kStep, pair_numbers(chunk, upper, j));
  }
}

inline void multiply_pair_panel(const PairJob& job, i64 row, i64 first_input, i64 inputs) {
  const Weight4bit& w = *job.base.weight;
  const Grid grid(w);
  u16* panel = scratch_array<u16>(Scratch::linear_panel, kRowTile * kPanel);
  float* scales = scale_buffer(w, 1, kPanel);
  alignas(64) F32 sums[kInputBlock * kRowTile];
  for (int i = 0; i < inputs * kRowTile; ++i) sums[i] = splat(0.0f);
  for (i64 start = 0; start < w.k; start += kPanel) {
    const i64 n = smaller(kPanel, w.k - start);
    for (int r = 0; r < kRowTile; ++r) {
      const Row part = grid.row(smaller(row + r, w.n - 1), start, n, scales);
      decode_pairs(grid, part, start, n, panel + r * kPanel);
    }
    dot_inputs<DotBf16>(panel, kPanel, job.x + first_input * padded(w.k) + start, padded(w.k), inputs,
                        padded(n), sums);
  }
  for (i64 i = 0; i < inputs; ++i) {
    for (int r = 0; r < kRowTile && row + r < w.n; ++r)
      store_sum(job.base, first_input + i, row + r, sum_of_lanes(sums[i * kRowTile + r]));
  }
}

void pair_task(void* context, i64 index) {
  const PairJob& job = *static_cast<const PairJob*>(context);
  const i64 end = smaller(job.base.weight->n, (index + 1) * job.base.task_rows), inputs = job.base.call->m;
  if (inputs <= kFewPairInputs) {
    const i64 first = index * job.base.task_rows, half = (end - first) / 2;
    for (i64 row = first; row < end - half; ++row)
      multiply_pair_rows_by(job, row, smaller(row + end - first - half, end - 1));
    return;
  }
  for (i64 first = 0; first < inputs; first += kInputBlock) {
    for (i64 row = index * job.base.task_rows; row < end; row += kRowTile)
      multiply_pair_panel(job, row, first, smaller(kInputBlock, inputs - first));
  }
}

void forward(const Linear4bitCall& call, const Weight4bit& w, int threads) {
  constexpr i64 kLeastBlock = 64;  // at most two scales per chunk
  if (call.type != DType::bf16 || !has_avx512_bf16() || Grid(w).period != 1 || w.block < kLeastBlock)
    return linear_4bit(call, w, threads);
  if (call.m == 0 || w.n == 0) return;
  u16* x = scratch_array<u16>(Scratch::linear_input, call.m * padded(w.k));
  std::memset(x, 0, static_cast<size_t>(call.m * padded(w.k)) * sizeof(u16));
  const bf16* in = static_cast<const bf16*>(call.x);
  for (i64 i = 0; i < call.m; ++i) {
    for (i64 e = 0; e < w.k; ++e) x[i * padded(w.k) + pair_place_of(e)] = in[i * w.k + e].bits;
  }
  PairJob job{{&call, &w, nullptr, task_rows(w.n, threads)}, x};
  parallel_for(ceil_div(w.n, job.base.task_rows), threads, pair_task, &job);
}

}  // namespace
