// SPDX-License-Identifier: Apache-2.0

// Limits of a depthwise convolution that gives signs alone: from the parameters of its tail to planes of bits
// (derivation at the top of depthwise.inl.h). Included by depthwise.inl.h.

// Per word of a pixel: bit j of how many accumulators from -taps on are on one side of the threshold, and
// whether the bit falls as the accumulator rises.
struct SideCounts {
  u64 *planes, *falls;  // [kSidePlanes][words], [words]
};

constexpr int kSidePlanes = 8;  // 2 * kMostTaps + 1 accumulators

bool wants_signs_alone(const Tail& t) {
  return t.real == nullptr && t.bits != nullptr && t.residual == nullptr && t.factor == nullptr &&
         t.input_scale == nullptr && t.activation == static_cast<i64>(Activation::none);
}

// Writes kLanes bits from channel on. lanes: 1 where the bit is set, else 0.
inline void put_bits(F32 lanes, i64 channel, u64* words) {
  words[channel / kWordBits] |= u64{at_least(lanes, splat(0.5f))} << (channel % kWordBits);
}

// Bisection for kLanes channels: each step decides one bit, the highest first. False: a number is not finite,
// so that the tail need not be monotone.
bool count_side(const Tail& t, i64 taps, i64 channel, i64 words, const SideCounts& out) {
  const TailVectors v = load_tail(t.rows + channel, t.pitch);
  const auto value = [&](F32 acc) {
    return with_tail<Activation::none, Residual::none>(acc, F32{}, false, v);
  };
  const F32 zero = splat(0.0f), one = splat(1.0f), most = splat(static_cast<float>(taps));
  const F32 least = subtract(zero, most), lowest = value(least), highest = value(most);
  if (any(either(not_finite(v.threshold), either(not_finite(lowest), not_finite(highest))))) return false;
  const Mask falls = greater(lowest, highest);
  put_bits(select(falls, one, zero), channel, out.falls);
  F32 found = zero;
  int plane = kSidePlanes - 1;
  while (i64{1} << plane > 2 * taps + 1) --plane;
  for (; plane >= 0; --plane) {
    const F32 step = splat(static_cast<float>(1 << plane)), next = add(found, step);
    const F32 acc = subtract(add(least, next), one);  // the last of `next` accumulators
    F32 within = select(greater(v.threshold, value(acc)), one, zero);
    within = select(falls, subtract(one, within), within);
    within = select(greater(acc, most), zero, within);
    put_bits(within, channel, out.planes + plane * words);
    found = add(found, multiply(within, step));
  }
  return true;
}

// The planes of max(0, total - count) / 2 for a word; neither has more than kPlanes + 1 bits.
template <int kPlanes>
inline void half_difference(i64 total, const u64* count, i64 pitch, u64* planes) {
  u64 sum[kPlanes + 1], carry = ~u64{0};
  BITTERN_UNROLL
  for (int j = 0; j <= kPlanes; ++j) {
    const u64 a = (total >> j & 1) != 0 ? ~u64{0} : 0, b = ~count[j * pitch];
    sum[j] = a ^ b ^ carry;
    carry = (a & b) | (carry & (a | b));
  }
  for (int j = 0; j < kPlanes; ++j) planes[j] = sum[j + 1] & carry;
}

// limits: those of RowSigns, for so many missing taps.
template <int kPlanes>
void write_limits(const RowPlan& plan, const SideCounts& side, i64 missing, u64* limits) {
  const i64 words = plan.pixel_words, total = 2 * plan.taps + 2 - missing;
  for (i64 word = 0; word < words; ++word) {
    const i64 used = smaller(kWordBits, plan.conv.channels - word * kWordBits);
    const u64 channels = ~u64{0} >> (kWordBits - used);
    u64 given[kPlanes + 1];
    half_difference<kPlanes>(total, side.planes + word, words, given);
    for (int j = 0; j < kPlanes; ++j) given[j] = ~(given[j] & channels);
    given[kPlanes] = ~(side.falls[word] & channels);
    for (i64 i = 0, phase = word; i < kWords; ++i) {  // number i of the vectors that start i words before it
      for (int j = 0; j <= kPlanes; ++j) limits[(phase * (kPlanes + 1) + j) * kWords + i] = given[j];
      phase = phase == 0 ? words - 1 : phase - 1;
    }
  }
}

// Which numbers of missing taps there are.
void find_missing(const RowPlan& plan, bool* found) {
  bool sizes[kMostTaps + 1] = {};
  for (i64 y = 0; y < plan.out_h; ++y) sizes[rows_inside(plan.conv, y).size()] = true;
  for (i64 size = 0; size <= plan.conv.kernel_h; ++size) {
    if (!sizes[size]) continue;
    for (i64 i = 0; i < plan.run_count; ++i) {
      const i64 columns = plan.runs[i].last - plan.runs[i].first;
      found[plan.masked ? plan.taps - size * columns : 0] = true;
    }
  }
}

// False: by numbers.
template <class Counter>
bool plan_limits(DepthwisePlan& d) {
  constexpr int kPlanes = Counter::kPlanes;
  const RowPlan& plan = d.rows;
  if (!wants_signs_alone(d.tail)) return false;
  const i64 words = plan.pixel_words;
  d.limit_words = words * (kPlanes + 1) * kWords;
  const i64 side_words = (kSidePlanes + 1) * words;
  u64* memory = scratch_array<u64>(Scratch::limits, side_words + (plan.taps + 1) * d.limit_words);
  std::memset(memory, 0, static_cast<std::size_t>(side_words) * sizeof(u64));
  const SideCounts side{memory, memory + kSidePlanes * words};
  for (i64 channel = 0; channel < plan.conv.channels; channel += kLanes) {
    if (!count_side(d.tail, plan.taps, channel, words, side)) return false;
  }
  u64* limits = memory + side_words;
  bool missing[kMostTaps + 1] = {};
  find_missing(plan, missing);
  for (i64 m = 0; m <= plan.taps; ++m) {
    if (missing[m]) write_limits<kPlanes>(plan, side, m, limits + m * d.limit_words);
  }
  d.limits = limits;
  return true;
}
