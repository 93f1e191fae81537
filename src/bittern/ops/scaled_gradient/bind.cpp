// SPDX-License-Identifier: Apache-2.0
#include "binding.h"
#include "kernel.h"

namespace bittern {

static void scaled_gradient(int isa, int threads, std::uintptr_t grad, std::uintptr_t y,
                            std::uintptr_t factor, i64 rows, i64 n, std::uintptr_t to_y,
                            std::uintptr_t to_factor) {
  const ScaledGradientKernels& kernels = scaled_gradient_kernels(checked_isa(isa));
  nb::gil_scoped_release without_gil;
  kernels.gradient(pointer<const float>(grad), pointer<const float>(y), pointer<const float>(factor), rows, n,
                   pointer<float>(to_y), pointer<float>(to_factor), threads);
}

static void scaled_gradient_of_whole(int isa, int threads, std::uintptr_t grad, std::uintptr_t lifted,
                                     std::uintptr_t factor, i64 rows, i64 n, std::uintptr_t to_y,
                                     std::uintptr_t to_factor) {
  const ScaledGradientKernels& kernels = scaled_gradient_kernels(checked_isa(isa));
  nb::gil_scoped_release without_gil;
  kernels.gradient_of_whole(pointer<const float>(grad), pointer<const u16>(lifted),
                            pointer<const float>(factor), rows, n, pointer<float>(to_y),
                            pointer<float>(to_factor), threads);
}

static bool scale_whole(int isa, int threads, std::uintptr_t y, std::uintptr_t factor, i64 rows, i64 n,
                        std::uintptr_t out, std::uintptr_t lifted) {
  const ScaledGradientKernels& kernels = scaled_gradient_kernels(checked_isa(isa));
  nb::gil_scoped_release without_gil;
  return kernels.scale_whole(pointer<const float>(y), pointer<const float>(factor), rows, n,
                             pointer<float>(out), pointer<u16>(lifted), threads);
}

void bind_scaled_gradient(nb::module_& m) {
  m.def("scaled_gradient", &scaled_gradient, nb::arg("isa"), nb::arg("threads"), nb::arg("grad"),
        nb::arg("y"), nb::arg("factor"), nb::arg("rows"), nb::arg("n"), nb::arg("to_y"),
        nb::arg("to_factor"));
  m.def("scaled_gradient_of_whole", &scaled_gradient_of_whole, nb::arg("isa"), nb::arg("threads"),
        nb::arg("grad"), nb::arg("lifted"), nb::arg("factor"), nb::arg("rows"), nb::arg("n"), nb::arg("to_y"),
        nb::arg("to_factor"));
  m.def("scale_whole", &scale_whole, nb::arg("isa"), nb::arg("threads"), nb::arg("y"), nb::arg("factor"),
        nb::arg("rows"), nb::arg("n"), nb::arg("out"), nb::arg("lifted"));
}

}  // namespace bittern
