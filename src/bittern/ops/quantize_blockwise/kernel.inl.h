// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after its simd header and its codec.

namespace {

constexpr i64 kBlockMost = 4096, kTaskElements = 1 << 15, kSlack = 64;

inline bool is_tree(const CodeTable& table) {
  return table.tree >= 0;
}

// What the fast paths need to know of a block.
struct BlockFacts {
  float absmax;
  bool plain;  // finite, and nothing below 0
  bool finite;
};

inline BlockFacts look_at(const float* x, i64 n) {
  F32 largest = splat(0.0f), least = splat(0.0f);
  bool odd = false;
  i64 i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const F32 v = load(x + i);
    const Mask bad = not_finite(v);
    odd |= any(bad);
    const F32 magnitude = select(bad, splat(0.0f), absolute(v));
    largest = maximum(largest, magnitude);
    least = maximum(least, subtract(splat(0.0f), v));
  }
  float absmax = largest_lane(largest), below = largest_lane(least);
  for (; i < n; ++i) {
    const float magnitude = __builtin_fabsf(x[i]);
    if (!(magnitude <= 3.40282347e38f)) {
      odd = true;
    } else if (magnitude > absmax) {
      absmax = magnitude;
    }
    if (-x[i] > below) below = -x[i];
  }
  return {absmax >= kLeastAbsmax ? absmax : 0.0f, !odd && below == 0, !odd};
}

inline u32 nearest(const CodeTable& t, float y) {
  u32 index = 0;
  for (u32 step = 128; step > 0; step /= 2) index += y >= t.borders[index + step] ? step : 0;
  return index;
}

// Of the neighbours of y the upper one with the probability of its share, by the random number `u` in [0, 1).
inline u32 by_chance(const CodeTable& t, float y, float u) {
  u32 low = 0;
  const u32 last = static_cast<u32>(t.entries) - 1;
  for (u32 step = 128; step > 0; step /= 2) low += low + step <= last && y >= t.values[low + step] ? step : 0;
  if (low == last) return last;
  return low + (u * (t.values[low + 1] - t.values[low]) < y - t.values[low]);
}

// Any table, any number, one at a time: the meaning of all faster ways.
inline u32 code_of(const CodeTable& t, const QuantizeCall& call, float x, float inverse, i64 i) {
  float y = inverse == 0 ? 0.0f : x * inverse;
  if (!(y == y)) y = 0;
  u32 code = 0;
  if (call.stochastic) {
    const u32 random = random32(call.seed, static_cast<u64>(i));
    code = by_chance(t, y, static_cast<float>(random >> 8) * (1.0f / (1 << 24)));
  } else {
    code = nearest(t, y);
  }
  return t.keep_nonzero && y > 0 && code == 0 ? 1 : code;
}

inline void quantize_slowly(const CodeTable& t, const QuantizeCall& call, const float* x, i64 start, i64 n,
                            float inverse) {
  u8* codes = call.codes + (call.nibbles ? start / 2 : start);
  for (i64 i = 0; i < n; ++i) {
    const u32 code = code_of(t, call, x[i], inverse, start + i);
    if (!call.nibbles) {
      codes[i] = static_cast<u8>(code);
    } else if (i % 2 == 0) {
      codes[i / 2] = static_cast<u8>(code << 4);
    } else {
      codes[i / 2] = static_cast<u8>(codes[i / 2] | code);
    }
  }
}

inline void quantize_block(const CodeTable& t, const QuantizeCall& call, const float* x, i64 block, i64 n) {
  const BlockFacts facts = look_at(x, n);
  const float inverse = inverse_of(facts.absmax);
  const i64 start = block * call.block_size;
  call.absmax[block] = facts.absmax;
  const bool has_sign = t.tree == static_cast<int>(Code::signed_tree8);
  if (!call.stochastic && is_tree(t) && !call.nibbles && (has_sign ? facts.finite : facts.plain)) {
    encode_block(static_cast<Code>(t.tree), x, n, facts.absmax, call.codes + start);
  } else if (!call.stochastic && call.nibbles && facts.finite && !t.keep_nonzero) {
    encode_nibbles(t.nibble, x, n, inverse, call.codes + start / 2);
  } else {
    quantize_slowly(t, call, x, start, n, inverse);
  }
}

