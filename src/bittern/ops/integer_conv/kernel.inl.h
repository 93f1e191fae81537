// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after its products (Dot, Channels) and finish.inl.h.
//
// An image is copied once, with its border, to numbers as the products take them. A tile of pixels by a unit
// of output channels, or two, then stays in registers: each step loads some products' weights and spreads
// the numbers of each pixel. Products lie in runs of numbers that follow each other in the image: a row of
// the kernel, or one of its positions.

#if defined(__clang__)
#define BITTERN_UNROLL_TWICE _Pragma("clang loop unroll_count(2)")
#else
#define BITTERN_UNROLL_TWICE _Pragma("GCC unroll 2")
#endif

namespace {

using Number = Dot::Number;
using Weight = Dot::Weight;

constexpr bool kWidens = sizeof(Weight) > 1;  // weights, before tiles take them
constexpr i64 kChunkPixels = 8 * kPixels;     // whose sums are there at once
constexpr i64 kTaskPixels = 240;              // at most
constexpr i64 kImageNumbers = i64{1} << 19;   // of images that are laid out at once, unless one is larger
constexpr i64 kBeyond = 64;                   // numbers behind an image that a tile may read
constexpr int kUnitVectors = static_cast<int>(kIntegerUnit / Dot::kLanes);
constexpr i64 kUnitWeights = kIntegerUnit * Dot::kPack;  // of one step

// ---- geometry

struct Runs {
  i64 count, length, steps;
  bool rows;  // of the kernel
};

Runs runs_of(const IntegerConv& c) {
  const bool rows = c.groups == 1 && c.dilation_w == 1;
  const i64 length = rows ? c.kernel_w * c.channels : c.channels / c.groups;
  return {rows ? c.kernel_h : c.kernel_h * c.kernel_w, length, ceil_div(length, Dot::kPack), rows};
}

// Images with their border, as far as windows reach.
struct Framed {
  i64 height, width, row, image;  // row, image: numbers
};

Framed framed(const IntegerConv& c) {
  const i64 height = (c.out_height - 1) * c.stride_h + (c.kernel_h - 1) * c.dilation_h + 1;
  const i64 width = (c.out_width - 1) * c.stride_w + (c.kernel_w - 1) * c.dilation_w + 1;
  return {height, width, width * c.channels, height * width * c.channels};
}

template <class T>
struct FrameJob {
  const IntegerConv* c;
  Framed frame;
  i64 first;   // image
  i32 centre;  // added to each number
  T outside;
  T* out;
};

template <class T>
void frame_row(void* context, i64 index) {
  const auto& job = *static_cast<const FrameJob<T>*>(context);
  const IntegerConv& c = *job.c;
  const i64 y = index % job.frame.height - c.pad_top;
  T* out = job.out + index * job.frame.row;
  if (y < 0 || y >= c.height) {
    for (i64 i = 0; i < job.frame.row; ++i) out[i] = job.outside;
    return;
  }
  const i64 left = smaller(c.pad_left, job.frame.width) * c.channels;
  const i64 inside = clamped(c.width, 0, job.frame.width - left / c.channels) * c.channels;
  const i8* x = c.x + ((job.first + index / job.frame.height) * c.height + y) * c.width * c.channels;
  for (i64 i = 0; i < left; ++i) out[i] = job.outside;
  T* to = out + left;
  for (i64 i = 0; i < inside; ++i) to[i] = static_cast<T>(x[i] + job.centre);
  for (i64 i = left + inside; i < job.frame.row; ++i) out[i] = job.outside;
}

template <class T>
T* frame(const IntegerConv& c, const Framed& size, i64 first, i64 images, i32 centre, int threads) {
  T* out = scratch_array<T>(Scratch::padded_input, images * size.image + kBeyond);
  FrameJob<T> job{&c, size, first, centre, static_cast<T>(c.zero + centre), out};
  parallel_for(images * size.height, threads, frame_row<T>, &job);
  for (i64 i = 0; i < kBeyond; ++i) out[images * size.image + i] = 0;
  return out;
}

// ---- sums of products

struct Plan {
  const IntegerConv* c;
  Runs runs;
  Framed size;
  const Number* x;     // of the first image laid out
  const i64* offsets;  // of each run from the first number of a window
  i64 group_units, unit_weights;
  i64 first, pixels;  // of the images laid out
  i64 task_pixels, parts;
};

// Numbers from one pixel's sums to the next.
template <int vectors>
constexpr i64 kSumStep = vectors < kUnitVectors ? vectors * Dot::kLanes : kIntegerUnit;

// Sums of some pixels by some vectors of output channels; those of a second unit lie `unit` numbers further.
template <int pixels, int vectors, class W>
void sum_tile(const Plan& plan, const Number* const* x, i64 shift, const W* w, i32* sums, i64 unit) {
  Dot::Sum acc[pixels][vectors];
  BITTERN_UNROLL
  for (int p = 0; p < pixels; ++p) {
    BITTERN_UNROLL
    for (int v = 0; v < vectors; ++v) acc[p][v] = Dot::zero();
  }
  const Number* from[pixels];
  BITTERN_UNROLL
  for (int p = 0; p < pixels; ++p) from[p] = x[p] + shift;
  for (i64 r = 0; r < plan.runs.count; ++r) {
    const i64 begin = plan.offsets[r], end = begin + plan.runs.steps * Dot::kPack;
    BITTERN_UNROLL_TWICE
    for (i64 at = begin; at < end; at += Dot::kPack, w += kUnitWeights) {
      decltype(Dot::weights(w)) row[vectors];
      BITTERN_UNROLL
      for (int v = 0; v < vectors; ++v) {
        row[v] = Dot::weights(w + v / kUnitVectors * plan.unit_weights +
                              v % kUnitVectors * (Dot::kLanes * Dot::kPack));
      }
      BITTERN_UNROLL
      for (int p = 0; p < pixels; ++p) {
        const auto number = Dot::spread(from[p] + at);
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) acc[p][v] = Dot::step(acc[p][v], row[v], number);
      }
    }
  }
  BITTERN_UNROLL
  for (int p = 0; p < pixels; ++p) {
    BITTERN_UNROLL
    for (int v = 0; v < vectors; ++v) {
      Dot::store(sums + v / kUnitVectors * unit + p * kSumStep<vectors> + v % kUnitVectors * Dot::kLanes,
                 acc[p][v]);
    }
  }
}

