// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after its simd header.

namespace {

constexpr i64 kFlatTask = 512;  // words per task: 128 KiB of float32

static_assert(kWordBits % kLanes == 0, "a word is whole vectors");

// ---- to bits

struct FlatJob {
  const float* x;
  u64* words;
  i64 n;
  float low;
  i32 strange;  // whether another number was seen; then what is left is not looked at
};

// The bits of 64 numbers; `strange` becomes 1 in a lane that sees another number, NaN among them.
BITTERN_INLINE u64 flat_word(const float* x, F32 low, F32& strange) {
  const F32 one = splat(1.0f);
  u64 word = 0;
  BITTERN_UNROLL
  for (i64 c = 0; c < kWordBits; c += kLanes) {
    const F32 value = load(x + c);
    word |= u64{at_least(value, one)} << c;
    strange = select(either(equal(value, one), equal(value, low)), strange, one);
  }
  return word;
}

void flat_task(void* context, i64 index) {
  auto& job = *static_cast<FlatJob*>(context);
  if (__atomic_load_n(&job.strange, __ATOMIC_RELAXED) != 0) return;
  const i64 words = ceil_div(job.n, kWordBits), first = index * kFlatTask;
  const i64 end = smaller(words, first + kFlatTask), whole = smaller(job.n / kWordBits, end);
  const F32 low = splat(job.low);
  F32 strange = splat(0.0f);
  for (i64 i = first; i < whole; ++i) job.words[i] = flat_word(job.x + i * kWordBits, low, strange);
  if (whole < end) {
    float rest[kWordBits];
    for (float& value : rest) value = job.low;
    std::memcpy(rest, job.x + whole * kWordBits,
                static_cast<std::size_t>(job.n - whole * kWordBits) * sizeof(float));
    job.words[whole] = flat_word(rest, low, strange);
  }
  if (any(greater(strange, splat(0.0f)))) __atomic_store_n(&job.strange, 1, __ATOMIC_RELAXED);
}

bool flat_pack(const float* x, i64 n, float low, u64* words, int threads) {
  FlatJob job{x, words, n, low, 0};
  if (n > 0 && !(*x == 1.0f || *x == low)) return false;  // most tensors of other numbers begin with one
  parallel_for(ceil_div(ceil_div(n, kWordBits), kFlatTask), threads, flat_task, &job);
  return job.strange == 0;
}

// ---- row by row

struct RowsJob {
  const u64* words;
  u64* out;
  i64 rows, columns, words_per_row;
};

// `count` <= 64 bits from bit `first` on.
BITTERN_INLINE u64 bits_from(const u64* words, i64 first, i64 count) {
  const i64 shift = first % kWordBits;
  u64 word = words[first / kWordBits] >> shift;
  if (shift + count > kWordBits) word |= words[first / kWordBits + 1] << (kWordBits - shift);
  return count == kWordBits ? word : word & ((u64{1} << count) - 1);
}

void rows_task(void* context, i64 index) {
  const auto& job = *static_cast<const RowsJob*>(context);
  const i64 first = index * kFlatTask, end = smaller(job.rows, first + kFlatTask);
  for (i64 row = first; row < end; ++row) {
    for (i64 word = 0; word < job.words_per_row; ++word) {
      const i64 column = word * kWordBits;
      job.out[row * job.words_per_row + word] =
          bits_from(job.words, row * job.columns + column, smaller(kWordBits, job.columns - column));
    }
  }
}

void flat_rows(const u64* words, i64 rows, i64 columns, u64* out, int threads) {
  RowsJob job{words, out, rows, columns, ceil_div(columns, kWordBits)};
  parallel_for(ceil_div(rows, kFlatTask), threads, rows_task, &job);
}

// ---- to numbers

struct NumbersJob {
  const u64* words;
  float* out;
  i64 n;
  float low;
};

constexpr i32 kPowers[16] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};

BITTERN_INLINE void numbers_of(u64 word, F32 low, float* out) {
  const I32 powers = load(kPowers), none = splat(i32{0});
  const F32 one = splat(1.0f);
  BITTERN_UNROLL
  for (i64 c = 0; c < kWordBits; c += kLanes) {
    const I32 bits = both(splat(static_cast<i32>(word >> c & 0xffff)), powers);
    store(out + c, select(greater(bits, none), one, low));
  }
}

void numbers_task(void* context, i64 index) {
  const auto& job = *static_cast<const NumbersJob*>(context);
  const i64 words = ceil_div(job.n, kWordBits), first = index * kFlatTask;
  const i64 end = smaller(words, first + kFlatTask), whole = smaller(job.n / kWordBits, end);
  const F32 low = splat(job.low);
  for (i64 i = first; i < whole; ++i) numbers_of(job.words[i], low, job.out + i * kWordBits);
  if (whole == end) return;
  float rest[kWordBits];
  numbers_of(job.words[whole], low, rest);
  std::memcpy(job.out + whole * kWordBits, rest,
              static_cast<std::size_t>(job.n - whole * kWordBits) * sizeof(float));
}

void flat_unpack(const u64* words, i64 n, float low, float* out, int threads) {
  NumbersJob job{words, out, n, low};
  parallel_for(ceil_div(ceil_div(n, kWordBits), kFlatTask), threads, numbers_task, &job);
}

}  // namespace

const FlatBitsKernels flat_bits_kernels = {flat_pack, flat_rows, flat_unpack};
