// SPDX-License-Identifier: Apache-2.0

// Convolutions with small groups: a byte lane is an output channel. Included after depthwise.inl.h, inside
// the namespace of one instruction set.
//
// A vector of kLaneBytes output channels reads few input channels: where a group has at most as many inputs
// as outputs, and 64 outputs are whole groups, those of 64 outputs are 64 bits or less, and lie within one
// word of a pixel. That word is repeated over a vector (a load), and one shuffle of bytes gives each output
// lane a byte of its group's inputs; xor with the weights gives what differs. Groups of 16 and 32 inputs pass
// two and four times, once for each of their bytes; of a group with less than a byte the other bits are
// masked.
//
// Before bits are counted, those of all taps are added up by the full adders of depthwise.inl.h: of nine taps
// remain four planes, so four counts of bits instead of nine. The counts of a lane are its channel's: nothing
// crosses lanes, and channels come out in their order. They stay bytes as long as they fit, else one count
// per byte or two of the inputs (*part*).
//
// Weights: for each vector of outputs and byte of a group, the shuffle, the mask, then one vector per tap.

namespace {

constexpr i64 kByteBits = 8;
constexpr i64 kMostByteCount = 255;

struct GroupShape {
  i64 channels, out_channels;  // of one group
  i64 bytes;                   // that hold its inputs
};

GroupShape group_shape(const WeightShape& s) {
  const i64 channels = s.channels / s.groups;
  return {channels, s.out_channels / s.groups, ceil_div(channels, kByteBits)};
}

bool power_of_two(i64 n) {
  return (n & (n - 1)) == 0;
}

bool is_grouped(const WeightShape& s) {
  constexpr i64 kMostInputs = 32;
  const GroupShape g = group_shape(s);
  const bool words = power_of_two(g.channels) && power_of_two(g.out_channels) && g.out_channels <= kWordBits;
  return s.groups > 1 && words && g.channels <= g.out_channels && g.channels <= kMostInputs &&
         s.taps * kByteBits <= kMostByteCount;
}

// Bytes of a group whose counts fit a byte together.
i64 part_bytes(const GroupShape& g, i64 taps) {
  return smaller(g.bytes, 2 * kByteBits * taps <= kMostByteCount ? 2 : 1);
}

// ---- weights

constexpr i64 kShuffleAndMask = 2;  // vectors in front of the weights

i64 lane_vectors(i64 out_channels) {
  return ceil_div(out_channels, kLaneBytes);
}

i64 grouped_bytes(const WeightShape& s) {
  return lane_vectors(s.out_channels) * group_shape(s).bytes * (kShuffleAndMask + s.taps) * kLaneBytes;
}

// One lane: output channel o, byte `byte` of its group.
void prepare_lane(const WeightShape& s, const u64* canonical, i64 o, i64 byte, u8* lane) {
  const GroupShape g = group_shape(s);
  const i64 first = o / g.out_channels * g.channels % kWordBits, shift = first % kByteBits;
  const i64 bits = smaller(kByteBits, g.channels);
  lane[0] = static_cast<u8>(first / kByteBits + byte);
  lane[kLaneBytes] = static_cast<u8>(((1 << bits) - 1) << shift);
  for (i64 tap = 0; tap < s.taps; ++tap) {
    const u64 weights = canonical[o * s.taps + tap] >> (byte * kByteBits) & 255;
    lane[(kShuffleAndMask + tap) * kLaneBytes] = static_cast<u8>(weights << shift);
  }
}

void prepare_grouped(const WeightShape& s, const u64* canonical, u8* prepared) {
  const i64 bytes = group_shape(s).bytes, step = (kShuffleAndMask + s.taps) * kLaneBytes;
  std::memset(prepared, 0, static_cast<std::size_t>(grouped_bytes(s)));
  for (i64 o = 0; o < s.out_channels; ++o) {
    u8* vector = prepared + o / kLaneBytes * bytes * step;
    for (i64 byte = 0; byte < bytes; ++byte) {
      prepare_lane(s, canonical, o, byte, vector + byte * step + o % kLaneBytes);
    }
  }
}

// ---- counting

struct GroupedPlan {
  RowPlan rows;
  GroupShape group;
  const u8* weights;
  i64 vectors, parts, part_bytes;
  Tail tail;
  bool integers;
};

// The words under the taps of a pixel against one byte of the groups of a vector.
template <bool kMasked, bool kPartial>
struct LaneTaps {
  const Taps& taps;
  i64 at;  // of the word
  Words index, lanes;
  const u64* weights;

