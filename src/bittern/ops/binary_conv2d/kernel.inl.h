// SPDX-License-Identifier: Apache-2.0

// Binary convolution, the part that all instruction sets share: which pixels meet which weights, borders,
// groups, threads, and what becomes of the counts. Included inside the namespace of one instruction set.
//
// With signs stored as bits, sum(x * w) = bits - 2 * (number of positions where x and w differ). Output
// pixels are taken in tiles. For each tile the input words under every tap are gathered into a panel, one row
// per group of kGroup pixels, in the order of the weights; what remains is a matrix product of panel and
// weights that counts differences. A gathered panel makes stride, dilation, padding and 1x1 (matrix
// multiplication) the same case; it costs a copy of the reduction per pixel, to be compared with out_channels
// times as much counting.
//
// A tap outside the image reads a row of constant bits. For pad_value = 0 those bits are -1, which added -w
// for every weight of the tap: adding back the sum of the tap's weights leaves exactly zero.
//
// The instruction set brings, before this file is included:
//   kVector, kBlock         output channels per vector of weights, and per call of count_differences
//   kGroup                  pixels per panel row
//   PanelUnit, panel_units  element type and length of a panel row
//   vector_bytes, prepare_block, gather, Counts, count_bytes, make_counts, load_counts, count_at,
//   count_differences

#include "tail.inl.h"

