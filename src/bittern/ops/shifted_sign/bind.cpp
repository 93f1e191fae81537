// SPDX-License-Identifier: Apache-2.0
#include "binding.h"
#include "kernel.h"

namespace bittern {

static void shifted_sign(int isa, int threads, std::uintptr_t x, std::uintptr_t shift, i64 outer,
                         i64 channels, i64 inner, std::uintptr_t out) {
  const ShiftedSignKernels& kernels = shifted_sign_kernels(checked_isa(isa));
  const ShiftedImages images{pointer<const float>(x), pointer<const float>(shift), outer, channels, inner};
  nb::gil_scoped_release without_gil;
  kernels.sign(images, pointer<float>(out), threads);
}

static i64 shifted_sign_sums(i64 outer, i64 channels, i64 inner) {
  return ShiftedImages{nullptr, nullptr, outer, channels, inner}.parts() * channels;
}

static void shifted_sign_gradient(int isa, int threads, std::uintptr_t grad, std::uintptr_t x,
                                  std::uintptr_t shift, i64 outer, i64 channels, i64 inner,
                                  std::uintptr_t sums, std::uintptr_t to_x, std::uintptr_t to_shift) {
  const ShiftedSignKernels& kernels = shifted_sign_kernels(checked_isa(isa));
  const ShiftedImages images{pointer<const float>(x), pointer<const float>(shift), outer, channels, inner};
  nb::gil_scoped_release without_gil;
  kernels.gradient(images, pointer<const float>(grad), pointer<float>(sums), pointer<float>(to_x),
                   pointer<float>(to_shift), threads);
}

void bind_shifted_sign(nb::module_& m) {
  m.def("shifted_sign", &shifted_sign, nb::arg("isa"), nb::arg("threads"), nb::arg("x"), nb::arg("shift"),
        nb::arg("outer"), nb::arg("channels"), nb::arg("inner"), nb::arg("out"));
  m.def("shifted_sign_sums", &shifted_sign_sums, nb::arg("outer"), nb::arg("channels"), nb::arg("inner"));
  m.def("shifted_sign_gradient", &shifted_sign_gradient, nb::arg("isa"), nb::arg("threads"), nb::arg("grad"),
        nb::arg("x"), nb::arg("shift"), nb::arg("outer"), nb::arg("channels"), nb::arg("inner"),
        nb::arg("sums"), nb::arg("to_x"), nb::arg("to_shift"));
}

}  // namespace bittern