// Where a block of output channels lies.
struct Block {
  i64 shift;                // numbers from a pixel to the first channel of its group
  i64 row, channel, count;  // its first row behind the sums, and output channel; how many
};

// A tile of fewer pixels.
template <int pixels, int vectors, class W>
void sum_rest(const Plan& plan, const Number* const* x, i64 left, i64 shift, const W* w, i32* sums,
              i64 unit) {
  if (left == pixels) return sum_tile<pixels, vectors>(plan, x, shift, w, sums, unit);
  if constexpr (pixels > 1) sum_rest<pixels - 1, vectors>(plan, x, left, shift, w, sums, unit);
}

template <int vectors, class W>
void sum_pixels(const Plan& plan, const Number* const* x, i64 count, i64 shift, const W* w, i32* sums,
                i64 unit) {
  for (i64 done = 0; done < count;) {
    const i64 left = count - done;
    i32* to = sums + done * kSumStep<vectors>;
    if (left >= 2 * kPixels || left == kPixels) {
      sum_tile<kPixels, vectors>(plan, x + done, shift, w, to, unit);
      done += kPixels;
      continue;
    }
    const i64 now = left > kPixels ? ceil_div(left, 2) : left;  // the last two alike
    sum_rest<kPixels, vectors>(plan, x + done, now, shift, w, to, unit);
    done += now;
  }
}

// Whether a vector holds the sums of two pixels.
bool pairs_pixels(const IntegerConv& c) {
  return kHalfVectors * Dot::kLanes * 2 == kIntegerUnit && c.groups == 1 &&
         c.out_channels * 2 == kIntegerUnit;
}

