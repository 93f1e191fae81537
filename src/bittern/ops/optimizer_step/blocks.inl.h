// SPDX-License-Identifier: Apache-2.0

// The blocks of a tensor: where they lie, and their way to float32 and back. Included inside the namespace of
// one instruction set, after its simd header.

namespace {

constexpr int kMostStates = 4;

// What a block is worked on in: float32 numbers, padded so that whole vectors can be read and written.
// `waiting` are states of a block before, which are known but not yet encoded. The rest is what log_codes
// works with.
struct Workspace {
  float *param, *grad, *state[kMostStates], *waiting[kMostStates], *unit, *chance;
  i32 *code, *random;
};

inline i64 pitch_of(i64 block) {
  return round_up(block, 64) + 64;
}

Workspace workspace(i64 block) {
  const i64 pitch = pitch_of(block);
  float* memory = scratch_array<float>(Scratch::step, pitch * (2 * kMostStates + 6));
  Workspace w;
  w.param = memory;
  w.grad = memory + pitch;
  for (int k = 0; k < kMostStates; ++k) {
    w.state[k] = memory + (2 + k) * pitch;
    w.waiting[k] = memory + (2 + kMostStates + k) * pitch;
  }
  float* rest = memory + (2 + 2 * kMostStates) * pitch;
  w.unit = rest;
  w.chance = rest + pitch;
  w.code = reinterpret_cast<i32*>(rest + 2 * pitch);
  w.random = reinterpret_cast<i32*>(rest + 3 * pitch);
  return w;
}

// Where block `index` of a tensor lies.
struct Block {
  i64 row, offset, start, n, codes, index;
};

inline i64 blocks_of(const StepTensor& t) {
  return t.row == 0 ? 0 : t.numel / t.row * ceil_div(t.row, t.block);
}

inline i64 code_offset(const StepTensor& t, i64 row, i64 offset) {
  return t.bits == 8 ? row * t.row + offset : row * ceil_div(t.row, 2) + offset / 2;
}

inline Block block_at(const StepTensor& t, i64 index) {
  const i64 per_row = ceil_div(t.row, t.block);
  const i64 row = index / per_row, offset = index % per_row * t.block;
  return {row,  offset, row * t.row + offset, smaller(t.block, t.row - offset), code_offset(t, row, offset),
          index};
}

// The block behind b; without a division.
inline Block after(const StepTensor& t, const Block& b) {
  const bool same_row = b.offset + b.n < t.row;
  const i64 row = b.row + !same_row, offset = same_row ? b.offset + b.n : 0;
  return {row,        offset, b.start + b.n, smaller(t.block, t.row - offset), code_offset(t, row, offset),
          b.index + 1};
}

inline void zero_padding(float* x, i64 n) {
  for (i64 i = n; i % kLanes != 0; ++i) x[i] = 0;
}

template <class T>
inline void widen_numbers(float* out, const T* x, i64 n) {
  const i64 whole = n / kLanes * kLanes;
  for (i64 i = 0; i < whole; i += kLanes) store(out + i, load(x + i));
  for (i64 i = whole; i < n; ++i) out[i] = widen(x[i]);
}

inline void widen_to(float* out, const void* x, DType type, i64 start, i64 n) {
  if (type == DType::f32) {
    std::memcpy(out, static_cast<const float*>(x) + start, static_cast<size_t>(n) * sizeof(float));
  } else if (type == DType::bf16) {
    widen_numbers(out, static_cast<const bf16*>(x) + start, n);
  } else {
    widen_numbers(out, static_cast<const f16*>(x) + start, n);
  }
  zero_padding(out, n);
}

// ---- random bits

inline I32 mixed(I32 x) {
  x = multiply(exclusive_or(x, shift_right<16>(x)), splat(static_cast<i32>(0x7feb352du)));
  x = multiply(exclusive_or(x, shift_right<15>(x)), splat(static_cast<i32>(0x846ca68bu)));
  return exclusive_or(x, shift_right<16>(x));
}

// random32 of kLanes numbers, as vectors: made for numbers whose upper 32 bits are one.
struct Randoms {
  u32 low;
  I32 high;