  BITTERN_INLINE Words operator()(i64 tap) const {
    const Words x = pick_bytes(splat_word(taps.streams[tap][at]), index);
    Words differ = xor_words(x, load_words(weights + tap * kWords));
    if (kPartial) differ = and_words(differ, lanes);
    if (kMasked) differ = and_words(differ, splat_word(taps.masks[tap]));
    return differ;
  }
};

// Counts of the pixels of a run in a vector of outputs, a byte of their group's inputs; adds to those at out,
// unless `first`. out: of the first pixel of the row, `pitch` bytes a pixel.
template <class Counter, bool kMasked, bool kPartial>
void count_lanes(const GroupedPlan& g, const Taps& taps, const Run& run, i64 word, const u64* weights,
                 bool first, u8* out, i64 pitch) {
  const Words index = load_words(weights), lanes = load_words(weights + kWords);
  const i64 words = g.rows.pixel_words, n = g.rows.taps;
  for (i64 x = run.begin; x < run.end; ++x) {
    const LaneTaps<kMasked, kPartial> next{taps, x * words + word, index, lanes,
                                           weights + kShuffleAndMask * kWords};
    Words planes[Counter::kPlanes];
    Counter::count(next, n, planes);
    Words sum = count_bits(planes[Counter::kPlanes - 1]);
    BITTERN_UNROLL
    for (int j = Counter::kPlanes - 2; j >= 0; --j)
      sum = add_lanes(add_lanes(sum, sum), count_bits(planes[j]));
    u64* to = reinterpret_cast<u64*>(out + x * pitch);
    if (!first) sum = add_lanes(sum, load_words(to));
    store_words(to, sum);
  }
}

template <class Counter>
void count_lanes_any(const GroupedPlan& g, const Taps& taps, const Run& run, i64 word, const u64* weights,
                     bool first, u8* out, i64 pitch) {
  const bool partial = g.group.channels < kByteBits;
  const auto count = taps.missing != 0
                         ? partial ? count_lanes<Counter, true, true> : count_lanes<Counter, true, false>
                     : partial ? count_lanes<Counter, false, true>
                               : count_lanes<Counter, false, false>;
  count(g, taps, run, word, weights, first, out, pitch);
}

template <class Counter>
void count_grouped_run(const GroupedPlan& g, const Taps& taps, const Run& run, u8* counts, i64 pitch) {
  const i64 step = (kShuffleAndMask + g.rows.taps) * kWords;
  const u64* weights = reinterpret_cast<const u64*>(g.weights);
  for (i64 vector = 0; vector < g.vectors; ++vector) {
    const i64 group = vector * kLaneBytes / g.group.out_channels, word = group * g.group.channels / kWordBits;
    for (i64 byte = 0; byte < g.group.bytes; ++byte, weights += step) {
      u8* out = counts + byte / g.part_bytes * g.rows.out_w * pitch + vector * kLaneBytes;
      count_lanes_any<Counter>(g, taps, run, word, weights, byte % g.part_bytes == 0, out, pitch);
    }
  }
}

// ---- rows

// Counts that are bytes: [parts][x][pitch].
template <int kParts>
struct ByteCounts {
  struct Cursor {
    const u8* at;
    i64 pitch, part;

    BITTERN_INLINE I32 minus_twice(int j) const {
      I32 sum = widen_lanes(at + j * kLanes);
      BITTERN_UNROLL
      for (int i = 1; i < kParts; ++i) sum = add(sum, widen_lanes(at + i * part + j * kLanes));
      return subtract(splat(0), add(sum, sum));
    }
    BITTERN_INLINE void advance() { at += pitch; }
  };

  const u8* counts;
  i64 pitch, part;

  Cursor from(i64 channel) const { return {counts + channel, pitch, part}; }
};

void finish_grouped(const GroupedPlan& g, const RowEnd& end, const u8* counts, i64 pitch) {
  const i64 part = end.width * pitch;
  switch (g.parts) {
    case 1:
      return finish_row(end, ByteCounts<1>{counts, pitch, part});
    case 2:
      return finish_row(end, ByteCounts<2>{counts, pitch, part});
    default:
      return finish_row(end, ByteCounts<4>{counts, pitch, part});
  }
}

template <class Counter>
void grouped_row(const GroupedPlan& g, i64 image, i64 y) {
  const RowPlan& plan = g.rows;
  const Span inside = rows_inside(plan.conv, y);
  const i64 pitch = g.vectors * kLaneBytes, products = g.group.channels;
  i32* starts = scratch_array<i32>(Scratch::correction, plan.out_w);
  u8* counts = scratch_array<u8>(Scratch::counts, g.parts * plan.out_w * pitch);
  for (i64 i = 0; i < plan.run_count; ++i) {
    const Run& run = plan.runs[i];
    Taps taps;
    find_taps(plan, image, y, inside, run, taps);
    count_grouped_run<Counter>(g, taps, run, counts, pitch);
    const i32 start = static_cast<i32>((plan.taps - taps.missing) * products);
    for (i64 x = run.begin; x < run.end; ++x) starts[x] = start;
  }
  const Place first{(image * plan.out_h + y) * plan.out_w, image, y, 0};
  const RowEnd end{starts,
                   plan.out_w,
                   plan.conv.out_channels,
                   first,
                   g.integers ? nullptr : &g.tail,
                   static_cast<i32*>(plan.conv.output)};
  finish_grouped(g, end, counts, pitch);
}

void grouped_task(void* context, i64 index) {
  const auto& g = *static_cast<const GroupedPlan*>(context);
  const RowPlan& plan = g.rows;
  const i64 first = index * plan.rows_per_task;
  const i64 last = smaller(first + plan.rows_per_task, plan.conv.batch * plan.out_h);
  const auto run = plan.taps == NineTaps::kTaps ? grouped_row<NineTaps> : grouped_row<AnyTaps>;
  for (i64 row = first; row < last; ++row) run(g, row / plan.out_h, row % plan.out_h);
}

void conv2d_grouped(const Conv2d& conv, int threads) {
  GroupedPlan g{};
  if (!plan_rows(g.rows, conv, threads)) return;
  g.group = group_shape(weight_shape(conv));
  g.weights = conv.weights;
  g.vectors = lane_vectors(conv.out_channels);
  g.part_bytes = part_bytes(g.group, g.rows.taps);
  g.parts = g.group.bytes / g.part_bytes;
  g.integers = conv.tail == nullptr && conv.epilogue == nullptr;
  if (!g.integers) g.tail = tail_of(conv);
  parallel_for(row_task_count(g.rows), threads, grouped_task, &g);
}

}  // namespace