// Sums of `pixels` pixels to the numbers of a block, from `pixel` on.
template <int vectors>
void finish_pixels(const Plan& plan, const i32* sums, i64 pixels, i64 pixel, const Block& block) {
  const IntegerConv& c = *plan.c;
  constexpr i64 units = (vectors + kUnitVectors - 1) / kUnitVectors;
  i8* out = c.out + (plan.first + pixel) * c.out_channels + block.channel;
  if (kSumStep<vectors> < kIntegerUnit && pairs_pixels(c)) {
    const UnitRows rows = rows_of(c, 0);
    finish(c, rows, sums, pixels / 2, out, kIntegerUnit, kIntegerUnit);
    if (pixels % 2 == 0) return;
    return finish(c, rows, sums + pixels / 2 * kIntegerUnit, 1, out + (pixels - 1) * c.out_channels, 0,
                  c.out_channels);
  }
  for (i64 u = 0; u < units; ++u) {
    const i64 done = u * kIntegerUnit;
    finish(c, rows_of(c, block.row + done), sums + u * kChunkPixels * kIntegerUnit, pixels, out + done,
           c.out_channels, smaller(kIntegerUnit, block.count - done), kSumStep<vectors>);
  }
}

template <int vectors, class W>
void convolve_stretch(const Plan& plan, const Number* const* x, i64 first, i64 count, const Block& block,
                      const W* w) {
  constexpr i64 units = (vectors + kUnitVectors - 1) / kUnitVectors;
  // What stands behind the last pixel's half a vector is read, and not used.
  alignas(64) i32 sums[units * kChunkPixels * kIntegerUnit];
  for (i64 done = 0; done < count; done += kChunkPixels) {
    const i64 now = smaller(kChunkPixels, count - done);
    sum_pixels<vectors>(plan, x + done, now, block.shift, w, sums, kChunkPixels * kIntegerUnit);
    finish_pixels<vectors>(plan, sums, now, first + done, block);
  }
}

template <class W>
void convolve_with(const Plan& plan, const Number* const* x, i64 first, i64 count, const Block& block,
                   i64 units, const W* w) {
  if (units > 1) {
    convolve_stretch<kMostVectors>(plan, x, first, count, block, w);
  } else if (block.count > kHalfVectors * Dot::kLanes) {
    convolve_stretch<kUnitVectors>(plan, x, first, count, block, w);
  } else {
    convolve_stretch<kHalfVectors>(plan, x, first, count, block, w);
  }
}

void convolve_block(const Plan& plan, const Number* const* x, i64 first, i64 count, i64 group, i64 unit,
                    i64 units) {
  const IntegerConv& c = *plan.c;
  const i64 outputs = c.out_channels / c.groups, start = unit * kIntegerUnit;
  const Block block{group * (c.channels / c.groups), (group * plan.group_units + unit) * kIntegerUnit,
                    group * outputs + start, smaller(units * kIntegerUnit, outputs - start)};
  const i8* w = static_cast<const i8*>(c.weights) + (group * plan.group_units + unit) * plan.unit_weights;
  if (!kWidens || count <= kPixels) return convolve_with(plan, x, first, count, block, units, w);
  Weight* wide = scratch_array<Weight>(Scratch::panel, plan.unit_weights);
  for (i64 i = 0; i < plan.unit_weights; ++i) wide[i] = w[i];
  convolve_with(plan, x, first, count, block, units, wide);
}

constexpr i64 kTogether = kMostVectors > kUnitVectors ? kMostVectors / kUnitVectors : 1;  // units of a tile

void find_windows(const Plan& plan, i64 first, i64 count, const Number** x) {
  const IntegerConv& c = *plan.c;
  i64 column = first % c.out_width, y = first / c.out_width % c.out_height,
      image = first / c.out_width / c.out_height;
  for (i64 i = 0; i < count; ++i) {
    x[i] =
        plan.x + image * plan.size.image + y * c.stride_h * plan.size.row + column * c.stride_w * c.channels;
    if (++column < c.out_width) continue;
    column = 0;
    if (++y == c.out_height) y = 0, ++image;
  }
}

void convolve_task(void* context, i64 index) {
  const Plan& plan = *static_cast<const Plan*>(context);
  const i64 first = index / plan.parts * plan.task_pixels, part = index % plan.parts;
  const i64 count = smaller(plan.task_pixels, plan.pixels - first);
  const Number** x = scratch_array<const Number*>(Scratch::tap_rows, kTaskPixels);
  find_windows(plan, first, count, x);
  const i64 units = plan.c->groups * plan.group_units, end = (part + 1) * units / plan.parts;
  for (i64 at = part * units / plan.parts; at < end;) {
    const i64 group = at / plan.group_units, unit = at % plan.group_units;
    const i64 left = smaller(end - at, plan.group_units - unit), now = left >= kTogether ? kTogether : 1;
    convolve_block(plan, x, first, count, group, unit, now);
    at += now;
  }
}

