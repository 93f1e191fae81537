// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set. Plain loops, of which the compiler makes vectors,
// over some pixels of a channel at once.

namespace {

using i8 = std::int8_t;

constexpr i64 kTogether = 64;  // numbers

// NaN becomes 0, as torch has it.
inline i8 quantized(float x, float scale, float zero) {
  const float q = x / scale, whole = __builtin_truncf(q);
  const float away = __builtin_fabsf(q - whole) >= 0.5f ? __builtin_copysignf(1.0f, q) : 0.0f;
  const float y = whole + away + zero, most = y > 127.0f ? 127.0f : y, held = most < -128.0f ? -128.0f : most;
  return static_cast<i8>(static_cast<i32>(held != held ? 0.0f : held));
}

void quantize_all(const float* x, float scale, float zero, i8* out) {
  for (i64 i = 0; i < kTogether; ++i) out[i] = quantized(x[i], scale, zero);
}

void quantize_some(const float* x, i64 count, float scale, float zero, i8* out) {
  for (; count >= kTogether; count -= kTogether, x += kTogether, out += kTogether) {
    quantize_all(x, scale, zero, out);
  }
  for (i64 i = 0; i < count; ++i) out[i] = quantized(x[i], scale, zero);
}

// Three channels of some pixels side by side.
void join_three(const i8 (&parts)[3][kTogether], i64 count, i8* out) {
  u32 pixels[kTogether];
  for (i64 i = 0; i < kTogether; ++i) {
    pixels[i] = static_cast<u8>(parts[0][i]) | static_cast<u32>(static_cast<u8>(parts[1][i])) << 8 |
                static_cast<u32>(static_cast<u8>(parts[2][i])) << 16;
  }
  for (i64 i = 0; i + 1 < count; ++i)
    std::memcpy(out + 3 * i, pixels + i, sizeof(u32));  // the next one follows
  for (i64 k = 0; k < 3; ++k) out[3 * (count - 1) + k] = parts[k][count - 1];
}

// Some pixels of a channel: where they lie, or side by side in `copied`.
const float* side_by_side(const IntegerQuantize& q, const float* x, i64 count, float* copied) {
  if (q.x_pixel == 1) return x;
  for (i64 i = 0; i < count; ++i) copied[i] = x[i * q.x_pixel];
  return copied;
}

void quantize_row(void* context, i64 index) {
  const IntegerQuantize& q = *static_cast<const IntegerQuantize*>(context);
  const float* x = q.x + index / q.height * q.x_image + index % q.height * q.x_row;
  const float scale = *q.scale, zero = static_cast<float>(q.zero);
  i8* out = q.out + index * q.width * q.channels;
  const bool last = (q.x_channel == 1 || q.channels == 1) && (q.x_pixel == q.channels || q.width <= 1);
  if (last) return quantize_some(x, q.width * q.channels, scale, zero, out);
  float copied[kTogether];
  i8 parts[3][kTogether] = {};
  for (i64 first = 0; first < q.width; first += kTogether) {
    const i64 count = smaller(kTogether, q.width - first);
    i8* to = out + first * q.channels;
    for (i64 c = 0; c < q.channels; ++c) {
      const float* from = side_by_side(q, x + first * q.x_pixel + c * q.x_channel, count, copied);
      i8* part = parts[q.channels == 3 ? c : 0];
      quantize_some(from, count, scale, zero, part);
      if (q.channels == 3) continue;
      for (i64 i = 0; i < count; ++i) to[i * q.channels + c] = part[i];
    }
    if (q.channels == 3) join_three(parts, count, to);
  }
}

void integer_quantize(const IntegerQuantize& q, int threads) {
  constexpr i64 kWorthThreads = i64{1} << 17;  // numbers
  if (q.batch * q.height * q.width * q.channels < kWorthThreads) threads = 1;
  parallel_for(q.batch * q.height, threads, quantize_row, const_cast<IntegerQuantize*>(&q));
}

}  // namespace

const IntegerQuantizeKernels integer_quantize_kernels = {integer_quantize};
