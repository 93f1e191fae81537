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
};

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

// A unit that is not whole, or has a residual or factors: pixel by pixel.
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

// A whole unit with nothing but an epilogue and an activation.
template <class Source, Activation kActivation>
void finish_row_plain(const RowEnd& e, const Source& source, i64 channel) {
  const Tail& t = *e.tail;
  TailVectors v[kUnitVectors];
  BITTERN_UNROLL
  for (int j = 0; j < kUnitVectors; ++j) v[j] = load_tail(t.rows + channel + j * kLanes, t.pitch);
  const i64 width = e.width, pitch = e.out_channels, step = ceil_div(pitch, kWordBits) * i64{sizeof(u64)};
  const i32* starts = e.starts;
  float* real = t.real == nullptr ? nullptr : t.real + e.first.index * pitch + channel;
  u8* bits = t.bits == nullptr ? nullptr : bits_of(t, e.first, pitch) + channel / 8;
  auto cursor = source.from(channel);
  for (i64 x = 0; x < width; ++x, cursor.advance()) {
    const I32 start = splat(starts[x]);
    F32 y[kUnitVectors];
    BITTERN_UNROLL
    for (int j = 0; j < kUnitVectors; ++j) {
      const F32 acc = to_float(add(start, cursor.minus_twice(j)));
      y[j] = with_tail<kActivation, Residual::none>(acc, F32{}, false, v[j]);
    }
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
FinishRow<Source> plain_finisher(const Tail& t) {
  switch (static_cast<Activation>(t.activation)) {
    case Activation::relu:
      return finish_row_plain<Source, Activation::relu>;
    case Activation::hardtanh:
      return finish_row_plain<Source, Activation::hardtanh>;
    case Activation::prelu:
      return finish_row_plain<Source, Activation::prelu>;
    case Activation::rprelu:
      return finish_row_plain<Source, Activation::rprelu>;
    default:
      return finish_row_plain<Source, Activation::none>;
  }
}

// All channels of a row.
template <class Source>
void finish_row(const RowEnd& e, const Source& source) {
  FinishRow<Source> whole = finish_row_ints<Source>, rest = finish_row_ints<Source>;
  if (e.tail != nullptr) {
    rest = finish_row_units<Source>;
    const bool plain = e.tail->residual == nullptr && e.tail->factor == nullptr;
    whole = plain ? plain_finisher<Source>(*e.tail) : rest;
  }
  i64 channel = 0;
  for (; channel + kTailUnit <= e.out_channels; channel += kTailUnit) whole(e, source, channel);
  if (channel < e.out_channels) rest(e, source, channel);
}

}  // namespace
