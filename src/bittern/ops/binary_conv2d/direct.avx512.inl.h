// SPDX-License-Identifier: Apache-2.0

// Binary convolution without a panel, where the channels of a group fill whole words, or there is one group:
// each word under a tap is read from the image itself, broadcast from memory. Included after kernel.inl.h.
//
// The image is padded, so that no tap needs a test. A padding of 0 is read as -1; what that adds is known
// beforehand for each output pixel, because it depends only on which rows and which columns of the kernel lie
// outside. There are few such pairs ("classes"); for each of them `starts` holds, per output channel, the
// number of products plus the sum of the weights outside, from which twice the differences are subtracted: in
// float32, where all of these are exact.
//
// Up to kTile pixels by 16 channels are counted in registers: 16 accumulators, two vectors of weights. A task
// takes some pixels through all channels, so that its pixels stay in the first-level cache and each vector of
// weights is read once per kTile pixels. A last unit that is not whole has weights of 0 bits in its surplus
// channels, and only its own channels are written.

namespace {

constexpr i64 kTile = 8;
constexpr i64 kDirectTask = 448;  // pixels: 8 rows of 56
constexpr i64 kCachedWeights = i64{24} << 10;
constexpr i64 kMostProducts = i64{1} << 22;  // twice as many, and a sum of weights, are exact in float32

// An output pixel and what it reads and writes.
struct DirectPixel {
  const u64* words;     // under the first tap
  const float* starts;  // [start_pitch]
  u8* bits;
  Place place;
};

struct DirectPlan;
using FinishTile = void (*)(const DirectPlan& d, const DirectPixel* pixels, i64 count, i64 channel,
                            const i32* differences);

struct DirectPlan {
  Plan plan;            // of the padded image
  i64* offsets;         // from the words of a pixel's first tap to those of its steps
  i64 steps;            // taps times words of a group
  const float* starts;  // [row classes, column classes, start_pitch]
  i64 start_pitch;      // output channels in whole units
  const u8 *row_class, *column_class;
  i64 column_classes, pixels_per_task;
  Tail tail;
  FinishTile finish_tile;
};

bool suits_direct(const Conv2d& c) {
  const i64 group_channels = c.channels / c.groups, group_out = c.out_channels / c.groups;
  const bool words = c.groups == 1 || group_channels % kWordBits == 0;
  const bool units = c.groups == 1 || group_out % kBlock == 0;
  const bool masks = c.kernel_h <= kWordBits && c.kernel_w <= kWordBits;
  const bool exact = c.kernel_h * c.kernel_w * group_channels <= kMostProducts;
  const bool factors = c.tail != nullptr && c.tail->factor != nullptr;
  return words && units && masks && exact && !factors;
}

// ---- the padded image

struct PadJob {
  const Plan* from;
  u64* out;
  i64 row_words, image_words, pad_h, pad_w;
};

void fill_pixels(const Plan& plan, u64* out, i64 pixels) {
  const i64 words = plan.pixel_words, used = plan.conv.channels % kWordBits;
  const u64 full = plan.conv.pad_value > 0 ? ~u64{0} : 0,
            last = used == 0 ? full : full & ((u64{1} << used) - 1);
  for (i64 i = 0; i < pixels * words; ++i) out[i] = (i + 1) % words == 0 ? last : full;
}

void pad_row(void* context, i64 index) {
  const auto& job = *static_cast<const PadJob*>(context);
  const Conv2d& c = job.from->conv;
  const i64 rows = c.height + 2 * job.pad_h, image = index / rows, y = index % rows - job.pad_h;
  const i64 words = job.from->pixel_words;
  u64* out = job.out + image * job.image_words + (index % rows) * job.row_words;
  if (y < 0 || y >= c.height) return fill_pixels(*job.from, out, c.width + 2 * job.pad_w);
  fill_pixels(*job.from, out, job.pad_w);
  std::memcpy(out + job.pad_w * words,
              job.from->input + image * job.from->image_words + y * job.from->row_words,
              static_cast<size_t>(c.width * words) * sizeof(u64));
  fill_pixels(*job.from, out + (job.pad_w + c.width) * words, job.pad_w);
}

// Makes plan.input point to pixel (0, 0) of an image whose padding can be read.
void plan_padded_input(Plan& plan, int threads) {
  const Conv2d& c = plan.conv;
  if (c.input_border >= larger(c.pad_h, c.pad_w)) return;
  const i64 row = (c.width + 2 * c.pad_w) * plan.pixel_words, rows = c.height + 2 * c.pad_h;
  u64* memory = scratch_array<u64>(Scratch::padded_input, c.batch * rows * row);
  PadJob job{&plan, memory, row, rows * row, c.pad_h, c.pad_w};
  // rows of a small image are not worth a thread
  constexpr i64 kWorthThreads = i64{1} << 14;
  parallel_for(c.batch * rows, rows * row > kWorthThreads ? threads : 1, pad_row, &job);
  plan.input = memory + c.pad_h * row + c.pad_w * plan.pixel_words;
  plan.row_words = row;
  plan.image_words = rows * row;
}

// ---- classes of border pixels

// Bit k: tap k of an output position lies outside.
u64 outside(i64 position, i64 size, i64 kernel, i64 stride, i64 pad, i64 dilation) {
  u64 mask = 0;
  for (i64 k = 0; k < kernel; ++k) {
    const i64 at = position * stride - pad + k * dilation;
    mask |= static_cast<u64>(at < 0 || at >= size) << k;
  }
  return mask;
}

// Numbers the different masks of a dimension; returns how many there are, at most 255 (else 0).
i64 classify(i64 count, i64 size, i64 kernel, i64 stride, i64 pad, i64 dilation, u64* masks, u8* classes) {
  i64 found = 0;
  for (i64 i = 0; i < count; ++i) {
    const u64 mask = outside(i, size, kernel, stride, pad, dilation);
    i64 k = found == 0 ? 0 : classes[i - 1];  // most often that of the neighbour
    if (found == 0 || masks[k] != mask) {
      for (k = 0; k < found && masks[k] != mask; ++k) continue;
    }
    if (k == found && ++found == 256) return 0;
    masks[k] = mask;
    classes[i] = static_cast<u8>(k);
  }
  return found;
}

void sum_missing(const Plan& plan, u64 rows, u64 columns, float* starts) {
  const Conv2d& c = plan.conv;
  const float products = static_cast<float>(plan.depth.taps * plan.depth.channels);
  for (i64 o = 0; o < c.out_channels; ++o) starts[o] = products;
  if (c.pad_value != 0) return;
  for (i64 tap = 0; tap < plan.depth.taps; ++tap) {
    if (((rows >> (tap / c.kernel_w) | columns >> (tap % c.kernel_w)) & 1) == 0) continue;
    const i32* sums = plan.tap_sums + tap * c.out_channels;
    for (i64 o = 0; o < c.out_channels; ++o) starts[o] += static_cast<float>(sums[o]);
  }
}

bool plan_classes(DirectPlan& d) {
  const Plan& plan = d.plan;
  const Conv2d& c = plan.conv;
  u8* memory = scratch_array<u8>(Scratch::border_classes, plan.out_h + plan.out_w);
  u64 row_masks[256], column_masks[256];
  const i64 rows =
      classify(plan.out_h, c.height, c.kernel_h, c.stride_h, c.pad_h, c.dilation_h, row_masks, memory);
  const i64 columns = classify(plan.out_w, c.width, c.kernel_w, c.stride_w, c.pad_w, c.dilation_w,
                               column_masks, memory + plan.out_h);
  if (rows == 0 || columns == 0) return false;
  d.start_pitch = round_up(c.out_channels, kTailUnit);
  float* starts = scratch_array<float>(Scratch::border_sums, rows * columns * d.start_pitch);
  for (i64 r = 0; r < rows; ++r) {
    for (i64 k = 0; k < columns; ++k) {
      sum_missing(plan, row_masks[r], column_masks[k], starts + (r * columns + k) * d.start_pitch);
    }
  }
  d.row_class = memory;
  d.column_class = memory + plan.out_h;
  d.column_classes = columns;
  d.starts = starts;
  return true;
}

// ---- counting

// Differences of `pixels` pixels and 16 channels.
template <int pixels>
void count_direct(const DirectPixel* x, const i64* offsets, i64 steps, const u64* weights, i32* differences) {
  const u64* p[pixels];
  Words low[pixels], high[pixels];
  const Words first_low = load_words(weights), first_high = load_words(weights + kWords);
  BITTERN_UNROLL
  for (int i = 0; i < pixels; ++i) {
    p[i] = x[i].words;
    const Words word = splat_word(p[i][offsets[0]]);
    low[i] = count_differences(word, first_low);
    high[i] = count_differences(word, first_high);
  }
  for (i64 s = 1; s < steps; ++s) {
    const i64 at = offsets[s];
    const Words w_low = load_words(weights + s * kVector),
                w_high = load_words(weights + s * kVector + kWords);
    BITTERN_UNROLL
    for (int i = 0; i < pixels; ++i) {
      const Words word = splat_word(p[i][at]);
      low[i] = add(low[i], count_differences(word, w_low));
      high[i] = add(high[i], count_differences(word, w_high));
    }
  }
  BITTERN_UNROLL
  for (int i = 0; i < pixels; ++i) store(differences + i * kVector, join_low(low[i], high[i]));
}

void count_direct_any(i64 pixels, const DirectPixel* x, const i64* offsets, i64 steps, const u64* weights,
                      i32* differences) {
  switch (pixels) {
    case 8:
      return count_direct<8>(x, offsets, steps, weights, differences);
    case 7:
      return count_direct<7>(x, offsets, steps, weights, differences);
    case 6:
      return count_direct<6>(x, offsets, steps, weights, differences);
    case 5:
      return count_direct<5>(x, offsets, steps, weights, differences);
    case 4:
      return count_direct<4>(x, offsets, steps, weights, differences);
    case 3:
      return count_direct<3>(x, offsets, steps, weights, differences);
    case 2:
      return count_direct<2>(x, offsets, steps, weights, differences);
    default:
      return count_direct<1>(x, offsets, steps, weights, differences);
  }
}

// ---- tasks

void find_pixels(const DirectPlan& d, i64 first, i64 count, DirectPixel* pixels) {
  const Plan& plan = d.plan;
  const Conv2d& c = plan.conv;
  i64 x = first % plan.out_w, y = first / plan.out_w % plan.out_h, image = first / plan.out_w / plan.out_h;
  const i64 step = c.stride_w * plan.pixel_words;
  for (i64 i = 0; i < count;) {
    const u64* row = plan.input + image * plan.image_words + (y * c.stride_h - c.pad_h) * plan.row_words -
                     c.pad_w * plan.pixel_words;
    const float* starts = d.starts + d.row_class[y] * d.column_classes * d.start_pitch;
    for (; x < plan.out_w && i < count; ++x, ++i) {
      const Place place{first + i, image, y, x};
      u8* bits = d.tail.bits == nullptr ? nullptr : bits_of(d.tail, place, c.out_channels);
      pixels[i] = {row + x * step, starts + d.column_class[x] * d.start_pitch, bits, place};
    }
    x = 0;
    if (++y == plan.out_h) y = 0, ++image;
  }
}

inline F32 accumulator(const DirectPixel& pixel, i64 channel, const i32* differences) {
  return subtract_product(load(pixel.starts + channel), splat(2.0f), to_float(load(differences)));
}

// Writes the lanes of a unit that are channels.
template <class Number, class Vector>
inline void store_channels(Number* out, Vector lanes, i64 count) {
  if (count == kTailUnit) return store(out, lanes);
  Number buffer[kTailUnit];
  store(buffer, lanes);
  std::memcpy(out, buffer, static_cast<size_t>(count) * sizeof(Number));
}

void finish_tile_ints(const DirectPlan& d, const DirectPixel* pixels, i64 count, i64 channel,
                      const i32* differences) {
  const Conv2d& c = d.plan.conv;
  const i64 channels = smaller(kTailUnit, c.out_channels - channel);
  for (i64 i = 0; i < count; ++i) {
    i32* out = static_cast<i32*>(c.output) + pixels[i].place.index * c.out_channels + channel;
    const F32 acc = accumulator(pixels[i], channel, differences + i * kVector);
    store_channels(out, I32{_mm512_cvtps_epi32(acc)}, channels);
  }
}

// Where the residual of a tile comes from. Each is a function of its own, which keeps its numbers in
// registers.
struct NoResidual {
  F32 operator()(const Place&) const { return F32{}; }
};

// It lies as the outputs do.
struct PlainResidual {
  const float* from;
  i64 pitch;
  F32 operator()(const Place& p) const { return load(from + p.index * pitch); }
};

// The mean of four pixels, all of which there are.
struct QuadResidual {
  const float* from;
  i64 height, width, pitch;
  F32 operator()(const Place& p) const {
    const float* at = from + ((p.image * height + 2 * p.y) * width + 2 * p.x) * pitch;
    const float* below = at + width * pitch;
    const F32 sum = add(add(add(load(at), load(at + pitch)), load(below)), load(below + pitch));
    return multiply(sum, splat(0.25f));  // as dividing by 4: exact but for subnormals, which both round alike
  }
};

struct AnyResidual {
  const Tail& tail;
  i64 channel, count;
  F32 operator()(const Place& p) const {
    float buffer[kTailUnit];
    return load(residual_unit(tail, p, {channel, count, {}}, buffer));
  }
};

template <Activation kActivation, Residual kResidual, class Source>
__attribute__((noinline)) void finish_pixels(const DirectPlan& d, const DirectPixel* pixels, i64 count,
                                             i64 channel, const i32* differences, Source given_source) {
  const Source source = given_source;  // a copy, which no store can change
  const Tail& t = d.tail;
  const TailVectors v = load_tail(t.rows + channel, t.pitch);
  const i64 pitch = d.plan.conv.out_channels, channels = smaller(kTailUnit, pitch - channel);
  const u32 existing = (u32{1} << channels) - 1;
  const bool mapped = t.residual_affine != 0, wants_bits = t.bits != nullptr;
  float* real = t.real == nullptr ? nullptr : t.real + pixels->place.index * pitch + channel;
  for (i64 i = 0; i < count; ++i) {
    const F32 acc = accumulator(pixels[i], channel, differences + i * kVector);
    const F32 y = with_tail<kActivation, kResidual>(acc, source(pixels[i].place), mapped, v,
                                                    input_scale_at(t, pixels[i].place));
    if (real != nullptr) store_channels(real + i * pitch, y, channels);
    if (wants_bits) {
      const u16 bits = static_cast<u16>(at_least(y, v.threshold) & existing);
      std::memcpy(pixels[i].bits + channel / 8, &bits, sizeof bits);
    }
  }
}

template <Activation kActivation, Residual kResidual>
void finish_tile(const DirectPlan& d, const DirectPixel* pixels, i64 count, i64 channel,
                 const i32* differences) {
  const Tail& t = d.tail;
  const auto finish = [&](auto source) {
    finish_pixels<kActivation, kResidual>(d, pixels, count, channel, differences, source);
  };
  if constexpr (kResidual == Residual::none) {
    finish(NoResidual{});
  } else {
    const i64 source = residual_channel(t, channel), width = t.residual_width, height = t.residual_height;
    const i64 count_in_unit = smaller(kTailUnit, d.plan.conv.out_channels - channel);
    const bool vectors = source >= 0 && source + kTailUnit <= t.residual_channels;
    if (vectors && t.residual_pool == 1)
      return finish(PlainResidual{t.residual + source, t.residual_channels});
    const bool quads = t.residual_pool == 2 && width % 2 == 0 && height % 2 == 0;
    if (vectors && quads)
      return finish(QuadResidual{t.residual + source, height, width, t.residual_channels});
    finish(AnyResidual{t, channel, count_in_unit});
  }
}

template <Activation kActivation, Residual kResidual>
struct TileFinisher {
  static constexpr FinishTile kFunction = finish_tile<kActivation, kResidual>;
};

void direct_task(void* context, i64 index) {
  const auto& d = *static_cast<const DirectPlan*>(context);
  const Plan& plan = d.plan;
  const i64 first = index * d.pixels_per_task, count = smaller(d.pixels_per_task, plan.pixels - first);
  DirectPixel* pixels = scratch_array<DirectPixel>(Scratch::pixels, count);
  find_pixels(d, first, count, pixels);
  const i64 tiles = ceil_div(count, kTile);  // of nearly equal size
  alignas(64) i32 differences[kTile * kVector];
  const auto count_and_finish = [&](i64 group, i64 block, i64 tile) {
    const u8* weights = plan.weights + group * group_bytes(plan.depth, plan.group_out);
    const u64* lanes = reinterpret_cast<const u64*>(weights + block_offset(plan.depth, block));
    const i64 channel = group * plan.group_out + block * kBlock;
    const i64 begin = tile * count / tiles, size = (tile + 1) * count / tiles - begin;
    count_direct_any(size, pixels + begin, d.offsets + group * d.steps, d.steps, lanes, differences);
    d.finish_tile(d, pixels + begin, size, channel, differences);
  };
  for (i64 group = 0; group < plan.conv.groups; ++group) {
    if (group_bytes(plan.depth, plan.group_out) <= kCachedWeights) {
      for (i64 t = 0; t < tiles; ++t)
        for (i64 block = 0; block < plan.blocks; ++block) count_and_finish(group, block, t);
    } else {
      for (i64 block = 0; block < plan.blocks; ++block)
        for (i64 t = 0; t < tiles; ++t) count_and_finish(group, block, t);
    }
  }
}

void plan_steps(DirectPlan& d) {
  const Plan& plan = d.plan;
  const i64 words = plan.depth.words;
  d.steps = plan.depth.taps * words;
  d.offsets = scratch_array<i64>(Scratch::run_offsets, plan.conv.groups * d.steps);
  for (i64 group = 0; group < plan.conv.groups; ++group) {
    for (i64 s = 0; s < d.steps; ++s) {
      d.offsets[group * d.steps + s] = plan.taps.offsets[s / words] + group * words + s % words;
    }
  }
}

void plan_finish(DirectPlan& d) {
  const Conv2d& c = d.plan.conv;
  d.finish_tile = finish_tile_ints;
  if (c.tail == nullptr && c.epilogue == nullptr) return;
  d.tail = tail_of(c);
  d.finish_tile = finisher_of<TileFinisher>(d.tail);
}

// Tasks of equal size, as many for each thread; two where they are not too small, because a thread may be
// held up.
i64 direct_tasks(i64 pixels, int threads) {
  constexpr i64 kWorthTwo = 96;  // pixels
  const i64 least = ceil_div(pixels, kDirectTask);
  if (threads == 1) return least;
  const i64 each = pixels >= 2 * threads * kWorthTwo ? 2 * threads : threads;
  return round_up(least, each);
}

// False where the panel must do it.
bool conv2d_direct(const Conv2d& conv, int threads) {
  if (!suits_direct(conv)) return false;
  DirectPlan d{};
  Plan& plan = d.plan;
  if (!plan_conv(plan, conv)) return true;
  if (!plan_classes(d)) return false;
  plan_input(plan, threads);
  plan_padded_input(plan, threads);
  plan_runs(plan);
  plan_steps(d);
  plan_finish(d);
  d.pixels_per_task = ceil_div(plan.pixels, direct_tasks(plan.pixels, threads));
  parallel_for(ceil_div(plan.pixels, d.pixels_per_task), threads, direct_task, &d);
  return true;
}

void conv2d_direct_or_panel(const Conv2d& conv, int threads) {
  if (!conv2d_direct(conv, threads)) conv2d(conv, threads);
}

}  // namespace
