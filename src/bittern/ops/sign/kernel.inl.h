// SPDX-License-Identifier: Apache-2.0

// Plain loops that the compiler turns into vectors; included inside the namespace of one instruction set.
//
// 16-bit floats stay integers: x >= 0 fails exactly for the bit patterns above that of -0.0 (negative, or NaN
// with the sign bit set) and for NaN without the sign bit.

namespace {

constexpr i64 kSignTask = i64{1} << 15;  // elements per task: far more work than waking a thread costs

template <class T>
struct SignJob {
  const T* x;
  T* out;
  i64 n;
};

template <class T>
inline T sign_of(T x) {
  return x >= T(0) ? T(1) : T(-1);
}

constexpr u16 kMinusZero = 0x8000, kHalfInfinity = 0x7c00, kHalfOne = 0x3c00;
constexpr u16 kBrainInfinity = 0x7f80, kBrainOne = 0x3f80;

template <u16 kInfinity, u16 kOne>
inline u16 sign_of_bits(u16 x) {
  const bool minus = x > kMinusZero || (x > kInfinity && x < kMinusZero);
  return static_cast<u16>(minus ? kOne | kMinusZero : kOne);
}

inline f16 sign_of(f16 x) {
  return {sign_of_bits<kHalfInfinity, kHalfOne>(x.bits)};
}
inline bf16 sign_of(bf16 x) {
  return {sign_of_bits<kBrainInfinity, kBrainOne>(x.bits)};
}

template <class T>
void sign_task(void* context, i64 index) {
  const auto& job = *static_cast<const SignJob<T>*>(context);
  const i64 first = index * kSignTask, end = smaller(job.n, first + kSignTask);
  const T* __restrict__ x = job.x;
  T* __restrict__ out = job.out;
  for (i64 i = first; i < end; ++i) out[i] = sign_of(x[i]);
}

template <class T>
void sign_all(const void* x, i64 n, void* out, int threads) {
  SignJob<T> job{static_cast<const T*>(x), static_cast<T*>(out), n};
  parallel_for(ceil_div(n, kSignTask), threads, sign_task<T>, &job);
}

void sign_any(const void* x, DType type, i64 n, void* out, int threads) {
  switch (type) {
    case DType::f32:
      return sign_all<float>(x, n, out, threads);
    case DType::f64:
      return sign_all<double>(x, n, out, threads);
    case DType::f16:
      return sign_all<f16>(x, n, out, threads);
    case DType::bf16:
      return sign_all<bf16>(x, n, out, threads);
    case DType::i32:
      return sign_all<i32>(x, n, out, threads);
  }
}

}  // namespace

const SignKernels sign_kernels = {sign_any};