void find_offsets(const IntegerConv& c, const Runs& runs, const Framed& size, i64* offsets) {
  for (i64 r = 0; r < runs.count; ++r) {
    const i64 y = runs.rows ? r : r / c.kernel_w, x = runs.rows ? 0 : r % c.kernel_w;
    offsets[r] = y * c.dilation_h * size.row + x * c.dilation_w * c.channels;
  }
}

// The images laid out, from the first on: pixels in equal stretches, and where those are few, parts of the
// output channels.
void convolve_images(Plan& plan, i64 images, int threads) {
  constexpr i64 kTasksPerThread = 2;
  const IntegerConv& c = *plan.c;
  plan.pixels = images * c.out_height * c.out_width;
  const i64 stretches = ceil_div(plan.pixels, kTaskPixels),
            wanted = threads > 1 ? kTasksPerThread * threads : 1;
  plan.task_pixels = smaller(kTaskPixels, round_up(ceil_div(plan.pixels, stretches), kPixels));
  const i64 tasks = ceil_div(plan.pixels, plan.task_pixels);
  plan.parts = smaller(c.groups * plan.group_units, ceil_div(wanted, tasks));
  parallel_for(tasks * plan.parts, threads, convolve_task, &plan);
}

void convolve(const IntegerConv& c, int threads) {
  Plan plan{};
  plan.c = &c;
  plan.runs = runs_of(c);
  plan.size = framed(c);
  plan.group_units = ceil_div(c.out_channels / c.groups, kIntegerUnit);
  plan.unit_weights = plan.runs.count * plan.runs.steps * kUnitWeights;
  i64* offsets = scratch_array<i64>(Scratch::tap_offsets, plan.runs.count);
  find_offsets(c, plan.runs, plan.size, offsets);
  plan.offsets = offsets;
  const i64 together = larger(1, kImageNumbers / larger(1, plan.size.image));
  for (i64 first = 0; first < c.batch; first += together) {
    const i64 images = smaller(together, c.batch - first);
    plan.x = frame<Number>(c, plan.size, first, images, Dot::centre(c.zero), threads);
    plan.first = first * c.out_height * c.out_width;
    convolve_images(plan, images, threads);
  }
}

// ---- each channel by itself

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

