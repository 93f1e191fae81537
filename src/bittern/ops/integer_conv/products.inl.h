// SPDX-License-Identifier: Apache-2.0

// Sums of products over channels. Included inside the namespace of one instruction set, after its products
// (Dot), finish.inl.h and frame.inl.h.
//
// A tile of pixels by a panel of output channels (one unit, or two) stays in registers: each step loads some
// products' weights and spreads the numbers of each pixel. Products lie in runs of numbers that follow each
// other in the image: a row of the kernel, or one of its positions. The weights of a panel follow each other
// in the order of the steps.

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
constexpr int kUnitVectors = static_cast<int>(kIntegerUnit / Dot::kLanes);
constexpr i64 kUnitWeights = kIntegerUnit * Dot::kPack;                                   // of one step
constexpr i64 kTogether = kMostVectors > kUnitVectors ? kMostVectors / kUnitVectors : 1;  // units of a panel
static_assert(kTogether <= 2, "what is left of a group's units is one");

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

struct Plan {
  const IntegerConv* c;
  Runs runs;
  Framed size;
  const Number* x;     // of the first image laid out
  const i64* offsets;  // of each run from the first number of a window
  i64 group_units, group_panels, unit_weights;
  i64 first, pixels;  // of the images laid out
  i64 task_pixels, parts;
};

// A panel of output channels.
struct Panel {
  i64 shift;    // numbers from a pixel to the first channel of its group
  i64 units;    // 1 or 2
  i64 row;      // of its first behind the sums
  i64 channel;  // its first
  i64 count;    // its channels
};

Panel panel_of(const Plan& plan, i64 index) {
  const IntegerConv& c = *plan.c;
  const i64 group = index / plan.group_panels, unit = index % plan.group_panels * kTogether,
            units = smaller(kTogether, plan.group_units - unit), outputs = c.out_channels / c.groups,
            start = unit * kIntegerUnit;
  return {group * (c.channels / c.groups), units, (group * plan.group_units + unit) * kIntegerUnit,
          group * outputs + start, smaller(units * kIntegerUnit, outputs - start)};
}

// ---- weights of 4 bits

// Bytes of the weights of a unit.
i64 unit_bytes(const IntegerConv& c, i64 unit_weights) {
  return c.weight_bits == 4 ? round_up(unit_weights, kNibbleRun) / 2 : unit_weights;
}

void widen(const i8* w, i64 count, Weight* out) {
  for (i64 i = 0; i < count; ++i) out[i] = w[i];
}

void widen_nibbles(const i8* w, i64 count, Weight* out) {
  for (i64 i = 0; i < count; i += kNibbleRun, w += kNibbleRun / 2, out += kNibbleRun) {
    for (i64 j = 0; j < kNibbleRun / 2; ++j) {
      out[j] = static_cast<i8>(static_cast<i8>(static_cast<u8>(w[j]) << 4) >> 4);
      out[kNibbleRun / 2 + j] = static_cast<i8>(w[j] >> 4);
    }
  }
}

void pack_nibbles(const i8* w, i64 count, i8* out) {
  for (i64 i = 0; i < round_up(count, kNibbleRun) / 2; ++i) {
    const i64 low = i / (kNibbleRun / 2) * kNibbleRun + i % (kNibbleRun / 2), high = low + kNibbleRun / 2;
    const u32 first = low < count ? static_cast<u8>(w[low]) & 15u : 0u,
              second = high < count ? static_cast<u8>(w[high]) & 15u : 0u;
    out[i] = static_cast<i8>(static_cast<u8>(first | second << 4));
  }
}

// ---- tiles

// Numbers from one pixel's sums to the next.
template <int vectors>
constexpr i64 kSumStep = vectors < kUnitVectors ? vectors * Dot::kLanes : kIntegerUnit;

// Where a tile leaves its sums, and those of a second unit so many numbers further; or, where it finishes
// them itself, the numbers of its first pixel.
struct Target {
  i32* sums;
  i64 unit;
  i8* out;
};