template <class T>
void widen_all(const T* x, float* out, i64 n) {
  i64 i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, load(x + i));
  for (; i < n; ++i) out[i] = widen(x[i]);
}

// Elements that a task starts behind; a task takes whole blocks.
inline i64 task_elements(i64 block_size) {
  return round_up(kTaskElements, block_size);
}

struct QuantizeJob {
  const QuantizeCall* call;
  const CodeTable* table;
};

void quantize_task(void* context, i64 index) {
  const QuantizeJob& job = *static_cast<const QuantizeJob*>(context);
  const QuantizeCall& call = *job.call;
  alignas(64) float wide[kBlockMost + kSlack];
  const i64 size = task_elements(call.block_size), end = smaller(call.n, (index + 1) * size);
  for (i64 start = index * size; start < end; start += call.block_size) {
    const i64 n = smaller(call.block_size, end - start);
    const float* x = wide;
    if (call.type == DType::f32) {
      x = static_cast<const float*>(call.x) + start;
    } else if (call.type == DType::bf16) {
      widen_all(static_cast<const bf16*>(call.x) + start, wide, n);
    } else {
      widen_all(static_cast<const f16*>(call.x) + start, wide, n);
    }
    quantize_block(*job.table, call, x, start / call.block_size, n);
  }
}

void quantize_any(const QuantizeCall& call, const CodeTable& table, int threads) {
  QuantizeJob job{&call, &table};
  parallel_for(ceil_div(call.n, task_elements(call.block_size)), threads, quantize_task, &job);
}

// ---- back

inline void decode(const CodeTable& t, const DequantizeCall& call, const u8* codes, float absmax, float* out,
                   i64 n) {
  if (call.nibbles) {
    decode_nibbles(t.nibble, codes, absmax, out, n);
  } else {
    decode_table(t.values, t.bytes, codes, absmax, out, n);
  }
}

struct DequantizeJob {
  const DequantizeCall* call;
  const CodeTable* table;
};

void dequantize_task(void* context, i64 index) {
  const DequantizeJob& job = *static_cast<const DequantizeJob*>(context);
  const DequantizeCall& call = *job.call;
  alignas(64) float wide[kBlockMost + kSlack];
  const i64 size = task_elements(call.block_size), end = smaller(call.n, (index + 1) * size);
  for (i64 start = index * size; start < end; start += call.block_size) {
    const i64 n = smaller(call.block_size, end - start);
    const u8* codes = call.codes + (call.nibbles ? start / 2 : start);
    const float absmax = call.absmax[start / call.block_size];
    if (call.type == DType::f32 && n % kSlack == 0) {
      decode(*job.table, call, codes, absmax, static_cast<float*>(call.out) + start, n);
      continue;
    }
    decode(*job.table, call, codes, absmax, wide, n);
    if (call.type == DType::f32) {
      std::memcpy(static_cast<float*>(call.out) + start, wide, static_cast<std::size_t>(n) * sizeof(float));
    } else if (call.type == DType::bf16) {
      bf16* out = static_cast<bf16*>(call.out) + start;
      for (i64 i = 0; i < n; ++i) out[i] = rounded_bf16(wide[i]);
    } else {
      f16* out = static_cast<f16*>(call.out) + start;
      for (i64 i = 0; i < n; ++i) out[i] = narrow(wide[i]);
    }
  }
}

void dequantize_any(const DequantizeCall& call, const CodeTable& table, int threads) {
  DequantizeJob job{&call, &table};
  parallel_for(ceil_div(call.n, task_elements(call.block_size)), threads, dequantize_task, &job);
}

}  // namespace

const QuantizeBlockwiseKernels quantize_blockwise_kernels = {quantize_any, dequantize_any};
