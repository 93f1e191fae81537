// SPDX-License-Identifier: Apache-2.0

// Depthwise convolutions (as many groups and outputs as channels), bit-sliced: a bit position of a word is a
// channel, and counting is arithmetic on words of bits. Included after finish_rows.inl.h, inside the
// namespace of one instruction set.
//
// For a vector of kWords words of the row of outputs, each tap gives the vector of its input bits xor its
// weight bits: 1 where they differ. These vectors, one per tap, are added up by full adders into *planes*:
// bit c of plane j is bit j of the number of differences of channel c. Nine taps take five full and two half
// adders (42 operations on AVX2, 23 on AVX-512, which has both outputs of a full adder as one instruction
// each), for 64 * kWords channels. Other numbers of taps go eight at a time into running sums of ones, twos
// and fours, whose carry ripples through the planes above.
//
// Signs need no numbers: where only bits are wanted and the tail is an epilogue, the bit of a channel is
// (acc >= T) or its complement, by the monotony of every rounded step. T is found by bisection through the
// tail itself, in vectors, at every call (five steps for 3x3). As acc = inside - 2 * differences, the bit is
// differences < M with M = max(0, N - missing) / 2 rounded down, N = taps - T + 2; the numbers N are stored
// as planes too, and so `missing`, which depends on how many taps of a pixel lie outside, is subtracted
// bit-sliced. differences >= M is the carry of differences + ~M + 1: one majority per plane.
//
// Numbers are made of planes for eight channels at a time: a byte of each of four planes is repeated in eight
// lanes, shifted by 0 to 7, and two multiplications of bytes and pairs add the four bits up (sum_planes).
//
// Weights are laid out as the vectors meet them: [word of a pixel where a vector starts][tap][kWords].

namespace {

WeightShape weight_shape(const Conv2d& c) {
  return {c.out_channels, c.kernel_h * c.kernel_w, c.channels, c.groups};
}

bool is_depthwise(const WeightShape& s) {
  return s.groups > 1 && s.groups == s.channels && s.groups == s.out_channels && s.taps <= kMostTaps;
}

// ---- weights

i64 depthwise_bytes(const WeightShape& s) {
  return ceil_div(s.channels, kWordBits) * s.taps * kWords * static_cast<i64>(sizeof(u64));
}

void prepare_depthwise(const WeightShape& s, const u64* canonical, u8* prepared) {
  const i64 words = ceil_div(s.channels, kWordBits);
  u64* out = reinterpret_cast<u64*>(prepared);
  for (i64 phase = 0; phase < words; ++phase) {
    for (i64 tap = 0; tap < s.taps; ++tap) {
      for (i64 i = 0; i < kWords; ++i, ++out) {
        const i64 first = (phase + i) % words * kWordBits, count = smaller(kWordBits, s.channels - first);
        *out = 0;
        for (i64 c = 0; c < count; ++c) *out |= (canonical[(first + c) * s.taps + tap] & 1) << c;
      }
    }
  }
}

// ---- words one by one, under the names of vectors

struct OneWord {
  u64 bits;
};

inline OneWord xor_words(OneWord a, OneWord b) {
  return {a.bits ^ b.bits};
}
inline OneWord and_words(OneWord a, OneWord b) {
  return {a.bits & b.bits};
}
inline OneWord or_words(OneWord a, OneWord b) {
  return {a.bits | b.bits};
}
inline OneWord majority(OneWord a, OneWord b, OneWord c) {
  return {(a.bits & b.bits) | (c.bits & (a.bits | b.bits))};
}
inline void add_bits(OneWord a, OneWord b, OneWord c, OneWord& sum, OneWord& carry) {
  carry = majority(a, b, c);
  sum = {a.bits ^ b.bits ^ c.bits};
}
inline void store_words(u64* p, OneWord x) {
  *p = x.bits;
}
inline void store_planes(u8* out, OneWord p0, OneWord p1, OneWord p2, OneWord p3) {
  for (int i = 0; i < 8; ++i) {
    const OneWord planes[4] = {p0, p1, p2, p3};
    for (int j = 0; j < 4; ++j) *out++ = static_cast<u8>(planes[j].bits >> (8 * i));
  }
}
inline void read_words(const u64* p, OneWord& x) {
  x.bits = *p;
}
inline void read_words(const u64* p, Words& x) {
  x = load_words(p);
}
inline void repeat_word(u64 word, OneWord& x) {
  x.bits = word;
}
inline void repeat_word(u64 word, Words& x) {
  x = splat_word(word);
}

template <class Vector>
constexpr i64 kWide = sizeof(Vector) / sizeof(u64);

template <class Vector>
inline void add_two(Vector a, Vector b, Vector& sum, Vector& carry) {
  carry = and_words(a, b);
  sum = xor_words(a, b);
}

// ---- counting

// 1 where the input under a tap and its weight differ, for a vector of a row.
template <class Vector, bool kMasked>
struct StreamTaps {
  const Taps& taps;
  i64 at;              // word of the row
  const u64* weights;  // of the first tap