// Weights of which an element of memory is one, or two.
template <class W>
constexpr i64 kWeightsOf = 1;
template <>
constexpr i64 kWeightsOf<Nibbles> = 2;

template <int pixels, int vectors, class W>
void sum_tile(const Plan& plan, const Panel& panel, const Number* const* x, const W* w, const Target& to) {
  constexpr i64 kStepWeights = (vectors + kUnitVectors - 1) / kUnitVectors * kUnitWeights / kWeightsOf<W>;
  constexpr i64 kVectorWeights = Dot::kLanes * Dot::kPack / kWeightsOf<W>;
  Dot::Sum acc[pixels][vectors];
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) {
    const Dot::Sum start =
        kFinishesTiles ? Dot::load(plan.c->rows + panel.row + v * Dot::kLanes) : Dot::zero();
    BITTERN_UNROLL
    for (int p = 0; p < pixels; ++p) acc[p][v] = start;
  }
  const Number* from[pixels];
  BITTERN_UNROLL
  for (int p = 0; p < pixels; ++p) from[p] = x[p] + panel.shift;
  for (i64 r = 0; r < plan.runs.count; ++r) {
    const i64 begin = plan.offsets[r], end = begin + plan.runs.steps * Dot::kPack;
    BITTERN_UNROLL_TWICE
    for (i64 at = begin; at < end; at += Dot::kPack, w += kStepWeights) {
      decltype(Dot::weights(w)) row[vectors];
      BITTERN_UNROLL
      for (int v = 0; v < vectors; ++v) row[v] = Dot::weights(w + v * kVectorWeights);
      BITTERN_UNROLL
      for (int p = 0; p < pixels; ++p) {
        const auto number = Dot::spread(from[p] + at);
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) acc[p][v] = Dot::step(acc[p][v], row[v], number);
      }
    }
  }
  if constexpr (kFinishesTiles) {
    finish_tile(*plan.c, rows_of(*plan.c, panel.row), acc, {to.out, plan.c->out_channels, panel.count});
  } else {
    BITTERN_UNROLL
    for (int p = 0; p < pixels; ++p) {
      BITTERN_UNROLL
      for (int v = 0; v < vectors; ++v) {
        Dot::store(
            to.sums + v / kUnitVectors * to.unit + p * kSumStep<vectors> + v % kUnitVectors * Dot::kLanes,
            acc[p][v]);
      }
    }
  }
}

// A tile of fewer pixels.
template <int pixels, int vectors, class W>
void sum_rest(const Plan& plan, const Panel& panel, const Number* const* x, i64 left, const W* w,
              const Target& to) {
  if (left == pixels) return sum_tile<pixels, vectors>(plan, panel, x, w, to);
  if constexpr (pixels > 1) sum_rest<pixels - 1, vectors>(plan, panel, x, left, w, to);
}

template <int vectors, class W>
void sum_pixels(const Plan& plan, const Panel& panel, const Number* const* x, i64 count, const W* w,
                Target to) {
  for (i64 done = 0; done < count;) {
    const i64 left = count - done;
    i64 now = kPixels;
    if (left >= 2 * kPixels || left == kPixels) {
      sum_tile<kPixels, vectors>(plan, panel, x + done, w, to);
    } else {
      now = left > kPixels ? ceil_div(left, 2) : left;  // the last two alike
      sum_rest<kPixels, vectors>(plan, panel, x + done, now, w, to);
    }
    done += now;
    if constexpr (!kFinishesTiles) to.sums += now * kSumStep<vectors>;
    to.out += now * plan.c->out_channels;
  }
}

// Whether a vector holds the sums of two pixels.
bool pairs_pixels(const IntegerConv& c) {
  return kHalfVectors * Dot::kLanes * 2 == kIntegerUnit && c.groups == 1 &&
         c.out_channels * 2 == kIntegerUnit;
}

