// SPDX-License-Identifier: Apache-2.0

// Binary convolution on AMX, where channels fill whole words and pairs of tiles: signs as bytes of +1 and -1,
// multiplied by tiles. Other shapes, and those too small for tiles, are counted as on AVX-512.
//
// A tile of pixels has one pixel in each of its 16 rows: the 64 channels of one word. A tile of weights has
// the same word of 16 output channels, four input channels in each row. Their product adds 16 * 16 * 64
// products of signs to 32-bit sums. Four tiles of sums stand for 32 pixels by 32 output channels (*square*),
// so that every tile that is loaded is used twice.
//
// Weights stay bits, in the order of the tiles: the u64 for row q of a tile holds bits 4q .. 4q + 3 of each
// of the 16 channels, so that one masked blend makes a row of bytes. They lie behind the weights of AVX-512.
// A task expands 32 output channels at a time; as bytes all weights of a large layer would not fit a
// second-level cache.
//
// A task is a rectangle of output pixels of one image and takes it through all output channels. It expands
// the input pixels below it once, padding included: a padding of 0 becomes bytes of 0, which add nothing, so
// border pixels need no correction. The expanded pixels are divided into planes by their row modulo stride_h
// and their column modulo stride_w. Within a plane the pixels under one tap, for neighbouring output pixels,
// are neighbours, and so are, at a distance of `pitch`, those of the next row: for a tap, all output pixels
// of the rectangle are one run of memory, a tile is any 16 of it, and the next tap is the same run, shifted.
// The run also passes the columns between the end of a row and the start of the next; what is summed up there
// is dropped.

#include <cstring>

#include "kernel.h"

#include "parallel.h"
#include "scratch.h"
#include "simd/amx.h"

namespace bittern::amx {

#include "tail.inl.h"

namespace {

constexpr i64 kSquare = 2 * kTileRows;  // pixels, and output channels
constexpr i64 kTaskPixels = 448;        // 8 rows of 56
// A quarter of the second-level cache of the first CPUs with AMX.
constexpr i64 kExpandedBytes = i64{512} << 10;

// ---- weights: those of AVX-512, then [out_channels / 16][tap][word][16] masks

const BinaryConv2dKernels& narrower() {
  return avx512::binary_conv2d_kernels;
}

bool fills_tiles(const WeightShape& s) {
  const i64 channels = s.channels / s.groups, out_channels = s.out_channels / s.groups;
  return channels > 0 && channels % kWordBits == 0 && out_channels > 0 && out_channels % kSquare == 0;
}

i64 masks_offset(const WeightShape& s) {
  return round_up(narrower().prepared_bytes(s), kTileRowBytes);
}

i64 steps_of(const WeightShape& s) {
  return s.taps * (s.channels / s.groups / kWordBits);
}

i64 prepared_bytes(const WeightShape& s) {
  if (!fills_tiles(s)) return narrower().prepared_bytes(s);
  return masks_offset(s) + s.out_channels * steps_of(s) * static_cast<i64>(sizeof(u64));
}

// words: one of each of 16 output channels, `pitch` apart.
void transpose_quads(const u64* words, i64 pitch, u64* masks) {
  for (i64 q = 0; q < kTileRows; ++q) {
    u64 mask = 0;
    for (i64 n = 0; n < kTileRows; ++n) mask |= (words[n * pitch] >> (4 * q) & 15) << (4 * n);
    masks[q] = mask;
  }
}

void prepare_weights(const WeightShape& s, const u64* canonical, u8* prepared) {
  narrower().prepare_weights(s, canonical, prepared);
  if (!fills_tiles(s)) return;
  u64* masks = reinterpret_cast<u64*>(prepared + masks_offset(s));
  const i64 steps = steps_of(s);
  for (i64 tile = 0; tile < s.out_channels / kTileRows; ++tile) {
    for (i64 step = 0; step < steps; ++step, masks += kTileRows) {
      transpose_quads(canonical + tile * kTileRows * steps + step, steps, masks);
    }
  }
}

// Two tiles per step. masks: of the first of 32 output channels.
void expand_weights(const u64* masks, i64 steps, i8* out) {
  for (i64 step = 0; step < steps; ++step) {
    for (i64 tile = 0; tile < 2; ++tile) {
      const u64* rows = masks + (tile * steps + step) * kTileRows;
      for (i64 q = 0; q < kTileRows; ++q, out += kTileRowBytes) expand_signs(rows[q], out);
    }
  }
}

// ---- plan

// One dimension of the output, and how far its last tap reaches within a plane.
struct Axis {
  i64 size, kernel, stride, pad, dilation;  // of the input
  i64 out, reach;