  BITTERN_INLINE Vector operator()(i64 tap) const {
    Vector x, w;
    read_words(taps.streams[tap] + at, x);
    read_words(weights + tap * kWords, w);
    x = xor_words(x, w);
    if (!kMasked) return x;
    repeat_word(taps.masks[tap], w);
    return and_words(x, w);
  }
};

// Counters: planes of how many of n vectors, which `next` gives by their number, have a bit set.
struct NineTaps {
  static constexpr i64 kTaps = 9;
  static constexpr int kPlanes = 4;

  template <class Vector, class Next>
  BITTERN_INLINE static void count(const Next& next, i64, Vector* planes) {
    Vector sums[3], carries[3];
    BITTERN_UNROLL
    for (int row = 0; row < 3; ++row) {
      add_bits(next(3 * row), next(3 * row + 1), next(3 * row + 2), sums[row], carries[row]);
    }
    Vector twos, fours, carry;
    add_bits(sums[0], sums[1], sums[2], planes[0], carry);
    add_bits(carries[0], carries[1], carries[2], twos, fours);
    add_two(twos, carry, planes[1], carry);
    add_two(fours, carry, planes[2], planes[3]);
  }
};

struct AnyTaps {
  static constexpr int kPlanes = 7;

  template <class Vector, class Next>
  BITTERN_INLINE static void count(const Next& next, i64 n, Vector* planes) {
    planes[0] = next(0);
    BITTERN_UNROLL
    for (int j = 1; j < kPlanes; ++j) repeat_word(0, planes[j]);
    i64 tap = 1;
    for (; tap + 8 <= n; tap += 8) {
      Vector a, b, low, high;
      add_bits(planes[0], next(tap), next(tap + 1), planes[0], a);
      add_bits(planes[0], next(tap + 2), next(tap + 3), planes[0], b);
      add_bits(planes[1], a, b, planes[1], low);
      add_bits(planes[0], next(tap + 4), next(tap + 5), planes[0], a);
      add_bits(planes[0], next(tap + 6), next(tap + 7), planes[0], b);
      add_bits(planes[1], a, b, planes[1], high);
      add_bits(planes[2], low, high, planes[2], a);
      ripple<3>(a, planes);
    }
    for (; tap < n; ++tap) ripple<0>(next(tap), planes);
  }

  // Adds 2^first where the carry is set.
  template <int first, class Vector>
  BITTERN_INLINE static void ripple(Vector carry, Vector* planes) {
    BITTERN_UNROLL
    for (int j = first; j < kPlanes; ++j) add_two(planes[j], carry, planes[j], carry);
  }
};

// ---- what becomes of planes

// Planes of a row, a byte of four of them side by side: four lower ones and, of seven planes, the others.
struct RowPlanes {
  static constexpr i64 kWordPlanes = 4 * sizeof(u64);
  u8 *low, *high;

  template <class Vector>
  BITTERN_INLINE void take(i64 at, i64, const Vector (&p)[NineTaps::kPlanes]) const {
    store_planes(low + at * kWordPlanes, p[0], p[1], p[2], p[3]);
  }
  template <class Vector>
  BITTERN_INLINE void take(i64 at, i64, const Vector (&p)[AnyTaps::kPlanes]) const {
    store_planes(low + at * kWordPlanes, p[0], p[1], p[2], p[3]);
    store_planes(high + at * kWordPlanes, p[4], p[5], p[6], xor_words(p[0], p[0]));
  }
};

// Counts that are made of planes.
template <class Counter>
struct SlicedCounts {
  struct Cursor {
    const u8 *low, *high;
    i64 step;

    BITTERN_INLINE I32 minus_twice(int j) const {
      const I32 sum = sum_planes<-2>(low, j);
      if constexpr (Counter::kPlanes <= 4) return sum;
      return add(sum, sum_planes<-32>(high, j));
    }
    BITTERN_INLINE void advance() {
      low += step;
      high += step;
    }
  };

  RowPlanes planes;
  i64 pixel_words;

  Cursor from(i64 channel) const {
    const i64 at = channel / 8 * 4;  // four bytes for eight channels
    return {planes.low + at, planes.high + at, pixel_words * RowPlanes::kWordPlanes};
  }
};

// Limits of one number of missing taps: [word of a pixel][kPlanes + 1][kWords], the planes of ~M, then what
// turns differences >= M into the bit.
struct RowSigns {
  const u64* limits;
  u64* out;  // of the row