// `pixels` pixels of a row, from x on, `x_step` numbers apart, to the first `count` numbers of a unit.
void channel_pixels(const ChannelPlan& plan, const i16* x, i64 x_step, i64 pixels, i64 unit, i8* out,
                    i64 out_step, i64 count) {
  alignas(64) i32 sums[kRowPixels * kIntegerUnit];
  const i16* w = static_cast<const i16*>(plan.c->weights) + unit * plan.taps * kIntegerUnit;
  const UnitRows rows = rows_of(*plan.c, unit * kIntegerUnit);
  for (i64 done = 0; done < pixels; done += kRowPixels) {
    const i64 now = smaller(kRowPixels, pixels - done);
    for (i64 p = 0; p < now; ++p) {
      Channels::sum(x + (done + p) * x_step, plan.offsets, plan.taps, w, sums + p * kIntegerUnit);
    }
    finish(*plan.c, rows, sums, now, out + done * out_step, out_step, count);
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
    channel_pixels(plan, x, kIntegerUnit, whole, 0, out, kIntegerUnit, kIntegerUnit);
    if (done == numbers) return;
    return channel_pixels(plan, x + done, kIntegerUnit, 1, 0, out + done, kIntegerUnit, numbers - done);
  }
  for (i64 unit = 0; unit * kIntegerUnit < c.channels; ++unit) {
    const i64 channel = unit * kIntegerUnit, count = smaller(kIntegerUnit, c.channels - channel);
    channel_pixels(plan, x + channel, c.stride_w * c.channels, c.out_width, unit, out + channel, c.channels,
                   count);
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

// What is not worth several threads gets one.
int worth(const IntegerConv& c, int threads) {
  constexpr i64 kWorthThreads = i64{1} << 23;  // products, a tenth of a millisecond
  const i64 products = c.kernel_h * c.kernel_w * c.channels / c.groups;
  return c.batch * c.out_height * c.out_width * c.out_channels * products < kWorthThreads ? 1 : threads;
}

void integer_conv(const IntegerConv& c, int threads) {
  if (c.batch * c.out_height * c.out_width == 0) return;
  threads = worth(c, threads);
  if (is_depthwise(c)) return convolve_channels(c, threads);
  convolve(c, threads);
}

// ---- weights laid out

i64 prepared_bytes(const IntegerConv& c) {
  if (is_depthwise(c)) {
    const i64 taps = round_up(c.kernel_h * c.kernel_w, Channels::kTaps);
    return integer_outputs(c) * taps * static_cast<i64>(sizeof(i16));
  }
  const Runs runs = runs_of(c);
  return integer_outputs(c) * runs.count * runs.steps * Dot::kPack;
}

void prepare_channels(const IntegerConv& c, const i8* w, const i32* given, i16* weights, i32* rows) {
  const i64 taps = c.kernel_h * c.kernel_w, outputs = integer_outputs(c);
  const i64 filled = round_up(taps, Channels::kTaps);
  for (i64 at = 0; at < outputs; ++at) {
    const i64 channel = fills_vector(c) ? at % c.channels : at;
    i16* unit = weights + at / kIntegerUnit * filled * kIntegerUnit;
    for (i64 t = 0; t < filled; ++t) {
      const bool is = channel < c.channels && t < taps;
      unit[Channels::place(t, at % kIntegerUnit)] = is ? w[channel * taps + t] : i16{0};
    }
    for (i64 r = 0; r < kIntegerRows; ++r) {
      rows[r * outputs + at] = channel < c.channels ? given[r * c.channels + channel] : 0;
    }
  }
}

// Where product `at` of a run stands in the weight of an output.
i64 product_place(const IntegerConv& c, const Runs& runs, i64 run, i64 at) {
  const i64 depth = c.channels / c.groups, taps = c.kernel_h * c.kernel_w;
  const i64 tap = runs.rows ? run * c.kernel_w + at / depth : run;
  return at % depth * taps + tap;
}

void prepare(const IntegerConv& c, const i8* w, const i32* given, void* weights, i32* rows) {
  if (is_depthwise(c)) return prepare_channels(c, w, given, static_cast<i16*>(weights), rows);
  const Runs runs = runs_of(c);
  const i64 outputs = integer_outputs(c), group = c.out_channels / c.groups,
            products = c.channels / c.groups * c.kernel_h * c.kernel_w, filled = runs.steps * Dot::kPack,
            padded = round_up(group, kIntegerUnit);
  const u32 offset = static_cast<u32>(static_cast<i32>(c.zero) + Dot::centre(c.zero));
  for (i64 at = 0; at < outputs; ++at) {
    const i64 lane = at % kIntegerUnit, in_group = pairs_pixels(c) ? at % group : at % padded;
    const i64 channel = at / padded * group + in_group;
    const bool is = in_group < group;
    i8* unit = static_cast<i8*>(weights) + at / kIntegerUnit * runs.count * runs.steps * kUnitWeights;
    u32 sum = 0;
    for (i64 i = 0; i < runs.count * filled; ++i) {
      const i64 run = i / filled, in_run = i % filled;
      const i8 value =
          is && in_run < runs.length ? w[channel * products + product_place(c, runs, run, in_run)] : i8{0};
      unit[i / Dot::kPack * kUnitWeights + lane * Dot::kPack + i % Dot::kPack] = value;
      sum += static_cast<u32>(i32{value});
    }
    for (i64 r = 0; r < kIntegerRows; ++r)
      rows[r * outputs + at] = is ? given[r * c.out_channels + channel] : 0;
    rows[at] = static_cast<i32>(static_cast<u32>(rows[at]) - offset * sum);
  }
}

}  // namespace

const IntegerConvKernels integer_conv_kernels = {integer_conv, prepared_bytes, prepare};
