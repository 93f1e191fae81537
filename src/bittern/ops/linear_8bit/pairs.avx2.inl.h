// SPDX-License-Identifier: Apache-2.0

// Two products of int8 for one multiplication, where several inputs share the weight:
//
//   w0 x0 + w1 x1 = (w0 + x1) (w1 + x0) - w0 w1 - x0 x1
//
// What is taken off belongs to a row of the weight or to an input alone, and is summed once for all. Sums of
// two numbers have 9 bits, so they are formed in 16; VPMADDWD multiplies sixteen and adds the products in
// pairs. 32 products so take one multiplication and three additions, where widened numbers take two of each
// and bytes (VPSIGNB, VPMADDUBSW, VPMADDWD, VPADDD) three and one: a Zen 3 adds four vectors a cycle and
// multiplies two. Sums of 32 bits may wrap, for the result fits.
//
// Both sides lie in the order in which they are read, one stream each, for which the cache fetches ahead.
// Included inside namespace avx2, after kernel.inl.h.
//
// Source: S. Winograd, "A New Algorithm for Inner Product", IEEE Transactions on Computers C-17 (1968).

namespace {

constexpr i64 kLeastPairInputs = 8;  // from which on it is worth to put the weight in order
constexpr i64 kPairPanel = 1024;     // columns of four rows that lie in the first cache
constexpr i64 kPairStep = 32;        // columns of two vectors of 16 bits: the even ones, the odd ones
constexpr i64 kPairInputBlock = 48;  // that share a panel
// A task multiplies a panel's part of a block of inputs, which the second cache holds, with so many rows.
constexpr i64 kMostPairRows = 128;
constexpr i64 kPairInputs = 2;  // that are multiplied together, with kRowTile rows

// The inputs lie as they are read: [panels of columns][pairs of inputs][steps][kPairInputs][kPairStep].
struct PairJob {
  const Linear8bitCall* call;
  i64 inputs;     // m, and one of zeros if that is odd
  i64 task_rows;  // a multiple of kRowTile
  std::int16_t* x;
  InputRow* rows;  // [m]; sum: of the products of its pairs of columns

  // Input i from column `start` on, where a panel of n begins.
  std::int16_t* input(i64 i, i64 start, i64 n) const {
    return x + start * inputs + i / kPairInputs * kPairInputs * n + i % kPairInputs * kPairStep;
  }
};

// Columns of a step, or sums of them.
struct Apart {
  __m256i even, odd;
};
BITTERN_INLINE Apart load_apart(const std::int16_t* p) {
  return {load_8_words(p), load_8_words(p + kPairStep / 2)};
}

// n bytes, a multiple of kPairStep, to steps `pitch` apart; gives the sum of the products of their pairs.
inline u32 widen_pairs(const std::int8_t* in, i64 n, std::int16_t* out, i64 pitch) {
  __m256i sum = _mm256_setzero_si256();
  for (i64 e = 0; e < n; e += kPairStep, out += pitch) {
    const __m256i bytes = load_8_words(in + e);
    const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8), odd = _mm256_srai_epi16(bytes, 8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), even);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + kPairStep / 2), odd);
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(even, odd));
  }
  return static_cast<u32>(DotI8::total(sum));
}

void pair_input_task(void* context, i64 i) {
  const PairJob& job = *static_cast<const PairJob*>(context);
  const Linear8bitCall& call = *job.call;
  const i64 columns = padded(call.k);
  std::int8_t* codes = scratch_array<std::int8_t>(Scratch::linear_rows, columns);
  InputRow row{};
  if (i < call.m) {
    row = quantized_row(call, i, columns, scratch_array<float>(Scratch::linear_panel, columns), codes);
  } else {
    std::memset(codes, 0, static_cast<size_t>(columns));
  }
  u32 own = 0;
  for (i64 start = 0; start < columns; start += kPairPanel) {
    const i64 n = smaller(kPairPanel, columns - start);
    own += widen_pairs(codes + start, n, job.input(i, start, n), kPairInputs * kPairStep);
  }
  job.rows[i] = {row.factor, static_cast<i32>(own)};
}