  template <class Vector, int kPlanes>
  BITTERN_INLINE void take(i64 at, i64 phase, const Vector (&p)[kPlanes]) const {
    const u64* limit = limits + phase * (kPlanes + 1) * kWords;
    Vector given, carry;
    read_words(limit, given);
    carry = or_words(p[0], given);
    BITTERN_UNROLL
    for (int j = 1; j < kPlanes; ++j) {
      read_words(limit + j * kWords, given);
      carry = majority(p[j], given, carry);
    }
    read_words(limit + kPlanes * kWords, given);
    store_words(out + at, xor_words(carry, given));
  }
};

struct DepthwisePlan;
using RowFunction = void (*)(const DepthwisePlan& d, i64 image, i64 y);

struct DepthwisePlan {
  RowPlan rows;
  const u64* weights;
  Tail tail;
  bool integers;
  const u64* limits;  // [missing taps] of RowSigns; null: by numbers
  i64 limit_words;    // of one number of missing taps
  RowFunction row;
};

// Words [from, from + count) of a row, the last vector again over some of the one before.
template <class Counter, class Vector, bool kMasked, class Take>
void count_words(const DepthwisePlan& d, const Taps& taps, i64 from, i64 count, const Take& given_take) {
  const Take take = given_take;  // a copy, which no store can change
  const i64 words = d.rows.pixel_words, n = d.rows.taps, block = n * kWords;
  const i64 turn = kWide<Vector> % words;
  i64 phase = from % words, at = from;
  const auto one = [&] {
    Vector planes[Counter::kPlanes];
    Counter::count(StreamTaps<Vector, kMasked>{taps, at, d.weights + phase * block}, n, planes);
    take.take(at, phase, planes);
  };
  for (; at + kWide<Vector> <= from + count; at += kWide<Vector>) {
    one();
    phase += turn;
    if (phase >= words) phase -= words;
  }
  if (at == from + count) return;
  at = from + count - kWide<Vector>;
  phase = at % words;
  one();
}

template <class Counter, class Take>
void count_run(const DepthwisePlan& d, const Taps& taps, const Run& run, const Take& take) {
  const bool masked = taps.missing != 0;
  const auto count =
      masked ? run.wide ? count_words<Counter, Words, true, Take> : count_words<Counter, OneWord, true, Take>
      : run.wide ? count_words<Counter, Words, false, Take>
                 : count_words<Counter, OneWord, false, Take>;
  count(d, taps, run.from, run.words, take);
}

// ---- rows

template <class Counter>
void sign_row(const DepthwisePlan& d, i64 image, i64 y) {
  const RowPlan& plan = d.rows;
  const Span inside = rows_inside(plan.conv, y);
  RowSigns signs{nullptr, d.tail.bits + image * d.tail.bits_image + y * d.tail.bits_row};
  for (i64 i = 0; i < plan.run_count; ++i) {
    Taps taps;
    find_taps(plan, image, y, inside, plan.runs[i], taps);
    signs.limits = d.limits + taps.missing * d.limit_words;
    count_run<Counter>(d, taps, plan.runs[i], signs);
  }
}

template <class Counter>
void number_row(const DepthwisePlan& d, i64 image, i64 y) {
  const RowPlan& plan = d.rows;
  const Span inside = rows_inside(plan.conv, y);
  const i64 bytes = plan.out_w * plan.pixel_words * RowPlanes::kWordPlanes;
  i32* starts = scratch_array<i32>(Scratch::correction, plan.out_w);
  constexpr i64 kParts = Counter::kPlanes > 4 ? 2 : 1;
  u8* memory = scratch_array<u8>(Scratch::counts, kParts * bytes);
  const RowPlanes planes{memory, memory + (kParts - 1) * bytes};
  for (i64 i = 0; i < plan.run_count; ++i) {
    Taps taps;
    find_taps(plan, image, y, inside, plan.runs[i], taps);
    count_run<Counter>(d, taps, plan.runs[i], planes);
    const i32 start = static_cast<i32>(plan.taps - taps.missing);
    for (i64 x = plan.runs[i].begin; x < plan.runs[i].end; ++x) starts[x] = start;
  }
  const Place first{(image * plan.out_h + y) * plan.out_w, image, y, 0};
  const RowEnd end{starts,
                   plan.out_w,
                   plan.conv.out_channels,
                   first,
                   d.integers ? nullptr : &d.tail,
                   static_cast<i32*>(plan.conv.output)};
  finish_row(end, SlicedCounts<Counter>{planes, plan.pixel_words});
}

void depthwise_task(void* context, i64 index) {
  const auto& d = *static_cast<const DepthwisePlan*>(context);
  const RowPlan& plan = d.rows;
  const i64 first = index * plan.rows_per_task;
  const i64 last = smaller(first + plan.rows_per_task, plan.conv.batch * plan.out_h);
  for (i64 row = first; row < last; ++row) d.row(d, row / plan.out_h, row % plan.out_h);
}

#include "limits.inl.h"

// ---- the call

template <class Counter>
void run_depthwise(DepthwisePlan& d, int threads) {
  const bool signs = !d.integers && plan_limits<Counter>(d);
  d.row = signs ? sign_row<Counter> : number_row<Counter>;
  parallel_for(row_task_count(d.rows), threads, depthwise_task, &d);
}

void conv2d_depthwise(const Conv2d& conv, int threads) {
  DepthwisePlan d{};
  if (!plan_rows(d.rows, conv, threads)) return;
  d.weights = reinterpret_cast<const u64*>(conv.weights);
  d.integers = conv.tail == nullptr && conv.epilogue == nullptr;
  if (!d.integers) d.tail = tail_of(conv);
  if (d.rows.taps == NineTaps::kTaps) return run_depthwise<NineTaps>(d, threads);
  run_depthwise<AnyTaps>(d, threads);
}

}  // namespace
