// SPDX-License-Identifier: Apache-2.0
#include "binding.h"
#include "kernel.h"

namespace bittern {

static void pack_signs(int isa, int threads, std::uintptr_t x, int dtype, i64 rows, i64 cols,
                       std::uintptr_t threshold, std::uintptr_t out) {
  const PackSignsKernels& kernels = pack_signs_kernels(checked_isa(isa));
  const DType type = checked_dtype(dtype);
  nb::gil_scoped_release without_gil;
  kernels.pack(pointer<const void>(x), type, rows, cols, pointer<const void>(threshold), pointer<u64>(out),
               threads);
}

static void pack_planar(int isa, int threads, std::uintptr_t x, int dtype, i64 images, i64 pixels,
                        i64 channels, std::uintptr_t threshold, std::uintptr_t out) {
  const PackSignsKernels& kernels = pack_signs_kernels(checked_isa(isa));
  const i64 words = ceil_div(channels, kWordBits);
  PlanarImages planar{};
  planar.x = pointer<const void>(x);
  planar.type = checked_dtype(dtype);
  planar.images = images, planar.rows = 1, planar.width = pixels, planar.channels = channels;
  planar.x_image = channels * pixels, planar.x_row = planar.x_channel = pixels;
  planar.threshold = pointer<const void>(threshold);
  planar.words = pointer<u64>(out);
  planar.words_row = planar.words_image = pixels * words;
  planar.planes = 1;
  nb::gil_scoped_release without_gil;
  kernels.pack_planar(planar, threads);
}

void bind_pack_signs(nb::module_& m) {
  m.def("pack_signs", &pack_signs, nb::arg("isa"), nb::arg("threads"), nb::arg("x"), nb::arg("dtype"),
        nb::arg("rows"), nb::arg("cols"), nb::arg("threshold"), nb::arg("out"));
  m.def("pack_planar", &pack_planar, nb::arg("isa"), nb::arg("threads"), nb::arg("x"), nb::arg("dtype"),
        nb::arg("images"), nb::arg("pixels"), nb::arg("channels"), nb::arg("threshold"), nb::arg("out"));
}

}  // namespace bittern
