// SPDX-License-Identifier: Apache-2.0

// From counts of differences to outputs, one pixel and one block of channels at a time. Included by
// kernel.inl.h, inside the namespace of one instruction set.

// Where the results of a block of channels go.
struct Finish {
  i64 channels, pitch;    // pitch: of epilogue rows and output pixels
  i32 bits;               // of the whole reduction
  const float* epilogue;  // from the first channel of the block; null for integers
  i32* ints;
  float* floats;
  const Tail* tail;  // in place of the three before
  FinishUnit finish_unit;
  i64 channel;  // first of the block
};

// acc = bits - 2 * differences + correction
template <bool kCorrected>
inline I32 sum_of_products(const Counts& counts, i64 at, i64 c, I32 bits, const i32* correction) {
  const I32 differences = load_counts(counts, at + c), sum = subtract(bits, add(differences, differences));
  return kCorrected ? add(sum, load(correction + c)) : sum;
}

template <bool kCorrected>
inline i32 sum_of_products_at(const Counts& counts, i64 at, i64 c, i32 bits, const i32* correction) {
  return bits - 2 * count_at(counts, at + c) + (kCorrected ? correction[c] : 0);
}

template <bool kCorrected>
void finish_ints(const Finish& f, const Counts& counts, i64 at, i64 pixel, const i32* correction) {
  i32* out = f.ints + pixel * f.pitch;
  const I32 bits = splat(f.bits);
  const i64 channels = f.channels;
  i64 c = 0;
  for (; c + kLanes <= channels; c += kLanes) {
    store(out + c, sum_of_products<kCorrected>(counts, at, c, bits, correction));
  }
  for (; c < channels; ++c) out[c] = sum_of_products_at<kCorrected>(counts, at, c, f.bits, correction);
}

// y = fma((acc + offset) * scale, alpha, beta): the sum and the product are rounded, then the fma once.
template <bool kCorrected>
void finish_floats(const Finish& f, const Counts& counts, i64 at, i64 pixel, const i32* correction) {
  const float *offset = f.epilogue, *scale = offset + f.pitch, *alpha = scale + f.pitch,
              *beta = alpha + f.pitch;
  float* out = f.floats + pixel * f.pitch;
  const I32 bits = splat(f.bits);
  const i64 channels = f.channels;
  i64 c = 0;
  for (; c + kLanes <= channels; c += kLanes) {
    const F32 acc = to_float(sum_of_products<kCorrected>(counts, at, c, bits, correction));
    const F32 scaled = multiply(add(acc, load(offset + c)), load(scale + c));
    store(out + c, multiply_add(scaled, load(alpha + c), load(beta + c)));
  }
  for (; c < channels; ++c) {
    const float acc = static_cast<float>(sum_of_products_at<kCorrected>(counts, at, c, f.bits, correction));
    out[c] = __builtin_fmaf((acc + offset[c]) * scale[c], alpha[c], beta[c]);
  }
}

template <bool kCorrected>
void finish_tail(const Finish& f, const Counts& counts, i64 at, const Place& place, const i32* correction) {
  const I32 bits = splat(f.bits);
  for (i64 c = 0; c < f.channels; c += kTailUnit) {
    Unit unit;
    unit.channel = f.channel + c;
    unit.count = smaller(kTailUnit, f.channels - c);
    if (unit.count == kTailUnit) {
      for (int j = 0; j < kUnitVectors; ++j) {
        unit.acc[j] = sum_of_products<kCorrected>(counts, at, c + j * kLanes, bits, correction);
      }
    } else {
      i32 sums[kTailUnit] = {};
      for (i64 k = 0; k < unit.count; ++k) {
        sums[k] = sum_of_products_at<kCorrected>(counts, at, c + k, f.bits, correction);
      }
      for (int j = 0; j < kUnitVectors; ++j) unit.acc[j] = load(sums + j * kLanes);
    }
    f.finish_unit(*f.tail, f.pitch, place, unit);
  }
}

template <bool kCorrected>
inline void finish_pixel(const Finish& f, const Counts& counts, i64 at, const Place& place,
                         const i32* correction) {
  if (f.tail != nullptr) {
    finish_tail<kCorrected>(f, counts, at, place, correction);
  } else if (f.epilogue != nullptr) {
    finish_floats<kCorrected>(f, counts, at, place.index, correction);
  } else {
    finish_ints<kCorrected>(f, counts, at, place.index, correction);
  }
}