// Sums of `pixels` pixels to the numbers of a panel.
template <int vectors>
void finish_pixels(const Plan& plan, const Panel& panel, const i32* sums, i64 pixels, i8* out) {
  const IntegerConv& c = *plan.c;
  constexpr i64 units = (vectors + kUnitVectors - 1) / kUnitVectors;
  if (kSumStep<vectors> < kIntegerUnit && pairs_pixels(c)) {
    const UnitRows rows = rows_of(c, 0);
    finish(c, rows, sums, pixels / 2, {out, kIntegerUnit, kIntegerUnit});
    if (pixels % 2 == 0) return;
    return finish(c, rows, sums + pixels / 2 * kIntegerUnit, 1,
                  {out + (pixels - 1) * c.out_channels, 0, c.out_channels});
  }
  for (i64 u = 0; u < units; ++u) {
    const i64 done = u * kIntegerUnit;
    finish(c, rows_of(c, panel.row + done), sums + u * kChunkPixels * kIntegerUnit, pixels,
           {out + done, c.out_channels, smaller(kIntegerUnit, panel.count - done)}, kSumStep<vectors>);
  }
}

template <int vectors, class W>
void convolve_stretch(const Plan& plan, const Panel& panel, const Number* const* x, i64 first, i64 count,
                      const W* w) {
  i8* out = plan.c->out + (plan.first + first) * plan.c->out_channels + panel.channel;
  if constexpr (kFinishesTiles) {
    sum_pixels<vectors>(plan, panel, x, count, w, {nullptr, 0, out});
  } else {
    constexpr i64 units = (vectors + kUnitVectors - 1) / kUnitVectors;
    // What stands behind the last pixel's half a vector is read, and not used.
    alignas(64) i32 sums[units * kChunkPixels * kIntegerUnit];
    for (i64 done = 0; done < count; done += kChunkPixels) {
      const i64 now = smaller(kChunkPixels, count - done);
      sum_pixels<vectors>(plan, panel, x + done, now, w, {sums, kChunkPixels * kIntegerUnit, out});
      finish_pixels<vectors>(plan, panel, sums, now, out);
      out += now * plan.c->out_channels;
    }
  }
}

template <class W>
void convolve_with(const Plan& plan, const Panel& panel, const Number* const* x, i64 first, i64 count,
                   const W* w) {
  if (panel.units > 1) {
    convolve_stretch<kMostVectors>(plan, panel, x, first, count, w);
  } else if (panel.count > kHalfVectors * Dot::kLanes) {
    convolve_stretch<kUnitVectors>(plan, panel, x, first, count, w);
  } else {
    convolve_stretch<kHalfVectors>(plan, panel, x, first, count, w);
  }
}

// So few pixels that taking nibbles apart once more for each tile costs less than writing them out.
constexpr i64 kFewPixels = 4;

static_assert(!kReadsNibbles || Dot::kLanes * Dot::kPack == kNibbleRun, "a vector takes a run");

// Whether that is done.
template <class W>
bool convolve_few(const Plan& plan, const Panel& panel, const Number* const* x, i64 first, i64 count,
                  const W* w) {
  if (!kReadsNibbles || count > kFewPixels) return false;
  if constexpr (kReadsNibbles) {
    const Target to{nullptr, 0, plan.c->out + (plan.first + first) * plan.c->out_channels + panel.channel};
    (panel.units > 1 ? sum_rest<kFewPixels, kMostVectors, W>
                     : sum_rest<kFewPixels, kUnitVectors, W>)(plan, panel, x, count, w, to);
  }
  return true;
}

void convolve_panel(const Plan& plan, const Panel& panel, const Number* const* x, i64 first, i64 count) {
  const bool nibbles = plan.c->weight_bits == 4;
  const i8* w = static_cast<const i8*>(plan.c->weights) +
                panel.row / kIntegerUnit * unit_bytes(*plan.c, plan.unit_weights);
  if (!nibbles && (!kWidens || count <= kPixels)) return convolve_with(plan, panel, x, first, count, w);
  if (nibbles && convolve_few(plan, panel, x, first, count, reinterpret_cast<const Nibbles*>(w))) return;
  const i64 weights = panel.units * plan.unit_weights;
  Weight* wide = scratch_array<Weight>(Scratch::panel, round_up(weights, kNibbleRun));
  (nibbles ? widen_nibbles : widen)(w, weights, wide);
  convolve_with(plan, panel, x, first, count, wide);
}

