// SPDX-License-Identifier: Apache-2.0
#include "binary_block/program.h"

#include <cstring>

#include "binary_block/real_pool.h"
#include "pack_signs/kernel.h"
#include "parallel.h"
#include "scratch.h"

namespace bittern {
namespace {

struct EncodeJob {
  const EncodeImage* image;
  const PackSignsKernels* kernels;
};

// Whether the bits of a pixel are whole words of its own.
bool has_own_words(const EncodeImage& e) {
  return e.first_bit == 0 && e.pixel_words == ceil_div(e.channels, kWordBits);
}

void encode_row(void* context, i64 index) {
  const auto& job = *static_cast<const EncodeJob*>(context);
  const EncodeImage& e = *job.image;
  u64* out = e.bits + index / e.height * e.bits_image + index % e.height * e.bits_row;
  const float* x = e.x + index / e.height * e.x_image + index % e.height * e.x_row;
  if (e.planes > 1) return job.kernels->pack_levels(x, e.width, e.channels, e.planes, out, e.plane_words, 1);
  if (e.affine == nullptr && has_own_words(e)) {
    return job.kernels->pack(x, DType::f32, e.width, e.channels, e.threshold, out, 1);
  }
  const float* addend = e.affine == nullptr ? nullptr : e.affine + e.channels;
  job.kernels->pack_mapped(x, e.width, e.channels, e.affine, addend, e.threshold,
                           {out, e.pixel_words, e.first_bit});
}

// The same of a row of pixels whose channels lie apart, and whose bits stand behind others.
void encode_apart(void* context, i64 index) {
  const EncodeImage& e = *static_cast<const EncodeImage*>(context);
  u64* out = e.bits + index / e.height * e.bits_image + index % e.height * e.bits_row;
  const float* x = e.x + index / e.height * e.x_image + index % e.height * e.x_row;
  for (i64 pixel = 0; pixel < e.width; ++pixel, x += e.x_pixel, out += e.pixel_words) {
    u64* word = out;
    *word &= (u64{1} << e.first_bit) - 1;
    for (i64 c = 0, bit = e.first_bit; c < e.channels; ++c, ++bit) {
      if (bit == kWordBits) bit = 0, *++word = 0;
      float value = x[c * e.x_channel];
      if (e.affine != nullptr) value = __builtin_fmaf(value, e.affine[c], e.affine[e.channels + c]);
      *word |= static_cast<u64>(value >= (e.threshold == nullptr ? 0.0f : e.threshold[c])) << bit;
    }
  }
}

PlanarImages planar(const EncodeImage& e) {
  return {e.x,         DType::f32,  e.batch,  e.height, e.width,    e.channels,   e.x_image, e.x_row,
          e.x_channel, e.threshold, e.affine, e.bits,   e.bits_row, e.bits_image, e.planes,  e.plane_words};
}

void encode(Isa isa, const EncodeImage& e, int threads) {
  constexpr i64 kWorthThreads = i64{1} << 15;  // elements
  if (e.batch * e.height * e.width * e.channels <= kWorthThreads) threads = 1;
  EncodeJob job{&e, &pack_signs_kernels(isa)};
  if (has_channels_last(e)) return parallel_for(e.batch * e.height, threads, encode_row, &job);
  if (e.planes == 1 && !has_own_words(e)) {
    return parallel_for(e.batch * e.height, threads, encode_apart, const_cast<EncodeImage*>(&e));
  }
  job.kernels->pack_planar(planar(e), threads);
}

// The sum of all pairs of planes, in integers, then the tail.
void convolve_planes(Isa isa, const ProgramStep& step, int threads) {
  const BinaryConv2dKernels& kernels = binary_conv2d_kernels(isa);
  Conv2d conv = step.conv;
  Accumulators sums{conv.batch,
                    out_extent(conv.height, conv.kernel_h, conv.stride_h, conv.pad_h, conv.dilation_h),
                    out_extent(conv.width, conv.kernel_w, conv.stride_w, conv.pad_w, conv.dilation_w),
                    conv.out_channels,
                    nullptr,
                    &step.tail};
  const i64 count = sums.batch * sums.height * sums.width * sums.out_channels;
  i32 *total = scratch_array<i32>(Scratch::plane_sums, count),
      *part = scratch_array<i32>(Scratch::plane_part, count);
  std::memset(total, 0, static_cast<std::size_t>(count) * sizeof(i32));
  conv.output = part;
  for (i64 i = 0; i < step.planes.weight; ++i) {
    const i32 weight_factor = i + 1 < step.planes.weight ? 1 << i : static_cast<i32>(step.planes.last_factor);
    conv.weights = step.conv.weights + i * step.planes.weight_bytes;
    for (i64 j = 0; j < step.planes.input; ++j) {
      conv.input = step.conv.input + j * step.planes.input_words;
      conv.pad_value = (step.planes.raised >> j & 1) != 0 ? 1 : step.conv.pad_value;
      kernels.conv2d(conv, threads);
      const i32 factor = weight_factor * (1 << j);
      for (i64 k = 0; k < count; ++k) total[k] += factor * part[k];
    }
  }
  sums.values = total;
  kernels.finish(sums, threads);
}

// What is not worth several threads gets one: a small product takes as long as waking another thread, and
// much less than waiting for one whose core is busy.
int worth(const ProgramStep& step, int threads) {
  constexpr i64 kWorthThreads = i64{1} << 18;  // words that are counted
  const Conv2d& c = step.conv;
  const i64 pixels = c.batch * out_extent(c.height, c.kernel_h, c.stride_h, c.pad_h, c.dilation_h) *
                     out_extent(c.width, c.kernel_w, c.stride_w, c.pad_w, c.dilation_w);
  const i64 words = c.kernel_h * c.kernel_w * ceil_div(c.channels / c.groups, kWordBits);
  return pixels * c.out_channels * words * step.planes.input * step.planes.weight < kWorthThreads ? 1
                                                                                                  : threads;
}

void convolve(Isa isa, const ProgramStep& step, int threads) {
  threads = worth(step, threads);
  if (step.planes.input * step.planes.weight != 1) return convolve_planes(isa, step, threads);
  Conv2d conv = step.conv;
  conv.tail = &step.tail;
  binary_conv2d_kernels(isa).conv2d(conv, threads);
}

}  // namespace

void run_steps(Isa isa, const ProgramStep* steps, i64 count, int threads) {
  for (i64 i = 0; i < count; ++i) {
    const ProgramStep& step = steps[i];
    switch (step.kind) {
      case StepKind::convolve:
        convolve(isa, step, threads);
        break;
      case StepKind::encode:
        encode(isa, step.encode, threads);
        break;
      case StepKind::pool:
        pool_images_kernels(isa).pool(step.pool, threads);
        break;
      case StepKind::real:
        real_conv_kernels(isa).conv(step.real, threads);
        break;
      case StepKind::real_pool:
        real_conv_pool(isa, step.real, step.pool, threads);
        break;
      case StepKind::linear:
        real_linear_kernels(isa).linear(step.linear, threads);
        break;
      case StepKind::input_scale:
        mean_magnitude_kernels(isa).input_scale(step.input_scale, threads);
        break;
      case StepKind::map:
        map_images_kernels(isa).map(step.map, threads);
        break;
      case StepKind::pool_bits:
        pool_bits(step.pool_bits, threads);
        break;
      case StepKind::concatenate_bits:
        concatenate_bits(step.concatenate_bits, threads);
        break;
      case StepKind::integer_conv:
        integer_conv_kernels(isa).conv(step.integer_conv, threads);
        break;
      case StepKind::integer_add:
        integer_add_kernels(isa).add(step.integer_add, threads);
        break;
      case StepKind::integer_pool:
        integer_pool_kernels(isa).pool(step.integer_pool, threads);
        break;
      case StepKind::integer_table:
        integer_table(step.integer_table, threads);
        break;
      case StepKind::integer_softmax:
        integer_softmax(step.integer_softmax, threads);
        break;
      case StepKind::integer_mean:
        integer_mean_kernels(isa).mean(step.integer_mean, threads);
        break;
      case StepKind::integer_quantize:
        integer_quantize_kernels(isa).quantize(step.integer_quantize, threads);
        break;
      case StepKind::integer_dequantize:
        integer_dequantize(step.integer_dequantize, threads);
        break;
      case StepKind::count:
        break;
    }
  }
}

}  // namespace bittern
