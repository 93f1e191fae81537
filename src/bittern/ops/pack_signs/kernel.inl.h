// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after its simd header.

namespace {

constexpr i64 kPackTask = 512;  // words per task: 128 KiB of float32

template <class T, class Threshold>
struct PackJob {
  const T* x;
  const Threshold* threshold;
  u64* words;
  i64 rows, cols, words_per_row;
};

// Bits of `count` <= 64 elements.
template <bool kZero, class T, class Threshold>
inline u64 pack_word(const T* x, const Threshold* threshold, i64 count) {
  u64 word = 0;
  i64 c = 0;
  for (; c + kLanes <= count; c += kLanes) {
    const auto limit = kZero ? splat(Threshold(0)) : load(threshold + (kZero ? 0 : c));
    word |= u64{at_least(load(x + c), limit)} << c;
  }
  for (; c < count; ++c) {
    const Threshold limit = kZero ? Threshold(0) : threshold[c];
    word |= static_cast<u64>(widen(x[c]) >= limit) << c;
  }
  return word;
}

template <bool kZero, class T, class Threshold>
void pack_task(void* context, i64 index) {
  const auto job = *static_cast<const PackJob<T, Threshold>*>(context);
  const i64 first = index * kPackTask, end = smaller(job.rows * job.words_per_row, first + kPackTask);
  i64 word = first % job.words_per_row;
  const T* x = job.x + first / job.words_per_row * job.cols + word * kWordBits;
  for (i64 i = first; i < end; ++i) {
    const i64 col = word * kWordBits, left = job.cols - col;
    // The constant count lets the compiler unroll the common case.
    job.words[i] = left >= kWordBits ? pack_word<kZero>(x, job.threshold + (kZero ? 0 : col), kWordBits)
                                     : pack_word<kZero>(x, job.threshold + (kZero ? 0 : col), left);
    x += smaller(left, kWordBits);
    if (++word == job.words_per_row) word = 0;
  }
}

template <class T, class Threshold>
void pack_all(const void* x, i64 rows, i64 cols, const void* threshold, u64* words, int threads) {
  const i64 words_per_row = ceil_div(cols, kWordBits);
  PackJob<T, Threshold> job{
      static_cast<const T*>(x), static_cast<const Threshold*>(threshold), words, rows, cols, words_per_row};
  const Task task = threshold == nullptr ? pack_task<true, T, Threshold> : pack_task<false, T, Threshold>;
  parallel_for(ceil_div(rows * words_per_row, kPackTask), threads, task, &job);
}

void pack_any(const void* x, DType type, i64 rows, i64 cols, const void* threshold, u64* words, int threads) {
  switch (type) {
    case DType::f32:
      return pack_all<float, float>(x, rows, cols, threshold, words, threads);
    case DType::f64:
      return pack_all<double, double>(x, rows, cols, threshold, words, threads);
    case DType::f16:
      return pack_all<f16, float>(x, rows, cols, threshold, words, threads);
    case DType::bf16:
      return pack_all<bf16, float>(x, rows, cols, threshold, words, threads);
    case DType::i32:
      return pack_all<i32, i32>(x, rows, cols, threshold, words, threads);
  }
}

// ---- behind an affine map

// What is compared: a number as it is, or behind the map of its channel.
struct AsItIs {
  template <class Vector>
  Vector operator()(Vector x) const {
    return x;
  }
};

struct Mapped {
  F32 factor, addend;
  F32 operator()(F32 x) const { return multiply_add(x, factor, addend); }
};

struct MappedRow {
  const float *factor, *addend, *threshold;  // of one channel after another
};

// Bits of `count` <= 64 channels from the first of x and of the row on.
template <bool kMapped, bool kZero>
inline u64 pack_mapped_word(const float* x, const MappedRow& row, i64 count) {
  u64 word = 0;
  i64 c = 0;
  for (; c + kLanes <= count; c += kLanes) {
    F32 value = load(x + c);
    if (kMapped) value = multiply_add(value, load(row.factor + c), load(row.addend + c));
    const F32 limit = kZero ? splat(0.0f) : load(row.threshold + c);
    word |= u64{at_least(value, limit)} << c;
  }
  for (; c < count; ++c) {
    float value = x[c];
    if (kMapped) value = __builtin_fmaf(value, row.factor[c], row.addend[c]);
    word |= static_cast<u64>(value >= (kZero ? 0.0f : row.threshold[c])) << c;
  }
  return word;
}

template <bool kMapped, bool kZero>
void pack_mapped_rows(const float* x, i64 rows, i64 cols, const MappedRow& row, const BitPlace& place) {
  const i64 shift = place.first_bit;
  for (i64 i = 0; i < rows; ++i, x += cols) {
    u64* words = place.words + i * place.pixel_words;
    u64 before = shift == 0 ? 0 : *words & ((u64{1} << shift) - 1);
    for (i64 first = 0; first < cols; first += kWordBits) {
      const i64 count = smaller(kWordBits, cols - first);
      const MappedRow at{kMapped ? row.factor + first : nullptr, kMapped ? row.addend + first : nullptr,
                         kZero ? nullptr : row.threshold + first};
      // The constant count lets the compiler unroll the common case.
      const u64 word = count == kWordBits ? pack_mapped_word<kMapped, kZero>(x + first, at, kWordBits)
                                          : pack_mapped_word<kMapped, kZero>(x + first, at, count);
      *words++ = before | word << shift;
      before = shift == 0 ? 0 : word >> (kWordBits - shift);
      if (count + shift > kWordBits) *words = before;
    }
  }
}

void pack_mapped(const float* x, i64 rows, i64 cols, const float* factor, const float* addend,
                 const float* threshold, const BitPlace& place) {
  const MappedRow row{factor, addend, threshold};
  if (factor == nullptr) {
    if (threshold == nullptr) return pack_mapped_rows<false, true>(x, rows, cols, row, place);
    return pack_mapped_rows<false, false>(x, rows, cols, row, place);
  }
  if (threshold == nullptr) return pack_mapped_rows<true, true>(x, rows, cols, row, place);
  pack_mapped_rows<true, false>(x, rows, cols, row, place);
}

// ---- levels

// Adding this rounds a float32 of less than 2^22 to an integer, ties to even, which its low bits then hold.
constexpr float kRounding = 12582912.0f;  // 1.5 * 2^23

struct LevelsJob {
  const float* x;
  u64* words;
  i64 cols, planes, plane_words, words_per_row;
};

// Codes of `count` <= 64 elements into bit `i` of each plane's word.
void pack_level_word(const LevelsJob& job, const float* x, i64 count, u64* words) {
  const F32 zero = splat(0.0f), one = splat(1.0f), rounding = splat(kRounding);
  const F32 levels = splat(static_cast<float>((1 << job.planes) - 1));
  float values[kWordBits] = {};
  std::memcpy(values, x, static_cast<std::size_t>(count) * sizeof(float));
  u32 codes[kWordBits];
  for (i64 c = 0; c < kWordBits; c += kLanes) {
    const F32 value = load(values + c);
    const F32 raised = select(greater(value, zero), value, zero);  // a NaN is greater than nothing
    const F32 clipped = select(greater(raised, one), one, raised);
    store(values + c, add(multiply(clipped, levels), rounding));
  }
  std::memcpy(codes, values, sizeof codes);
  for (i64 j = 0; j < job.planes; ++j) {
    u64 word = 0;
    for (i64 c = 0; c < kWordBits; ++c) word |= static_cast<u64>(codes[c] >> j & 1) << c;
    words[j * job.plane_words] = count == kWordBits ? word : word & ((u64{1} << count) - 1);
  }
}

void pack_levels_row(void* context, i64 row) {
  const auto& job = *static_cast<const LevelsJob*>(context);
  for (i64 i = 0; i < job.words_per_row; ++i) {
    const i64 first = i * kWordBits;
    pack_level_word(job, job.x + row * job.cols + first, smaller(kWordBits, job.cols - first),
                    job.words + row * job.words_per_row + i);
  }
}

void pack_levels(const float* x, i64 rows, i64 cols, i64 planes, u64* words, i64 plane_words, int threads) {
  LevelsJob job{x, words, cols, planes, plane_words, ceil_div(cols, kWordBits)};
  parallel_for(rows, threads, pack_levels_row, &job);
}

}  // namespace

#include "planar.inl.h"

const PackSignsKernels pack_signs_kernels = {pack_any, pack_mapped, pack_levels, pack_planar};
