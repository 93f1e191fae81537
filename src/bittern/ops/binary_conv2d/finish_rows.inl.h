// SPDX-License-Identifier: Apache-2.0

// From the counts of a row of output pixels to outputs, one unit of channels at a time along the row, so that
// its parameters stay in registers. Included after rows.inl.h, inside the namespace of one instruction set.
//
// A source of counts gives, for a channel that is a multiple of kTailUnit, a cursor on column 0, which may be
// asked for channels up to a whole unit:
//   Cursor from(i64 channel)
//   I32 Cursor::minus_twice(int j)   -2 times the differences of the j-th vector of channels
//   void Cursor::advance()           to the next column

namespace {

// Where a row of outputs goes, and what is added to its counts.
struct RowEnd {
  const i32* starts;  // [out_w]: products that are counted
  i64 width, out_channels;
  Place first;       // of its first pixel
  const Tail* tail;  // null: integers
  i32* ints;
  const float* residual = nullptr;  // of the row, [x][out_channels]; null where there is none
};

// ---- the residual of a row

// Means over windows of a row of outputs, [x][channel], as `pooled` takes them.
void pool_row(const Tail& t, const Place& first, i64 width, float* out) {
  const i64 channels = t.residual_channels;
  Place p = first;
  for (i64 x = 0; x < width; ++x, ++p.x, out += channels) {
    i64 c = 0;
    for (; c + kTailUnit <= channels; c += kTailUnit) pooled_unit(t, p, c, out + c);
    for (; c < channels; ++c) out[c] = pooled(t, p, c);
  }
}

// Output channels from residual channels.
void arrange_channels(const Tail& t, const float* from, i64 width, i64 out_channels, float* out) {
  const i64 channels = t.residual_channels, shift = t.residual_shift;
  if (t.residual_repeats != 0) {
    for (i64 x = 0; x < width; ++x, from += channels) {
      for (i64 c = 0; c < out_channels; ++c) *out++ = from[c % channels];
    }
    return;
  }
  const i64 begin = smaller(larger(shift, 0), out_channels);
  const i64 end = larger(smaller(shift + channels, out_channels), begin);
  for (i64 x = 0; x < width; ++x, from += channels, out += out_channels) {
    for (i64 c = 0; c < begin; ++c) out[c] = 0.0f;
    for (i64 c = begin; c < end; ++c) out[c] = from[c - shift];
    for (i64 c = end; c < out_channels; ++c) out[c] = 0.0f;
  }
}

// Lets the end of a row read its residual, where it lies or arranged.
__attribute__((noinline)) void find_residual(RowEnd& e) {
  const Tail& t = *e.tail;
  const bool moves = t.residual_shift != 0 || t.residual_channels != e.out_channels;
  const i64 pooled_floats = t.residual_pool > 1 ? e.width * t.residual_channels : 0;
  float* memory = scratch_array<float>(Scratch::residual_row, pooled_floats + e.width * e.out_channels);
  e.residual = t.residual + e.first.index * t.residual_channels;
  if (t.residual_pool > 1) {
    pool_row(t, e.first, e.width, memory);
    e.residual = memory;
  }
  if (!moves) return;
  arrange_channels(t, e.residual, e.width, e.out_channels, memory + pooled_floats);
  e.residual = memory + pooled_floats;
}

// ---- the rows

template <class Source>
void finish_row_ints(const RowEnd& e, const Source& source, i64 channel) {
  const i64 count = smaller(kTailUnit, e.out_channels - channel);
  i32* out = e.ints + e.first.index * e.out_channels + channel;
  auto cursor = source.from(channel);
  for (i64 x = 0; x < e.width; ++x, out += e.out_channels, cursor.advance()) {
    const I32 start = splat(e.starts[x]);
    i32 buffer[kTailUnit];
    i32* to = count == kTailUnit ? out : buffer;
    BITTERN_UNROLL
    for (int j = 0; j < kUnitVectors; ++j) store(to + j * kLanes, add(start, cursor.minus_twice(j)));
    if (to == buffer) std::memcpy(out, buffer, static_cast<std::size_t>(count) * sizeof(i32));
  }
}

// A unit that is not whole, or has factors: pixel by pixel.
template <class Source>
void finish_row_units(const RowEnd& e, const Source& source, i64 channel) {
  const FinishUnit finish = finisher_of<UnitFinisher>(*e.tail);
  Unit unit;
  unit.channel = channel;
  unit.count = smaller(kTailUnit, e.out_channels - channel);
  Place place = e.first;
  auto cursor = source.from(channel);
  for (i64 x = 0; x < e.width; ++x, ++place.x, ++place.index, cursor.advance()) {
    const I32 start = splat(e.starts[x]);
    BITTERN_UNROLL
    for (int j = 0; j < kUnitVectors; ++j) unit.acc[j] = add(start, cursor.minus_twice(j));
    finish(*e.tail, e.out_channels, place, unit);
  }
}

// A whole unit without factors.
template <class Source, Activation kActivation, Residual kResidual>
void finish_row_plain(const RowEnd& e, const Source& source, i64 channel) {
  const Tail& t = *e.tail;
  TailVectors v[kUnitVectors];
  BITTERN_UNROLL
  for (int j = 0; j < kUnitVectors; ++j) v[j] = load_tail(t.rows + channel + j * kLanes, t.pitch);
  const i64 width = e.width, pitch = e.out_channels, step = ceil_div(pitch, kWordBits) * i64{sizeof(u64)};
  const i32* starts = e.starts;
  const bool mapped = t.residual_affine != 0;
  const float* residual = kResidual == Residual::none ? nullptr : e.residual + channel;
  float* real = t.real == nullptr ? nullptr : t.real + e.first.index * pitch + channel;
  u8* bits = t.bits == nullptr ? nullptr : bits_of(t, e.first, pitch) + channel / 8;
  const float* input_scale = input_scale_at(t, e.first);
  auto cursor = source.from(channel);
  for (i64 x = 0; x < width; ++x, cursor.advance()) {
    const I32 start = splat(starts[x]);
    F32 y[kUnitVectors];
    BITTERN_UNROLL
    for (int j = 0; j < kUnitVectors; ++j) {
      const F32 acc = to_float(add(start, cursor.minus_twice(j)));
      const F32 r = kResidual == Residual::none ? F32{} : load(residual + j * kLanes);
      y[j] = with_tail<kActivation, kResidual>(acc, r, mapped, v[j], input_scale);
    }
    if (input_scale != nullptr) ++input_scale;
    if (kResidual != Residual::none) residual += pitch;
    if (real != nullptr) {
      BITTERN_UNROLL
      for (int j = 0; j < kUnitVectors; ++j) store(real + j * kLanes, y[j]);
      real += pitch;
    }
    if (bits == nullptr) continue;
    u32 mask = 0;
    BITTERN_UNROLL
    for (int j = 0; j < kUnitVectors; ++j) mask |= at_least(y[j], v[j].threshold) << (j * kLanes);
    const u16 two = static_cast<u16>(mask);
    std::memcpy(bits, &two, sizeof two);
    bits += step;
  }
}

template <class Source>
using FinishRow = void (*)(const RowEnd& e, const Source& source, i64 channel);

template <class Source>
struct RowFinishers {
  template <Activation kActivation, Residual kResidual>
  struct Of {
    static constexpr FinishRow<Source> kFunction = finish_row_plain<Source, kActivation, kResidual>;
  };
};

// All channels of a row.
template <class Source>
void finish_row(RowEnd e, const Source& source) {
  FinishRow<Source> whole = finish_row_ints<Source>, rest = finish_row_ints<Source>;
  if (e.tail != nullptr) {
    whole = rest = finish_row_units<Source>;
    if (e.tail->factor == nullptr && e.out_channels >= kTailUnit) {
      whole = finisher_of<RowFinishers<Source>::template Of>(*e.tail);
      if (e.tail->residual != nullptr) find_residual(e);
    }
  }
  i64 channel = 0;
  for (; channel + kTailUnit <= e.out_channels; channel += kTailUnit) whole(e, source, channel);
  if (channel < e.out_channels) rest(e, source, channel);
}

}  // namespace