using PairSums = __m256i[kPairInputs][kRowTile];

// sum += a step of kRowTile rows times that of kPairInputs inputs, and what is taken off later.
BITTERN_INLINE void add_pairs(const std::int16_t* panel, const std::int16_t* x, PairSums& sum) {
  Apart input[kPairInputs];
  BITTERN_UNROLL
  for (int i = 0; i < kPairInputs; ++i) input[i] = load_apart(x + i * kPairStep);
  BITTERN_UNROLL
  for (int r = 0; r < kRowTile; ++r) {
    Apart w = load_apart(panel + r * kPairStep);
    // These emit nothing. Without them the compiler loads a row anew for each input, and forms all products
    // first, for which there are no registers.
    __asm__("" : "+x"(w.even), "+x"(w.odd));
    BITTERN_UNROLL
    for (int i = 0; i < kPairInputs; ++i) {
      const __m256i products =
          _mm256_madd_epi16(_mm256_add_epi16(w.even, input[i].odd), _mm256_add_epi16(w.odd, input[i].even));
      sum[i][r] = _mm256_add_epi32(sum[i][r], products);
      __asm__("" : "+x"(sum[i][r]));
    }
  }
}

// The lanes of four sums added up.
inline __m128i totals(const __m256i (&sums)[kRowTile]) {
  const __m256i four =
      _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
  return _mm_add_epi32(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
}

// to [kPairInputs][kRowTile] += the products of n columns, a multiple of 2 * kPairStep.
inline void pair_tile(const std::int16_t* panel, const std::int16_t* x, i64 n, i32* to) {
  PairSums sum;
  BITTERN_UNROLL
  for (int i = 0; i < kPairInputs; ++i) {
    BITTERN_UNROLL
    for (int r = 0; r < kRowTile; ++r) sum[i][r] = _mm256_setzero_si256();
  }
  for (i64 at = 0; at < n; at += 2 * kPairStep) {
    add_pairs(panel + at * kRowTile, x + at * kPairInputs, sum);
    add_pairs(panel + (at + kPairStep) * kRowTile, x + (at + kPairStep) * kPairInputs, sum);
  }
  BITTERN_UNROLL
  for (int i = 0; i < kPairInputs; ++i) {
    __m128i* const place = reinterpret_cast<__m128i*>(to + i * kRowTile);
    _mm_storeu_si128(place, _mm_add_epi32(_mm_loadu_si128(place), totals(sum[i])));
  }
}

// Columns [start, start + n) of a row, with zeros behind the last one.
inline u32 widen_weight(const Linear8bitCall& call, i64 row, i64 start, i64 n, std::int16_t* out) {
  constexpr i64 kPitch = kRowTile * kPairStep;
  const std::int8_t* weight = call.weight + row * call.k + start;
  const i64 here = smaller(n, call.k - start), whole = here / kPairStep * kPairStep;
  const u32 sum = widen_pairs(weight, whole, out, kPitch);
  if (whole == n) return sum;
  std::int8_t rest[2 * kPairStep] = {};
  std::memcpy(rest, weight + whole, static_cast<size_t>(here - whole));
  return sum + widen_pairs(rest, n - whole, out + whole * kRowTile, kPitch);
}

// Asks for n bytes of a row that is widened next, while products are formed. They may lie behind the last
// one, for a prefetch reads nothing. Always inline, for GCC drops calls of functions that only prefetch.
BITTERN_INLINE void fetch(const std::int8_t* weight, i64 at, i64 n) {
  const std::uintptr_t start = reinterpret_cast<std::uintptr_t>(weight) + static_cast<std::uintptr_t>(at);
  for (i64 e = 0; e < n; e += 64)
    _mm_prefetch(reinterpret_cast<const char*>(start + static_cast<std::uintptr_t>(e)), _MM_HINT_T0);
}

// Rows [begin, end) times `inputs` inputs from first_input on, an even number of them.
struct PairBlock {
  i64 begin, end, first_input, inputs;
  u32 of_rows[kMostPairRows];                 // what is taken off
  i32 sums[kMostPairRows * kPairInputBlock];  // [row tiles][inputs][kRowTile]

  i32* at(i64 row, i64 i) { return sums + (row - begin) * inputs + i * kRowTile; }
};

// Columns [start, start + n) of kRowTile rows; `next` is what comes afterwards, in the weight.
inline void add_columns(const PairJob& job, PairBlock& block, i64 row, i64 start, i64 n, i64 next) {
  const Linear8bitCall& call = *job.call;
  std::int16_t* panel = scratch_array<std::int16_t>(Scratch::linear_panel, kRowTile * kPairPanel);
  for (i64 r = 0; r < kRowTile; ++r) {  // behind the last row the last one again; nobody stores it
    block.of_rows[row - block.begin + r] +=
        widen_weight(call, smaller(row + r, call.n - 1), start, n, panel + r * kPairStep);
  }
  for (i64 i = 0; i < block.inputs; i += kPairInputs) {
    for (i64 r = i / kPairInputs; r < kRowTile; r += block.inputs / kPairInputs)
      fetch(call.weight, next + r * call.k, n);
    pair_tile(panel, job.input(block.first_input + i, start, n), n, block.at(row, i));
  }
}

// All rows of an input in turn: what lies side by side is stored together.
inline void store_block(const PairJob& job, PairBlock& block) {
  const i64 last = smaller(block.inputs, job.call->m - block.first_input);
  for (i64 i = 0; i < last; ++i) {
    const InputRow& input = job.rows[block.first_input + i];
    for (i64 row = block.begin; row < block.end; ++row) {
      const i64 r = (row - block.begin) % kRowTile;
      const u32 sum = static_cast<u32>(block.at(row - r, i)[r]);
      const u32 exact = sum - block.of_rows[row - block.begin] - static_cast<u32>(input.sum);
      store_product(*job.call, input, block.first_input + i, row, static_cast<i32>(exact));
    }
  }
}

void pair_task(void* context, i64 index) {
  const PairJob& job = *static_cast<const PairJob*>(context);
  const i64 k = job.call->k, columns = padded(k), begin = index * job.task_rows;
  const i64 end = smaller(job.call->n, begin + job.task_rows);
  for (i64 first = 0; first < job.inputs; first += kPairInputBlock) {
    PairBlock block{begin, end, first, smaller(kPairInputBlock, job.inputs - first), {}, {}};
    for (i64 start = 0; start < columns; start += kPairPanel) {
      const i64 n = smaller(kPairPanel, columns - start);
      for (i64 row = begin; row < end; row += kRowTile) {
        const i64 next = row + kRowTile < end ? (row + kRowTile) * k + start : begin * k + start + n;
        add_columns(job, block, row, start, n, next);
      }
    }
    store_block(job, block);
  }
}

void forward(const Linear8bitCall& call, int threads) {
  if (call.m < kLeastPairInputs || call.n == 0) return linear_8bit(call, threads);
  const i64 inputs = round_up(call.m, kPairInputs);
  const i64 each = call.n / (4 * threads);  // each thread should get a few tasks
  const i64 rows = round_up(larger(kTaskRows, smaller(kMostPairRows, each)), kRowTile);
  PairJob job{&call, inputs, rows,
              scratch_array<std::int16_t>(Scratch::linear_input, inputs * padded(call.k)),
              scratch_array<InputRow>(Scratch::linear_sums, inputs)};
  parallel_for(inputs, threads, pair_input_task, &job);
  parallel_for(ceil_div(call.n, rows), threads, pair_task, &job);
}

}  // namespace
