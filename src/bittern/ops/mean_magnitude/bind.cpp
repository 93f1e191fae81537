// SPDX-License-Identifier: Apache-2.0
#include <nanobind/stl/pair.h>

#include "binding.h"
#include "kernel.h"

namespace bittern {

static void mean_magnitude(int isa, int threads, std::uintptr_t x, i64 samples, i64 pixels, i64 channels,
                           i64 sample_step, i64 pixel_step, i64 channel_step, std::uintptr_t out) {
  const MeanMagnitudeKernels& kernels = mean_magnitude_kernels(checked_isa(isa));
  InputScale scale{};
  scale.batch = samples;
  scale.height = scale.out_height = 1;
  scale.width = scale.out_width = pixels;
  scale.channels = channels;
  scale.x = pointer<const float>(x);
  scale.x_image = sample_step;
  scale.x_row = pixels * pixel_step;
  scale.x_pixel = pixel_step;
  scale.x_channel = channel_step;
  scale.means = scale.out = pointer<float>(out);
  nb::gil_scoped_release without_gil;
  kernels.input_scale(scale, threads);
}

// Sizes as (height, width).
using Size = std::pair<i64, i64>;

static void window_mean(int isa, int threads, std::uintptr_t means, i64 batch, Size size, Size out_size,
                        Size kernel, Size stride, Size padding, Size dilation, std::uintptr_t out) {
  const MeanMagnitudeKernels& kernels = mean_magnitude_kernels(checked_isa(isa));
  InputScale scale{};
  scale.batch = batch;
  scale.height = size.first, scale.width = size.second;
  scale.out_height = out_size.first, scale.out_width = out_size.second;
  scale.kernel_h = kernel.first, scale.kernel_w = kernel.second;
  scale.stride_h = stride.first, scale.stride_w = stride.second;
  scale.pad_h = padding.first, scale.pad_w = padding.second;
  scale.dilation_h = dilation.first, scale.dilation_w = dilation.second;
  scale.means = pointer<float>(means);
  scale.out = pointer<float>(out);
  nb::gil_scoped_release without_gil;
  kernels.window_mean(scale, threads);
}

void bind_mean_magnitude(nb::module_& m) {
  m.def("window_mean", &window_mean, nb::arg("isa"), nb::arg("threads"), nb::arg("means"), nb::arg("batch"),
        nb::arg("size"), nb::arg("out_size"), nb::arg("kernel"), nb::arg("stride"), nb::arg("padding"),
        nb::arg("dilation"), nb::arg("out"));
  m.def("mean_magnitude", &mean_magnitude, nb::arg("isa"), nb::arg("threads"), nb::arg("x"),
        nb::arg("samples"), nb::arg("pixels"), nb::arg("channels"), nb::arg("sample_step"),
        nb::arg("pixel_step"), nb::arg("channel_step"), nb::arg("out"));
}

}  // namespace bittern
