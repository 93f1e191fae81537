// SPDX-License-Identifier: Apache-2.0

// Each channel by itself: sums of sixteen over their taps. Included inside the namespace of one instruction
// set, after its sums (Channels), finish.inl.h and frame.inl.h.

namespace {

// Whether the few channels of several pixels fill a vector, which then stands for one pixel.
bool fills_vector(const IntegerConv& c) {
  return c.stride_w == 1 && c.channels < kIntegerUnit && kIntegerUnit % c.channels == 0;
}

struct ChannelPlan {
  const IntegerConv* c;
  Framed size;
  const i16* x;
  const i64* offsets;
  i64 taps, first;  // first: image
};

constexpr i64 kRowPixels = 16;  // that are finished together

// `pixels` pixels of a row, from x on, `x_step` numbers apart, to numbers of a unit.
void channel_pixels(const ChannelPlan& plan, const i16* x, i64 x_step, i64 pixels, i64 unit, Finished to) {
  alignas(64) i32 sums[kRowPixels * kIntegerUnit];
  const i16* w = static_cast<const i16*>(plan.c->weights) + unit * plan.taps * kIntegerUnit;
  const UnitRows rows = rows_of(*plan.c, unit * kIntegerUnit);
  for (i64 done = 0; done < pixels; done += kRowPixels) {
    const i64 now = smaller(kRowPixels, pixels - done);
    for (i64 p = 0; p < now; ++p) {
      Channels::sum(x + (done + p) * x_step, plan.offsets, plan.taps, w, sums + p * kIntegerUnit);
    }
    finish(*plan.c, rows, sums, now, {to.out + done * to.step, to.step, to.count});
  }
}

void channel_row(void* context, i64 index) {
  const ChannelPlan& plan = *static_cast<const ChannelPlan*>(context);
  const IntegerConv& c = *plan.c;
  const i64 image = index / c.out_height, y = index % c.out_height;
  const i16* x = plan.x + image * plan.size.image + y * c.stride_h * plan.size.row;
  i8* out = c.out + ((plan.first + image) * c.out_height + y) * c.out_width * c.channels;
  if (fills_vector(c)) {
    const i64 numbers = c.out_width * c.channels, whole = numbers / kIntegerUnit, done = whole * kIntegerUnit;
    channel_pixels(plan, x, kIntegerUnit, whole, 0, {out, kIntegerUnit, kIntegerUnit});
    if (done == numbers) return;
    return channel_pixels(plan, x + done, kIntegerUnit, 1, 0, {out + done, kIntegerUnit, numbers - done});
  }
  for (i64 unit = 0; unit * kIntegerUnit < c.channels; ++unit) {
    const i64 channel = unit * kIntegerUnit, count = smaller(kIntegerUnit, c.channels - channel);
    channel_pixels(plan, x + channel, c.stride_w * c.channels, c.out_width, unit,
                   {out + channel, c.channels, count});
  }
}

void convolve_channels(const IntegerConv& c, int threads) {
  const i64 taps = c.kernel_h * c.kernel_w;
  ChannelPlan plan{};
  plan.c = &c;
  plan.size = framed(c);
  plan.taps = round_up(taps, Channels::kTaps);
  i64* offsets = scratch_array<i64>(Scratch::tap_offsets, plan.taps);
  for (i64 t = 0; t < plan.taps; ++t) {
    const i64 y = t / c.kernel_w * c.dilation_h, x = t % c.kernel_w * c.dilation_w;
    offsets[t] = t < taps ? y * plan.size.row + x * c.channels : 0;
  }
  plan.offsets = offsets;
  const i64 together = larger(1, kImageNumbers / larger(1, plan.size.image));
  for (i64 first = 0; first < c.batch; first += together) {
    const i64 images = smaller(together, c.batch - first);
    plan.x = frame<i16>(c, plan.size, first, images, static_cast<i32>(-c.zero), threads);
    plan.first = first;
    parallel_for(images * c.out_height, threads, channel_row, &plan);
  }
}

i64 channel_bytes(const IntegerConv& c) {
  const i64 taps = round_up(c.kernel_h * c.kernel_w, Channels::kTaps);
  return round_up(c.channels, kIntegerUnit) * taps * static_cast<i64>(sizeof(i16));
}

void prepare_channels(const IntegerConv& c, const i8* w, const i32* given, void* weights, i32* rows) {
  const i64 taps = c.kernel_h * c.kernel_w, filled = round_up(taps, Channels::kTaps);
  for (i64 at = 0; at < integer_outputs(c); ++at) {
    const i64 channel = fills_vector(c) ? at % c.channels : at;
    fill_rows(c, given, channel < c.channels ? channel : -1, 0, rows + at);
    if (at >= round_up(c.channels, kIntegerUnit)) continue;
    i16* unit = static_cast<i16*>(weights) + at / kIntegerUnit * filled * kIntegerUnit;
    for (i64 t = 0; t < filled; ++t) {
      const bool is = channel < c.channels && t < taps;
      unit[Channels::place(t, at % kIntegerUnit)] = is ? w[channel * taps + t] : i16{0};
    }
  }
}

}  // namespace
