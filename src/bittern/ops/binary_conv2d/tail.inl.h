// SPDX-License-Identifier: Apache-2.0

// The tail of a convolution: from a unit of accumulators to real numbers and bits. Included inside the
// namespace of one instruction set, after its simd header.
//
// Every step is rounded as torch rounds it (docs/numerics.md), so that a fused layer gives the bits of the
// layers that it replaces. NaN passes through the activations.

namespace {

constexpr int kUnitVectors = static_cast<int>(kTailUnit / kLanes);

// An output pixel: its number among all, and its image, row and column.
struct Place {
  i64 index, image, y, x;
};

// The accumulators of a unit, of which `count` channels exist.
struct Unit {
  i64 channel, count;
  I32 acc[kUnitVectors];
};

enum class Residual { none, first, last };

// The rows of kLanes channels.
struct TailVectors {
  F32 offset, scale, alpha, beta, first, second, third, threshold, residual_alpha, residual_beta;
};

inline TailVectors load_tail(const float* rows, i64 pitch) {
  return {load(rows + kOffset * pitch),        load(rows + kScale * pitch),
          load(rows + kAlpha * pitch),         load(rows + kBeta * pitch),
          load(rows + kFirst * pitch),         load(rows + kSecond * pitch),
          load(rows + kThird * pitch),         load(rows + kThreshold * pitch),
          load(rows + kResidualAlpha * pitch), load(rows + kResidualBeta * pitch)};
}

template <Activation kActivation>
inline F32 activate(F32 y, const TailVectors& v) {
  const F32 zero = splat(0.0f);
  if constexpr (kActivation == Activation::relu) return maximum(zero, y);
  if constexpr (kActivation == Activation::hardtanh) {
    const F32 raised = maximum(v.first, y);
    return select(greater(raised, v.second), v.second, raised);
  }
  if constexpr (kActivation == Activation::prelu) return select(greater(y, zero), y, multiply(v.first, y));
  if constexpr (kActivation == Activation::rprelu) {
    const F32 t = subtract(y, v.first);
    return add(select(greater(t, zero), t, multiply(v.second, t)), v.third);
  }
  return y;
}

// residual: unused where there is none; mapped: by its affine map; input_scale: null, or where the pixel's
// is; factor: null, or what y is multiplied by.
template <Activation kActivation, Residual kResidual>
inline F32 with_tail(F32 acc, F32 residual, bool mapped, const TailVectors& v,
                     const float* input_scale = nullptr, const float* factor = nullptr) {
  if (kResidual != Residual::none && mapped)
    residual = multiply_add(residual, v.residual_alpha, v.residual_beta);
  F32 y = multiply(add(acc, v.offset), v.scale);
  if (input_scale != nullptr) y = multiply(y, splat(*input_scale));
  if (factor != nullptr) y = multiply(y, load(factor));
  y = multiply_add(y, v.alpha, v.beta);
  if (kResidual == Residual::first) y = add(y, residual);
  y = activate<kActivation>(y, v);
  if (kResidual == Residual::last) y = add(y, residual);
  return y;
}

// Where the residual of output channel c comes from, or -1.
inline i64 residual_channel(const Tail& t, i64 c) {
  const i64 source = c - t.residual_shift;
  if (t.residual_repeats != 0) return source % t.residual_channels;
  return source >= 0 && source < t.residual_channels ? source : -1;
}

// The mean over a window, summed and divided as torch's avg_pool2d does.
inline float pooled(const Tail& t, const Place& p, i64 channel) {
  const i64 bottom = smaller((p.y + 1) * t.residual_pool, t.residual_height);
  const i64 right = smaller((p.x + 1) * t.residual_pool, t.residual_width);
  float sum = 0;
  i64 count = 0;
  for (i64 y = p.y * t.residual_pool; y < bottom; ++y) {
    const i64 row = (p.image * t.residual_height + y) * t.residual_width;
    for (i64 x = p.x * t.residual_pool; x < right; ++x, ++count) {
      sum += t.residual[(row + x) * t.residual_channels + channel];
    }
  }
  return sum / static_cast<float>(count);
}

// The same for a unit of neighbouring channels.
inline void pooled_unit(const Tail& t, const Place& p, i64 channel, float* out) {
  const i64 bottom = smaller((p.y + 1) * t.residual_pool, t.residual_height);
  const i64 right = smaller((p.x + 1) * t.residual_pool, t.residual_width);
  const i64 top = p.y * t.residual_pool, left = p.x * t.residual_pool;
  const F32 count = splat(static_cast<float>((bottom - top) * (right - left)));
  for (int j = 0; j < kUnitVectors; ++j) {
    F32 sum = splat(0.0f);
    for (i64 y = top; y < bottom; ++y) {
      const i64 row = (p.image * t.residual_height + y) * t.residual_width;
      for (i64 x = left; x < right; ++x) {
        sum = add(sum, load(t.residual + (row + x) * t.residual_channels + channel + j * kLanes));
      }
    }
    store(out + j * kLanes, divide(sum, count));
  }
}

// The residual of a unit: where it lies, or copied to `buffer`.
inline const float* residual_unit(const Tail& t, const Place& p, const Unit& unit, float* buffer) {
  const i64 first = residual_channel(t, unit.channel),
            last = residual_channel(t, unit.channel + unit.count - 1);
  const bool whole = unit.count == kTailUnit && first >= 0 && last == first + kTailUnit - 1;
  if (whole && t.residual_pool == 1) return t.residual + p.index * t.residual_channels + first;
  if (whole) {
    pooled_unit(t, p, first, buffer);
    return buffer;
  }
  for (i64 k = 0; k < kTailUnit; ++k) {
    const i64 source = k < unit.count ? residual_channel(t, unit.channel + k) : -1;
    buffer[k] = source < 0 ? 0.0f : pooled(t, p, source);
  }
  return buffer;
}

// Where the input scale of a pixel is, or null.
inline const float* input_scale_at(const Tail& t, const Place& p) {
  return t.input_scale == nullptr ? nullptr : t.input_scale + p.index;
}

// The factors of a unit, or null.
inline const float* factor_unit(const Tail& t, const Place& p, const Unit& unit) {
  return t.factor == nullptr ? nullptr : t.factor + p.y * t.factor_row + p.x * t.factor_pitch + unit.channel;
}

inline void write_real(const Tail& t, const Place& p, const Unit& unit, i64 out_channels, const F32* y) {
  float* out = t.real + p.index * out_channels + unit.channel;
  if (unit.count == kTailUnit) {
    BITTERN_UNROLL
    for (int j = 0; j < kUnitVectors; ++j) store(out + j * kLanes, y[j]);
    return;
  }
  float buffer[kTailUnit];
  for (int j = 0; j < kUnitVectors; ++j) store(buffer + j * kLanes, y[j]);
  std::memcpy(out, buffer, static_cast<size_t>(unit.count) * sizeof(float));
}

// Where the bits of a pixel start.
inline u8* bits_of(const Tail& t, const Place& p, i64 out_channels) {
  const i64 word = p.image * t.bits_image + p.y * t.bits_row + p.x * ceil_div(out_channels, kWordBits);
  return reinterpret_cast<u8*>(t.bits + word);
}

// Channels of a unit start at a whole byte.
inline void write_bits(u8* bits, const Unit& unit, u32 mask) {
  u8* out = bits + unit.channel / 8;
  mask &= (1u << unit.count) - 1;
  out[0] = static_cast<u8>(mask);
  if (unit.count > 8) out[1] = static_cast<u8>(mask >> 8);
}

template <Activation kActivation, Residual kResidual>
void finish_unit(const Tail& t, i64 out_channels, const Place& p, const Unit& unit) {
  const float* rows = t.rows + unit.channel;
  float buffer[kTailUnit];
  const float* residual = kResidual == Residual::none ? rows : residual_unit(t, p, unit, buffer);
  const float* factor = factor_unit(t, p, unit);
  F32 y[kUnitVectors];
  u32 mask = 0;
  BITTERN_UNROLL
  for (int j = 0; j < kUnitVectors; ++j) {
    const TailVectors v = load_tail(rows + j * kLanes, t.pitch);
    y[j] = with_tail<kActivation, kResidual>(to_float(unit.acc[j]), load(residual + j * kLanes),
                                             t.residual_affine != 0, v, input_scale_at(t, p),
                                             factor == nullptr ? nullptr : factor + j * kLanes);
    mask |= at_least(y[j], v.threshold) << (j * kLanes);
  }
  if (t.real != nullptr) write_real(t, p, unit, out_channels, y);
  if (t.bits != nullptr) write_bits(bits_of(t, p, out_channels), unit, mask);
}

using FinishUnit = void (*)(const Tail& t, i64 out_channels, const Place& p, const Unit& unit);

template <Activation kActivation, Residual kResidual>
struct UnitFinisher {
  static constexpr FinishUnit kFunction = finish_unit<kActivation, kResidual>;
};

template <template <Activation, Residual> class Finisher, Activation kActivation>
auto finisher_with(const Tail& t) {
  if (t.residual == nullptr) return Finisher<kActivation, Residual::none>::kFunction;
  if (t.residual_last != 0) return Finisher<kActivation, Residual::last>::kFunction;
  return Finisher<kActivation, Residual::first>::kFunction;
}

// The function of a family that fits a tail.
template <template <Activation, Residual> class Finisher>
auto finisher_of(const Tail& t) {
  switch (static_cast<Activation>(t.activation)) {
    case Activation::relu:
      return finisher_with<Finisher, Activation::relu>(t);
    case Activation::hardtanh:
      return finisher_with<Finisher, Activation::hardtanh>(t);
    case Activation::prelu:
      return finisher_with<Finisher, Activation::prelu>(t);
    case Activation::rprelu:
      return finisher_with<Finisher, Activation::rprelu>(t);
    default:
      return finisher_with<Finisher, Activation::none>(t);
  }
}

// The tail of a convolution that has one, or an epilogue: then it does nothing more.
inline Tail tail_of(const Conv2d& c) {
  if (c.tail != nullptr) return *c.tail;
  Tail t{};
  t.pitch = round_up(c.out_channels, kTailUnit);
  t.real = static_cast<float*>(c.output);
  float* rows = scratch_array<float>(Scratch::tail_rows, kTailRows * t.pitch);
  for (i64 row = 0; row < kFirst; ++row) {
    std::memcpy(rows + row * t.pitch, c.epilogue + row * c.out_channels,
                static_cast<size_t>(c.out_channels) * sizeof(float));
  }
  t.rows = rows;
  return t;
}

}  // namespace
