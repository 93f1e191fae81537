// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after its simd header. A chunk is 64 elements and a
// word of the mask; the last one goes through a buffer.

namespace {

constexpr i64 kChunk = 64;
constexpr i64 kMaskTask = 512;  // chunks per task: 128 KiB of float32

static_assert(kChunk % kLanes == 0, "a chunk is whole vectors");

// Adding and subtracting this rounds a float32 of less than 2^22 to an integer, ties to even.
constexpr float kToInteger = 12582912.0f;  // 1.5 * 2^23

// Values and inside bits of one vector.
struct SignRule {
  F32 limit;
  BITTERN_INLINE u32 apply(F32 x, F32& value) const {
    const F32 zero = splat(0.0f);
    value = select(either(greater(x, zero), equal(x, zero)), splat(1.0f), splat(-1.0f));
    return at_least(limit, absolute(x));
  }
};

struct LevelsRule {
  F32 top;
  BITTERN_INLINE u32 apply(F32 x, F32& value) const {
    const F32 zero = splat(0.0f), one = splat(1.0f), rounding = splat(kToInteger);
    const F32 raised = select(greater(x, zero), x, zero);  // a NaN is greater than nothing
    const F32 clipped = select(greater(raised, one), one, raised);
    value = subtract(add(multiply(clipped, top), rounding), rounding);
    return at_least(x, zero) & at_least(one, x);
  }
};

template <class Rule>
struct MaskJob {
  const float* x;
  float* out;
  u8* mask;
  i64 n;
  Rule rule;
};

template <class Rule>
BITTERN_INLINE u64 mask_chunk(const Rule& rule, const float* x, float* out) {
  u64 word = 0;
  for (i64 i = 0; i < kChunk; i += kLanes) {
    F32 value;
    word |= u64{rule.apply(load(x + i), value)} << i;
    store(out + i, value);
  }
  return word;
}

// Byte by byte, so that the order of bits is that of the elements on any machine.
inline void store_word(u8* mask, u64 word, i64 bytes) {
  for (i64 i = 0; i < bytes; ++i) mask[i] = static_cast<u8>(word >> 8 * i);
}
inline u64 load_word(const u8* mask, i64 bytes) {
  u64 word = 0;
  for (i64 i = 0; i < bytes; ++i) word |= u64{mask[i]} << 8 * i;
  return word;
}

template <class Rule>
void mask_task(void* context, i64 index) {
  const auto job = *static_cast<const MaskJob<Rule>*>(context);
  const i64 first = index * kMaskTask * kChunk, end = smaller(job.n, first + kMaskTask * kChunk);
  i64 i = first;
  for (; i + kChunk <= end; i += kChunk) {
    store_word(job.mask + i / 8, mask_chunk(job.rule, job.x + i, job.out + i), 8);
  }
  if (i == end) return;
  const i64 left = end - i;
  float x[kChunk] = {}, out[kChunk];
  std::memcpy(x, job.x + i, static_cast<std::size_t>(left) * sizeof(float));
  const u64 word = mask_chunk(job.rule, x, out) & ((u64{1} << left) - 1);
  std::memcpy(job.out + i, out, static_cast<std::size_t>(left) * sizeof(float));
  store_word(job.mask + i / 8, word, ceil_div(left, 8));
}

template <class Rule>
void mask_all(const float* x, i64 n, Rule rule, float* out, u8* mask, int threads) {
  MaskJob<Rule> job{x, out, mask, n, rule};
  parallel_for(ceil_div(n, kMaskTask * kChunk), threads, mask_task<Rule>, &job);
}

void sign_and_mask(const float* x, i64 n, float limit, float* out, u8* mask, int threads) {
  mask_all(x, n, SignRule{splat(limit)}, out, mask, threads);
}

void levels_and_mask(const float* x, i64 n, float top, float* out, u8* mask, int threads) {
  mask_all(x, n, LevelsRule{splat(top)}, out, mask, threads);
}

// ---- backward

struct GradientJob {
  const float* grad;
  const u8* mask;
  float* out;
  i64 n;
  float factor;
};

constexpr i32 kPowers[16] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};

BITTERN_INLINE void gradient_chunk(const float* grad, u64 word, F32 factor, float* out) {
  const I32 powers = load(kPowers), none = splat(i32{0});
  for (i64 i = 0; i < kChunk; i += kLanes) {
    const I32 bits = both(splat(static_cast<i32>(word >> i & 0xffff)), powers);
    store(out + i, multiply(load(grad + i), select(greater(bits, none), factor, splat(0.0f))));
  }
}

void gradient_task(void* context, i64 index) {
  const auto job = *static_cast<const GradientJob*>(context);
  const i64 first = index * kMaskTask * kChunk, end = smaller(job.n, first + kMaskTask * kChunk);
  const F32 factor = splat(job.factor);
  i64 i = first;
  for (; i + kChunk <= end; i += kChunk) {
    gradient_chunk(job.grad + i, load_word(job.mask + i / 8, 8), factor, job.out + i);
  }
  if (i == end) return;
  const i64 left = end - i;
  float grad[kChunk] = {}, out[kChunk];
  std::memcpy(grad, job.grad + i, static_cast<std::size_t>(left) * sizeof(float));
  gradient_chunk(grad, load_word(job.mask + i / 8, ceil_div(left, 8)), factor, out);
  std::memcpy(job.out + i, out, static_cast<std::size_t>(left) * sizeof(float));
}

void gradient_under_mask(const float* grad, const u8* mask, i64 n, float factor, float* out, int threads) {
  GradientJob job{grad, mask, out, n, factor};
  parallel_for(ceil_div(n, kMaskTask * kChunk), threads, gradient_task, &job);
}

}  // namespace

const ClippedSignKernels clipped_sign_kernels = {sign_and_mask, levels_and_mask, gradient_under_mask};
