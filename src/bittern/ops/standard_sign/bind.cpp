// SPDX-License-Identifier: Apache-2.0
#include "binding.h"
#include "kernel.h"

namespace bittern {

static void standard_sign(int isa, int threads, std::uintptr_t x, i64 samples, i64 n, double epsilon,
                          std::uintptr_t out, std::uintptr_t statistics) {
  const StandardSignKernels& kernels = standard_sign_kernels(checked_isa(isa));
  nb::gil_scoped_release without_gil;
  kernels.sign(pointer<const float>(x), samples, n, epsilon, pointer<float>(out), pointer<float>(statistics),
               threads);
}

static void standard_sign_gradient(int isa, int threads, std::uintptr_t grad, std::uintptr_t x,
                                   std::uintptr_t statistics, i64 samples, i64 n, std::uintptr_t out) {
  const StandardSignKernels& kernels = standard_sign_kernels(checked_isa(isa));
  nb::gil_scoped_release without_gil;
  kernels.gradient(pointer<const float>(grad), pointer<const float>(x), pointer<const float>(statistics),
                   samples, n, pointer<float>(out), threads);
}

void bind_standard_sign(nb::module_& m) {
  m.def("standard_sign", &standard_sign, nb::arg("isa"), nb::arg("threads"), nb::arg("x"), nb::arg("samples"),
        nb::arg("n"), nb::arg("epsilon"), nb::arg("out"), nb::arg("statistics"));
  m.def("standard_sign_gradient", &standard_sign_gradient, nb::arg("isa"), nb::arg("threads"),
        nb::arg("grad"), nb::arg("x"), nb::arg("statistics"), nb::arg("samples"), nb::arg("n"),
        nb::arg("out"));
}

}  // namespace bittern