  // Whether some tap reads the plane of this remainder.
  bool reads(i64 plane) const {
    for (i64 k = 0; k < kernel; ++k) {
      if (k * dilation % stride == plane) return true;
    }
    return false;
  }
};

Axis axis(i64 size, i64 kernel, i64 stride, i64 pad, i64 dilation) {
  const i64 out = out_extent(size, kernel, stride, pad, dilation);
  return {size, kernel, stride, pad, dilation, out, (kernel - 1) * dilation / stride};
}

struct TilePlan {
  Conv2d conv;
  Axis y, x;
  i64 words, group_words, group_out, steps;
  i64 input_row, input_image;
  const u64* masks;
  i64 rows, columns;            // of a task
  i64 row_tasks, column_tasks;  // of an image
  i64 pixel_bytes, pitch, plane_pixels;
  i64* taps;  // where the run of each tap starts among the expanded pixels, in bytes
  Tail tail;
  FinishUnit finish;  // null: integers are written
};

// The output pixels of a task.
struct Part {
  i64 image, y, x, rows, columns;
};

WeightShape weights_of(const Conv2d& c) {
  return {c.out_channels, c.kernel_h * c.kernel_w, c.channels, c.groups};
}

// Documented in docs/architecture.md; not measured.
bool suits_tiles(const Conv2d& c, const Axis& y, const Axis& x) {
  return fills_tiles(weights_of(c)) && y.out * x.out >= kSquare && x.out >= x.reach;
}

void plan_tasks(TilePlan& p, int threads) {
  constexpr i64 kTasksPerThread = 3;
  const i64 pixels = p.conv.batch * p.y.out * p.x.out;
  i64 wanted = smaller(kTaskPixels, kExpandedBytes / p.pixel_bytes);
  if (threads > 1) wanted = smaller(wanted, ceil_div(pixels, kTasksPerThread * threads));
  wanted = larger(wanted, kSquare);
  p.columns = smaller(p.x.out, wanted);
  p.rows = smaller(p.y.out, wanted / p.columns);
  p.row_tasks = ceil_div(p.y.out, p.rows);
  p.column_tasks = ceil_div(p.x.out, p.columns);
  p.pitch = p.columns + p.x.reach;
  p.plane_pixels = (p.rows + p.y.reach) * p.pitch;
}

void plan_taps(TilePlan& p) {
  p.taps = scratch_array<i64>(Scratch::tap_offsets, p.y.kernel * p.x.kernel);
  for (i64 ky = 0; ky < p.y.kernel; ++ky) {
    for (i64 kx = 0; kx < p.x.kernel; ++kx) {
      const i64 y = ky * p.y.dilation, x = kx * p.x.dilation;
      const i64 plane = y % p.y.stride * p.x.stride + x % p.x.stride;
      const i64 pixel = plane * p.plane_pixels + y / p.y.stride * p.pitch + x / p.x.stride;
      p.taps[ky * p.x.kernel + kx] = pixel * p.pixel_bytes;
    }
  }
}

void plan_conv(TilePlan& p, const Conv2d& c, int threads) {
  const WeightShape shape = weights_of(c);
  p.conv = c;
  p.words = c.channels / kWordBits;
  p.group_words = p.words / c.groups;
  p.group_out = c.out_channels / c.groups;
  p.steps = steps_of(shape);
  p.input_row = c.input_row != 0 ? c.input_row : c.width * p.words;
  p.input_image = c.input_image != 0 ? c.input_image : c.height * p.input_row;
  p.masks = reinterpret_cast<const u64*>(c.weights + masks_offset(shape));
  p.pixel_bytes = p.words * kTileRowBytes;
  plan_tasks(p, threads);
  plan_taps(p);
  if (c.tail == nullptr && c.epilogue == nullptr) return;
  p.tail = tail_of(c);
  p.finish = finisher_of<UnitFinisher>(p.tail);
}

// ---- expanding the input

// One row of a plane. row: null where it lies outside the image; first: input column of its first pixel.
void expand_row(const TilePlan& p, const u64* row, i64 first, i64 pixels, i8* out) {
  const i8 padding = static_cast<i8>(p.conv.pad_value);
  for (i64 i = 0; i < pixels; ++i) {
    const i64 x = first + i * p.x.stride;
    const bool inside = row != nullptr && x >= 0 && x < p.x.size;
    for (i64 word = 0; word < p.words; ++word, out += kTileRowBytes) {
      if (inside) {
        expand_signs(row[x * p.words + word], out);
      } else {
        fill_64(padding, out);
      }
    }
  }
}

void expand_plane(const TilePlan& p, const Part& part, i64 plane_y, i64 plane_x, i8* out) {
  const u64* image = p.conv.input + part.image * p.input_image;
  const i64 first = part.x * p.x.stride + plane_x - p.x.pad;
  for (i64 r = 0; r < part.rows + p.y.reach; ++r) {
    const i64 y = (part.y + r) * p.y.stride + plane_y - p.y.pad;
    const u64* row = y >= 0 && y < p.y.size ? image + y * p.input_row : nullptr;
    expand_row(p, row, first, part.columns + p.x.reach, out + r * p.pitch * p.pixel_bytes);
  }
}

// What lies beyond the last pixel of a run stays as it was; only dropped sums read it.
void expand_input(const TilePlan& p, const Part& part, i8* out) {
  for (i64 y = 0; y < p.y.stride; ++y) {
    for (i64 x = 0; x < p.x.stride; ++x) {
      if (!p.y.reads(y) || !p.x.reads(x)) continue;
      expand_plane(p, part, y, x, out + (y * p.x.stride + x) * p.plane_pixels * p.pixel_bytes);
    }
  }
}

// ---- sums

// What a square of sums is, from pixel `first` of the run and from output channel `channel` on.
void finish_square(const TilePlan& p, const Part& part, i64 first, i64 count, i64 channel, const i32* sums) {
  const i64 out_channels = p.conv.out_channels;
  i64 y = first / p.pitch, x = first % p.pitch;
  for (i64 i = 0; i < count; ++i, sums += kSquare) {
    if (x < part.columns) {
      const i64 row = part.y + y, column = part.x + x;
      const Place place{(part.image * p.y.out + row) * p.x.out + column, part.image, row, column};
      for (i64 c = 0; c < kSquare; c += kTailUnit) {
        const Unit unit{channel + c, kTailUnit, {load(sums + c)}};
        if (p.finish != nullptr) {
          p.finish(p.tail, out_channels, place, unit);
        } else {
          store(static_cast<i32*>(p.conv.output) + place.index * out_channels + unit.channel, unit.acc[0]);
        }
      }
    }
    if (++x == p.pitch) x = 0, ++y;
  }
}

// 32 output channels from `channel` on. pixels: from the group's first word on.
void convolve_channels(const TilePlan& p, const Part& part, const i8* pixels, const i8* weights,
                       i64 channel) {
  alignas(64) i32 sums[kSquare * kSquare];
  const i64 run = (part.rows - 1) * p.pitch + part.columns, taps = p.y.kernel * p.x.kernel;
  for (i64 first = 0; first < run; first += kSquare) {
    const i8* w = weights;
    zero_sums();
    for (i64 tap = 0; tap < taps; ++tap) {
      const i8* at = pixels + first * p.pixel_bytes + p.taps[tap];
      for (i64 word = 0; word < p.group_words; ++word, w += 2 * kTileBytes) {
        add_products(at + word * kTileRowBytes, p.pixel_bytes, w);
      }
    }
    store_sums(sums);
    finish_square(p, part, first, smaller(kSquare, run - first), channel, sums);
  }
}

Part part_of(const TilePlan& p, i64 index) {
  const i64 column = index % p.column_tasks, row = index / p.column_tasks % p.row_tasks;
  const i64 y = row * p.rows, x = column * p.columns;
  return {index / p.column_tasks / p.row_tasks, y, x, smaller(p.rows, p.y.out - y),
          smaller(p.columns, p.x.out - x)};
}

void tile_task(void* context, i64 index) {
  const auto& p = *static_cast<const TilePlan*>(context);
  const Part part = part_of(p, index);
  // the last square may reach beyond the last plane
  const i64 pixels = p.y.stride * p.x.stride * p.plane_pixels + kSquare;
  i8* expanded = scratch_array<i8>(Scratch::tile_pixels, pixels * p.pixel_bytes);
  i8* weights = scratch_array<i8>(Scratch::tile_weights, p.steps * 2 * kTileBytes);
  expand_input(p, part, expanded);
  configure_tiles();
  for (i64 channel = 0; channel < p.conv.out_channels; channel += kSquare) {
    const i64 group = channel / p.group_out;
    expand_weights(p.masks + channel * p.steps, p.steps, weights);
    convolve_channels(p, part, expanded + group * p.group_words * kTileRowBytes, weights, channel);
  }
  release_tiles();
}

void conv2d(const Conv2d& c, int threads) {
  const Axis y = axis(c.height, c.kernel_h, c.stride_h, c.pad_h, c.dilation_h);
  const Axis x = axis(c.width, c.kernel_w, c.stride_w, c.pad_w, c.dilation_w);
  if (!suits_tiles(c, y, x)) return narrower().conv2d(c, threads);
  TilePlan p{};
  p.y = y, p.x = x;
  plan_conv(p, c, threads);
  parallel_for(c.batch * p.row_tasks * p.column_tasks, threads, tile_task, &p);
}

void finish_accumulators(const Accumulators& accumulators, int threads) {
  narrower().finish(accumulators, threads);
}

// Multiplies one square on operands that stay in the first-level cache, without expanding and tails, as
// peak.inl.h does for the kernels that count.
i64 count_in_cache(i64 repeats) {
  constexpr i64 kSteps = 6;  // 12 KiB of pixels and as much of weights
  constexpr i64 kPitch = kSteps * kTileRowBytes;
  i8* pixels = scratch_array<i8>(Scratch::tile_pixels, kSquare * kPitch);
  i8* weights = scratch_array<i8>(Scratch::tile_weights, kSteps * 2 * kTileBytes);
  for (i64 i = 0; i < kSquare * kPitch; i += kTileRowBytes) fill_64(1, pixels + i);
  for (i64 i = 0; i < kSteps * 2 * kTileBytes; i += kTileRowBytes) fill_64(-1, weights + i);
  alignas(64) i32 sums[kSquare * kSquare];
  configure_tiles();
  for (i64 i = 0; i < repeats; ++i) {
    zero_sums();
    for (i64 step = 0; step < kSteps; ++step) {
      add_products(pixels + step * kTileRowBytes, kPitch, weights + step * 2 * kTileBytes);
    }
    store_sums(sums);
  }
  release_tiles();
  return repeats * kSquare * kSquare * kSteps * kTileRowBytes;
}

}  // namespace

#if defined(BITTERN_EMULATE_AMX)
i64 emulated_products() {
  return emulated_amx::products;
}
#endif

const BinaryConv2dKernels binary_conv2d_kernels = {prepared_bytes, prepare_weights, conv2d,
                                                   finish_accumulators, count_in_cache};

}  // namespace bittern::amx
