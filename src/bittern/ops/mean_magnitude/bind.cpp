// SPDX-License-Identifier: Apache-2.0
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

void bind_mean_magnitude(nb::module_& m) {
  m.def("mean_magnitude", &mean_magnitude, nb::arg("isa"), nb::arg("threads"), nb::arg("x"),
        nb::arg("samples"), nb::arg("pixels"), nb::arg("channels"), nb::arg("sample_step"),
        nb::arg("pixel_step"), nb::arg("channel_step"), nb::arg("out"));
}

}  // namespace bittern