  Randoms(u64 seed, u64 first)
      : low(static_cast<u32>(first) + static_cast<u32>(seed)),
        high(splat(static_cast<i32>(static_cast<u32>(first >> 32) + static_cast<u32>(seed >> 32)))) {}
  // Of numbers first + i and following.
  I32 operator()(i64 i) const {
    return mixed(exclusive_or(mixed(ascending(static_cast<i32>(low + static_cast<u32>(i)))), high));
  }
};

inline bool share_upper_bits(u64 first, i64 n) {
  return first >> 32 == (first + static_cast<u64>(round_up(n, kLanes))) >> 32;
}

// random32 of n numbers from `first` on, rounded up to whole vectors.
inline void draw_bits(u64 seed, u64 first, i64 n, i32* out) {
  if (share_upper_bits(first, n)) {
    const Randoms randoms(seed, first);
    for (i64 i = 0; i < n; i += kLanes) store(out + i, randoms(i));
  } else {
    for (i64 i = 0; i < n; ++i) out[i] = static_cast<i32>(random32(seed, first + static_cast<u64>(i)));
  }
}

// ---- parameters

// The upper half of each number in its lower half: bits + 0x7fff and one more where the bit that stays last
// is set, so to nearest, ties to even; NaN quiet.
inline I32 nearest_bf16(F32 x) {
  const I32 bits = to_bits(x), last = both(shift_right<16>(bits), splat(1));
  const I32 rounded = add_wrapped(add_wrapped(bits, splat(0x7fff)), last);
  const I32 magnitude = both(bits, splat(0x7fffffff));
  const I32 quiet = exclusive_or(bits, both(exclusive_or(bits, splat(0x400000)), splat(0x400000)));
  return shift_right<16>(select(greater(magnitude, splat(0x7f800000)), quiet, rounded));
}

// The same by random bits: up with the probability of the part that is cut off. Infinite and NaN as they are.
inline I32 random_bf16(F32 x, I32 random) {
  const I32 bits = to_bits(x);
  const I32 rounded = shift_right<16>(add_wrapped(bits, both(random, splat(0xffff))));
  return select(not_finite(x), nearest_bf16(x), rounded);
}

inline void store_narrowed(bf16* p, F32 x) {
  store_halves(&p->bits, nearest_bf16(x));
}
inline void store_narrowed(f16* p, F32 x) {
  store(p, x);
}
inline void narrow_to(bf16& out, float x) {
  out = bittern::rounded_bf16(x);
}
inline void narrow_to(f16& out, float x) {
  out = narrow(x);
}

template <class T>
inline void store_rounded(T* param, const float* x, i64 n) {
  const i64 whole = n / kLanes * kLanes;
  for (i64 i = 0; i < whole; i += kLanes) store_narrowed(param + i, load(x + i));
  for (i64 i = whole; i < n; ++i) narrow_to(param[i], x[i]);
}

// Rounds the sum of a new parameter and what rounding lost before, and keeps what it loses now (Kahan).
template <class T>
inline void store_compensated(T* param, T* compensation, const float* x, i64 n) {
  const i64 whole = n / kLanes * kLanes;
  for (i64 i = 0; i < whole; i += kLanes) {
    const F32 sum = add(load(x + i), load(compensation + i));
    store_narrowed(param + i, sum);
    store_narrowed(compensation + i, subtract(sum, load(param + i)));
  }
  for (i64 i = whole; i < n; ++i) {
    const float sum = x[i] + widen(compensation[i]);
    narrow_to(param[i], sum);
    narrow_to(compensation[i], sum - widen(param[i]));
  }
}

// Rounds by random32 of `first` and following.
inline void store_at_random(bf16* param, const float* x, i64 n, u64 seed, u64 first) {
  const i64 whole = share_upper_bits(first, n) ? n / kLanes * kLanes : 0;
  const Randoms randoms(seed, first);
  for (i64 i = 0; i < whole; i += kLanes) store_halves(&param[i].bits, random_bf16(load(x + i), randoms(i)));
  for (i64 i = whole; i < n; ++i) {
    const u32 bits = float_bits(x[i]), random = random32(seed, first + static_cast<u64>(i));
    const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
    if (finite) {
      param[i].bits = static_cast<u16>((bits + (random & 0xffffu)) >> 16);
    } else {
      narrow_to(param[i], x[i]);
    }
  }
}

inline void store_param(const StepCall& call, const StepTensor& t, DType type, const float* x, i64 start,
                        i64 n) {
  if (type == DType::f32) {
    std::memcpy(static_cast<float*>(t.param) + start, x, static_cast<size_t>(n) * sizeof(float));
  } else if (type == DType::f16) {
    f16* p = static_cast<f16*>(t.param) + start;
    if (t.compensation == nullptr) return store_rounded(p, x, n);
    store_compensated(p, static_cast<f16*>(t.compensation) + start, x, n);
  } else {
    bf16* p = static_cast<bf16*>(t.param) + start;
    if (t.compensation != nullptr) {
      store_compensated(p, static_cast<bf16*>(t.compensation) + start, x, n);
    } else if (call.stochastic) {
      store_at_random(p, x, n, call.seed, static_cast<u64>(t.first + start));
    } else {
      store_rounded(p, x, n);
    }
  }
}

}  // namespace