namespace {

// Where one output pixel looks.
struct Pixel {
  const u64* image;
  i64 top, left;  // of its first tap, may be outside
  bool inside;    // all taps are in the image
  Place place;
};

// How to read what lies under a pixel: `count` runs of `words` words, at `offsets` words from its first tap.
struct Runs {
  i64 count, words;
  i64* offsets;
};

struct Plan {
  Conv2d conv;
  Depth depth;
  const u64* input;  // pixel (0, 0) of the first image
  i64 pixel_words, row_words, image_words;
  Runs taps;    // one run per tap
  Runs merged;  // the same words in the same order, in fewer runs where taps are neighbours in memory
  i64 out_h, out_w, pixels;
  i64 group_out, blocks;  // output channels of a group, and blocks that they fill
  i64 tile_pixels, tiles, blocks_per_task, channel_tasks;
  const i32* tap_sums;  // [taps, out_channels]: sum of the weights of a tap
  const u8* weights;    // [groups][vectors][vector_bytes]
  const u64* pad_row;
};

Depth depth_of(i64 taps, i64 channels, i64 groups) {
  const i64 group_channels = channels / groups;
  return {taps, group_channels, ceil_div(group_channels, kWordBits)};
}

// ---- weights: tap sums, then the blocks of every group

i64 tap_sum_bytes(i64 taps, i64 out_channels) {
  constexpr i64 kCacheLine = 64;
  return round_up(taps * out_channels * static_cast<i64>(sizeof(i32)), kCacheLine);
}

i64 group_bytes(const Depth& depth, i64 group_out) {
  return ceil_div(group_out, kVector) * vector_bytes(depth);
}

i64 block_offset(const Depth& depth, i64 block) {
  return block * (kBlock / kVector) * vector_bytes(depth);
}

i64 prepared_bytes(const WeightShape& s) {
  const Depth depth = depth_of(s.taps, s.channels, s.groups);
  return tap_sum_bytes(s.taps, s.out_channels) + s.groups * group_bytes(depth, s.out_channels / s.groups);
}

i32 sum_of_signs(const u64* words, const Depth& depth) {
  i64 plus = 0;
  for (i64 i = 0; i < depth.words; ++i) plus += __builtin_popcountll(words[i]);
  return static_cast<i32>(2 * plus - depth.channels);
}

void prepare_weights(const WeightShape& s, const u64* canonical, u8* prepared) {
  const Depth depth = depth_of(s.taps, s.channels, s.groups);
  const i64 row = depth.taps * depth.words, group_out = s.out_channels / s.groups;
  i32* sums = reinterpret_cast<i32*>(prepared);
  for (i64 tap = 0; tap < s.taps; ++tap) {
    for (i64 o = 0; o < s.out_channels; ++o) {
      sums[tap * s.out_channels + o] = sum_of_signs(canonical + o * row + tap * depth.words, depth);
    }
  }
  u8* blocks = prepared + tap_sum_bytes(s.taps, s.out_channels);
  for (i64 group = 0; group < s.groups; ++group) {
    u8* out = blocks + group * group_bytes(depth, group_out);
    for (i64 first = 0, block = 0; first < group_out; first += kBlock, ++block) {
      const u64* rows = canonical + (group * group_out + first) * row;
      prepare_block(rows, smaller(kBlock, group_out - first), depth, out + block_offset(depth, block));
    }
  }
}

// ---- input: groups that do not start at a word boundary are moved to one

struct AlignJob {
  const Plan* plan;
  u64* out;
};

// Bits [first, first + count) of `words`, from bit 0 of `out`.
void extract_bits(const u64* words, i64 first, i64 count, u64* out) {
  for (i64 done = 0; done < count; done += kWordBits) {
    const i64 bit = first + done, word = bit / kWordBits, shift = bit % kWordBits, left = count - done;
    u64 value = words[word] >> shift;
    const bool straddles = shift != 0 && left > kWordBits - shift;
    if (straddles) value |= words[word + 1] << (kWordBits - shift);
    if (left < kWordBits) value &= (u64{1} << left) - 1;
    out[done / kWordBits] = value;
  }
}

void align_row(void* context, i64 row) {
  const auto& job = *static_cast<const AlignJob*>(context);
  const Plan& plan = *job.plan;
  const Conv2d& conv = plan.conv;
  const i64 words = plan.depth.words, channels = plan.depth.channels;
  const u64* source = conv.input + row / conv.height * plan.image_words + row % conv.height * plan.row_words;
  u64* out = job.out + row * conv.width * conv.groups * words;
  for (i64 x = 0; x < conv.width; ++x) {
    for (i64 g = 0; g < conv.groups; ++g) {
      extract_bits(source + x * plan.pixel_words, g * channels, channels,
                   out + (x * conv.groups + g) * words);
    }
  }
}

void plan_input(Plan& plan, int threads) {
  const Conv2d& conv = plan.conv;
  plan.input = conv.input;
  plan.pixel_words = ceil_div(conv.channels, kWordBits);
  plan.row_words = conv.input_row != 0 ? conv.input_row : conv.width * plan.pixel_words;
  plan.image_words = conv.input_image != 0 ? conv.input_image : conv.height * plan.row_words;
  if (conv.groups == 1 || plan.depth.channels % kWordBits == 0) return;
  const i64 rows = conv.batch * conv.height, aligned_words = conv.groups * plan.depth.words;
  AlignJob job{&plan, scratch_array<u64>(Scratch::aligned_input, rows * conv.width * aligned_words)};
  parallel_for(rows, threads, align_row, &job);
  plan.input = job.out;
  plan.pixel_words = aligned_words;
  plan.row_words = conv.width * aligned_words;
  plan.image_words = conv.height * plan.row_words;
}

void plan_runs(Plan& plan) {
  const Conv2d& c = plan.conv;
  const i64 taps = plan.depth.taps, words = plan.depth.words;
  plan.taps = {taps, words, scratch_array<i64>(Scratch::tap_offsets, taps)};
  for (i64 tap = 0; tap < taps; ++tap) {
    const i64 y = tap / c.kernel_w * c.dilation_h, x = tap % c.kernel_w * c.dilation_w;
    plan.taps.offsets[tap] = y * plan.row_words + x * plan.pixel_words;
  }
  plan.merged = plan.taps;
  const bool neighbours = c.dilation_w == 1 && c.groups == 1 && plan.depth.channels % kWordBits == 0;
  if (!neighbours || c.kernel_w == 1) return;
  i64* offsets = scratch_array<i64>(Scratch::run_offsets, c.kernel_h);
  plan.merged = {c.kernel_h, c.kernel_w * words, offsets};
  for (i64 ky = 0; ky < c.kernel_h; ++ky) offsets[ky] = plan.taps.offsets[ky * c.kernel_w];
}

void plan_padding(Plan& plan) {
  const i64 words = plan.depth.words;
  u64* row = scratch_array<u64>(Scratch::pad_row, words);
  for (i64 i = 0; i < words; ++i) row[i] = plan.conv.pad_value > 0 ? ~u64{0} : 0;
  const i64 used = plan.depth.channels % kWordBits;
  if (used != 0) row[words - 1] &= (u64{1} << used) - 1;
  plan.pad_row = row;
}

// ---- tiles

// Enough tasks for every thread to find work, in tiles as large as the second-level cache allows: each tile
// reads all weights once.
void plan_tasks(Plan& plan, int threads) {
  constexpr i64 kPanelBudget = i64{96} << 10, kLargestTile = 128, kSmallestTile = 32, kTasksPerThread = 3;
  const i64 row_bytes = panel_units(plan.depth) * static_cast<i64>(sizeof(PanelUnit));
  i64 tile = smaller(kPanelBudget / larger(row_bytes, 1) * kGroup, kLargestTile);
  const i64 wanted = threads > 1 ? threads * kTasksPerThread : 1;
  tile = larger(smaller(tile, ceil_div(plan.pixels * plan.conv.groups, wanted)), kSmallestTile);
  plan.tiles = ceil_div(plan.pixels, tile);
  plan.tile_pixels = round_up(ceil_div(plan.pixels, plan.tiles), kGroup);
  plan.tiles = ceil_div(plan.pixels, plan.tile_pixels);
  const i64 splits = smaller(plan.blocks, ceil_div(wanted, plan.tiles * plan.conv.groups));
  plan.blocks_per_task = ceil_div(plan.blocks, splits);
  plan.channel_tasks = ceil_div(plan.blocks, plan.blocks_per_task);
}

void locate_pixels(const Plan& plan, i64 first, i64 count, Pixel* pixels) {
  const Conv2d& c = plan.conv;
  i64 x = first % plan.out_w, y = first / plan.out_w % plan.out_h, image = first / plan.out_w / plan.out_h;
  const i64 last_top = c.height - 1 - (c.kernel_h - 1) * c.dilation_h;
  const i64 last_left = c.width - 1 - (c.kernel_w - 1) * c.dilation_w;
  for (i64 i = 0; i < count; ++i) {
    const i64 top = y * c.stride_h - c.pad_h, left = x * c.stride_w - c.pad_w;
    const bool inside = top >= 0 && left >= 0 && top <= last_top && left <= last_left;
    pixels[i] = {plan.input + image * plan.image_words, top, left, inside, {first + i, image, y, x}};
    if (++x < plan.out_w) continue;
    x = 0;
    if (++y < plan.out_h) continue;
    y = 0;
    ++image;
  }
}

// Calls visit(tap, words of the pixel under that tap, or null outside the image).
template <class Visit>
inline void for_each_tap(const Plan& plan, const Pixel& pixel, Visit visit) {
  const Conv2d& c = plan.conv;
  i64 tap = 0;
  for (i64 ky = 0; ky < c.kernel_h; ++ky) {
    const i64 y = pixel.top + ky * c.dilation_h;
    const bool row_inside = y >= 0 && y < c.height;
    for (i64 kx = 0; kx < c.kernel_w; ++kx, ++tap) {
      const i64 x = pixel.left + kx * c.dilation_w;
      const bool inside = row_inside && x >= 0 && x < c.width;
      visit(tap, inside ? pixel.image + y * plan.row_words + x * plan.pixel_words : nullptr);
    }
  }
}

// Writes the panel row of kGroup pixels. Where all of them lie inside the image, addresses are sums.
void gather_group(const Plan& plan, i64 first_word, const Pixel* const* pixels, const u64** rows,
                  PanelUnit* out) {
  bool inside = true;
  for (i64 i = 0; i < kGroup; ++i) inside &= pixels[i]->inside;
  const Runs& runs = inside ? plan.merged : plan.taps;
  for (i64 i = 0; i < kGroup; ++i) {
    const Pixel& pixel = *pixels[i];
    const u64** row = rows + i * runs.count;
    if (pixel.inside) {
      const u64* origin =
          pixel.image + pixel.top * plan.row_words + pixel.left * plan.pixel_words + first_word;
      for (i64 run = 0; run < runs.count; ++run) row[run] = origin + runs.offsets[run];
    } else {
      for_each_tap(plan, pixel, [&](i64 tap, const u64* words) {
        row[tap] = words != nullptr ? words + first_word : plan.pad_row;
      });
    }
  }
  gather(rows, runs.count, runs.words, plan.depth, out);
}

void gather_tile(const Plan& plan, i64 group, const Pixel* pixels, i64 count, PanelUnit* panel) {
  const i64 units = panel_units(plan.depth), pointers = kGroup * plan.depth.taps;
  const u64** rows = scratch_array<const u64*>(Scratch::tap_rows, pointers);
  for (i64 first = 0; first < count; first += kGroup) {
    const Pixel* members[kGroup];
    // The last group repeats the last pixel; nothing reads what it counts there.
    for (i64 i = 0; i < kGroup; ++i) members[i] = pixels + smaller(first + i, count - 1);
    gather_group(plan, group * plan.depth.words, members, rows, panel);
    panel += units;
  }
}

// ---- from counts to outputs

#include "finish.inl.h"

// What pad_value = 0 adds back at a border pixel. sums: the block's part of plan.tap_sums.
void border_correction(const Plan& plan, const i32* sums, i64 channels, const Pixel& pixel, i32* correction) {
  for (i64 c = 0; c < channels; ++c) correction[c] = 0;
  for_each_tap(plan, pixel, [&](i64 tap, const u64* words) {
    if (words != nullptr) return;
    const i32* missing = sums + tap * plan.conv.out_channels;
    for (i64 c = 0; c < channels; ++c) correction[c] += missing[c];
  });
}

// counts: [count][count_pitch]; the block starts at `channel` of all output channels.
void finish_block(const Plan& plan, i64 channel, i64 channels, const Counts& counts, i64 count_pitch,
                  const Pixel* pixels, i64 count) {
  const Conv2d& conv = plan.conv;
  const Finish f{channels,
                 conv.out_channels,
                 static_cast<i32>(plan.depth.taps * plan.depth.channels),
                 conv.epilogue == nullptr ? nullptr : conv.epilogue + channel,
                 static_cast<i32*>(conv.output) + channel,
                 static_cast<float*>(conv.output) + channel,
                 conv.tail,
                 conv.tail == nullptr ? nullptr : finisher_of<UnitFinisher>(*conv.tail),
                 channel};
  i32 correction[kBlock] = {};
  for (i64 i = 0; i < count; ++i) {
    if (conv.pad_value != 0 || pixels[i].inside) {
      finish_pixel<false>(f, counts, i * count_pitch, pixels[i].place, nullptr);
    } else {
      border_correction(plan, plan.tap_sums + channel, channels, pixels[i], correction);
      finish_pixel<true>(f, counts, i * count_pitch, pixels[i].place, correction);
    }
  }
}

// ---- one task: a tile of pixels of one group, and a range of its blocks of output channels

void conv_task(void* context, i64 index) {
  const auto& plan = *static_cast<const Plan*>(context);
  const i64 split = index % plan.channel_tasks, tile = index / plan.channel_tasks % plan.tiles;
  const i64 group = index / plan.channel_tasks / plan.tiles;
  const i64 first = tile * plan.tile_pixels, count = smaller(plan.tile_pixels, plan.pixels - first);
  const i64 rows = ceil_div(count, kGroup), units = panel_units(plan.depth);

  Pixel* pixels = scratch_array<Pixel>(Scratch::pixels, count);
  PanelUnit* panel = scratch_array<PanelUnit>(Scratch::panel, rows * units);
  const i64 total = rows * kGroup * kBlock;
  void* memory = scratch(Scratch::counts, total * count_bytes(plan.depth));
  const Counts counts = make_counts(memory, total, plan.depth);
  locate_pixels(plan, first, count, pixels);
  gather_tile(plan, group, pixels, count, panel);

  const u8* weights = plan.weights + group * group_bytes(plan.depth, plan.group_out);
  const i64 end = smaller(plan.blocks, (split + 1) * plan.blocks_per_task);
  for (i64 block = split * plan.blocks_per_task; block < end; ++block) {
    const i64 channels = smaller(kBlock, plan.group_out - block * kBlock);
    const i64 pitch = round_up(channels, kVector);
    count_differences(panel, rows, weights + block_offset(plan.depth, block), pitch, plan.depth, counts);
    const i64 channel = group * plan.group_out + block * kBlock;
    finish_block(plan, channel, channels, counts, pitch, pixels, count);
  }
}

// What follows from the shapes alone. False: there is nothing to compute.
bool plan_conv(Plan& plan, const Conv2d& conv) {
  const i64 taps = conv.kernel_h * conv.kernel_w;
  plan.conv = conv;
  plan.depth = depth_of(taps, conv.channels, conv.groups);
  plan.out_h = out_extent(conv.height, conv.kernel_h, conv.stride_h, conv.pad_h, conv.dilation_h);
  plan.out_w = out_extent(conv.width, conv.kernel_w, conv.stride_w, conv.pad_w, conv.dilation_w);
  plan.pixels = conv.batch * plan.out_h * plan.out_w;
  plan.group_out = conv.out_channels / conv.groups;
  plan.blocks = ceil_div(plan.group_out, kBlock);
  plan.tap_sums = reinterpret_cast<const i32*>(conv.weights);
  plan.weights = conv.weights + tap_sum_bytes(taps, conv.out_channels);
  return plan.pixels != 0 && plan.blocks != 0;
}

void conv2d_panel(const Conv2d& conv, int threads) {
  Plan plan{};
  if (!plan_conv(plan, conv)) return;
  plan_padding(plan);
  plan_input(plan, threads);
  plan_runs(plan);
  plan_tasks(plan, threads);
  parallel_for(plan.conv.groups * plan.tiles * plan.channel_tasks, threads, conv_task, &plan);
}

// ---- sums that come from several convolutions

void finish_row(void* context, i64 row) {
  const auto& a = *static_cast<const Accumulators*>(context);
  const FinishUnit finish = finisher_of<UnitFinisher>(*a.tail);
  for (i64 x = 0; x < a.width; ++x) {
    const Place place{row * a.width + x, row / a.height, row % a.height, x};
    const i32* values = a.values + place.index * a.out_channels;
    for (i64 c = 0; c < a.out_channels; c += kTailUnit) {
      Unit unit;
      unit.channel = c;
      unit.count = smaller(kTailUnit, a.out_channels - c);
      i32 padded[kTailUnit] = {};
      const bool whole = unit.count == kTailUnit;
      if (!whole) std::memcpy(padded, values + c, static_cast<std::size_t>(unit.count) * sizeof(i32));
      const i32* from = whole ? values + c : padded;
      for (int j = 0; j < kUnitVectors; ++j) unit.acc[j] = load(from + j * kLanes);
      finish(*a.tail, a.out_channels, place, unit);
    }
  }
}

void finish_accumulators(const Accumulators& accumulators, int threads) {
  Accumulators job = accumulators;
  parallel_for(job.batch * job.height, threads, finish_row, &job);
}

// Groups whose bits do not start at whole bytes: tasks would write to the same byte. So the sums come first.
void conv2d_by_sums(const Conv2d& conv, int threads) {
  Accumulators sums{conv.batch,
                    out_extent(conv.height, conv.kernel_h, conv.stride_h, conv.pad_h, conv.dilation_h),
                    out_extent(conv.width, conv.kernel_w, conv.stride_w, conv.pad_w, conv.dilation_w),
                    conv.out_channels,
                    nullptr,
                    conv.tail};
  Conv2d whole = conv;
  i32* values =
      scratch_array<i32>(Scratch::group_sums, sums.batch * sums.height * sums.width * sums.out_channels);
  whole.tail = nullptr;
  whole.epilogue = nullptr;
  whole.output = values;
  conv2d_panel(whole, threads);
  sums.values = values;
  finish_accumulators(sums, threads);
}

void conv2d(const Conv2d& conv, int threads) {
  constexpr i64 kByteBits = 8;
  const bool bytes = conv.groups == 1 || conv.out_channels / conv.groups % kByteBits == 0;
  if (conv.tail == nullptr || bytes) return conv2d_panel(conv, threads);
  conv2d_by_sums(conv, threads);
}

}  // namespace