// ---- images

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
  const i64 panels = plan.c->groups * plan.group_panels, end = (part + 1) * panels / plan.parts;
  for (i64 at = part * panels / plan.parts; at < end; ++at) {
    convolve_panel(plan, panel_of(plan, at), x, first, count);
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
  plan.parts = smaller(c.groups * plan.group_panels, ceil_div(wanted, tasks));
  parallel_for(tasks * plan.parts, threads, convolve_task, &plan);
}

Plan planned(const IntegerConv& c) {
  Plan plan{};
  plan.c = &c;
  plan.runs = runs_of(c);
  plan.group_units = ceil_div(c.out_channels / c.groups, kIntegerUnit);
  plan.group_panels = ceil_div(plan.group_units, kTogether);
  plan.unit_weights = plan.runs.count * plan.runs.steps * kUnitWeights;
  return plan;
}

void convolve(const IntegerConv& c, int threads) {
  Plan plan = planned(c);
  plan.size = framed(c);
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

// ---- weights laid out

i64 product_bytes(const IntegerConv& c) {
  const Plan plan = planned(c);
  return c.groups * plan.group_units * unit_bytes(c, plan.unit_weights);
}

// Where product `at` of a run stands in the weight of an output.
i64 product_place(const IntegerConv& c, const Runs& runs, i64 run, i64 at) {
  const i64 depth = c.channels / c.groups, taps = c.kernel_h * c.kernel_w;
  const i64 tap = runs.rows ? run * c.kernel_w + at / depth : run;
  return at % depth * taps + tap;
}

// The weights of a panel, and the sum of each output's at `sums`.
void lay_out_panel(const Plan& plan, const Panel& panel, const i8* w, i8* out, u32* sums) {
  const IntegerConv& c = *plan.c;
  const i64 products = c.channels / c.groups * c.kernel_h * c.kernel_w, filled = plan.runs.steps * Dot::kPack;
  for (i64 at = 0; at < panel.units * kIntegerUnit; ++at) {
    const i64 in_panel = pairs_pixels(c) ? at % c.out_channels : at;
    sums[at] = 0;
    for (i64 i = 0; i < plan.runs.count * filled; ++i) {
      const i64 run = i / filled, in_run = i % filled;
      const bool is = in_panel < panel.count && in_run < plan.runs.length;
      const i8 value =
          is ? w[(panel.channel + in_panel) * products + product_place(c, plan.runs, run, in_run)] : i8{0};
      const i64 unit = i / Dot::kPack * panel.units + at / kIntegerUnit;
      out[unit * kUnitWeights + at % kIntegerUnit * Dot::kPack + i % Dot::kPack] = value;
      sums[at] += static_cast<u32>(i32{value});
    }
  }
}

void prepare_products(const IntegerConv& c, const i8* w, const i32* given, void* weights, i32* rows) {
  const Plan plan = planned(c);
  const u32 offset = static_cast<u32>(static_cast<i32>(c.zero) + Dot::centre(c.zero));
  for (i64 index = 0; index < c.groups * plan.group_panels; ++index) {
    const Panel panel = panel_of(plan, index);
    const i64 numbers = panel.units * plan.unit_weights;
    i8* to = static_cast<i8*>(weights) + panel.row / kIntegerUnit * unit_bytes(c, plan.unit_weights);
    i8* laid = c.weight_bits == 4 ? scratch_array<i8>(Scratch::panel, numbers) : to;
    u32 sums[kTogether * kIntegerUnit];
    lay_out_panel(plan, panel, w, laid, sums);
    if (c.weight_bits == 4) pack_nibbles(laid, numbers, to);
    for (i64 at = 0; at < panel.units * kIntegerUnit; ++at) {
      const i64 in_panel = pairs_pixels(c) ? at % c.out_channels : at;
      const i64 channel = in_panel < panel.count ? panel.channel + in_panel : -1;
      fill_rows(c, given, channel, offset * sums[at], rows + panel.row + at);
    }
  }
}

}  // namespace
