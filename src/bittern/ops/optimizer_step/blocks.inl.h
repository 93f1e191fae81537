// SPDX-License-Identifier: Apache-2.0

// The blocks of a tensor: where they lie, and their way to float32 and back. Included inside the namespace of
// one instruction set, after its simd header.

namespace {

constexpr int kMostStates = 4;

// What a block is worked on in: float32 numbers, padded so that whole vectors can be read and written.
// `waiting` are states of a block before, which are known but not yet encoded. The rest is what log_codes
// works with.
struct Workspace {
  float *param, *grad, *state[kMostStates], *waiting[kMostStates], *direction, *unit, *chance;
  i32* code;
  u32* random;
};

inline i64 pitch_of(i64 block) {
  return round_up(block, 64) + 64;
}

Workspace workspace(i64 block) {
  const i64 pitch = pitch_of(block);
  float* memory = scratch_array<float>(Scratch::step, pitch * (2 * kMostStates + 7));
  Workspace w;
  w.param = memory;
  w.grad = memory + pitch;
  w.direction = memory + 2 * pitch;
  for (int k = 0; k < kMostStates; ++k) {
    w.state[k] = memory + (3 + k) * pitch;
    w.waiting[k] = memory + (3 + kMostStates + k) * pitch;
  }
  float* further = memory + (3 + 2 * kMostStates) * pitch;
  w.unit = further;
  w.chance = further + pitch;
  w.code = reinterpret_cast<i32*>(further + 2 * pitch);
  w.random = reinterpret_cast<u32*>(further + 3 * pitch);
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

inline void widen_to(float* out, const void* x, DType type, i64 start, i64 n) {
  if (type == DType::f32) {
    std::memcpy(out, static_cast<const float*>(x) + start, static_cast<size_t>(n) * sizeof(float));
  } else if (type == DType::bf16) {
    for (i64 i = 0; i < n; ++i) out[i] = widen(static_cast<const bf16*>(x)[start + i]);
  } else {
    for (i64 i = 0; i < n; ++i) out[i] = widen(static_cast<const f16*>(x)[start + i]);
  }
  zero_padding(out, n);
}

// bf16 by random bits: up with the probability of the part that is cut off. Infinite and NaN as they are.
inline bf16 rounded_bf16(float x, u32 random) {
  const u32 bits = float_bits(x);
  if ((bits & 0x7f800000u) == 0x7f800000u) return bittern::rounded_bf16(x);
  return {static_cast<u16>((bits + (random & 0xffffu)) >> 16)};
}

inline float narrowed(float x, bf16& out) {
  out = bittern::rounded_bf16(x);
  return widen(out);
}
inline float narrowed(float x, f16& out) {
  out = narrow(x);
  return widen(out);
}

// Rounds the sum of a new parameter and what rounding lost before, and keeps what it loses now (Kahan).
template <class T>
inline void store_compensated(T* param, T* compensation, const float* x, i64 n) {
  for (i64 i = 0; i < n; ++i) {
    const float sum = x[i] + widen(compensation[i]);
    const float lost = sum - narrowed(sum, param[i]);
    narrowed(lost, compensation[i]);
  }
}

template <class T>
inline void store_rounded(T* param, const float* x, i64 n) {
  for (i64 i = 0; i < n; ++i) narrowed(x[i], param[i]);
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
      for (i64 i = 0; i < n; ++i) {
        p[i] = rounded_bf16(x[i], random32(call.seed, static_cast<u64>(t.first + start + i)));
      }
    } else {
      store_rounded(p, x, n);
    }
  }
}

}  // namespace
