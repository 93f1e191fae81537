// SPDX-License-Identifier: Apache-2.0
#include "binding.h"
#include "kernel.h"

namespace bittern {

static void approx_sign_gradient(int isa, int threads, std::uintptr_t grad, std::uintptr_t x, i64 n,
                                 std::uintptr_t out) {
  const SignSlopesKernels& kernels = sign_slopes_kernels(checked_isa(isa));
  nb::gil_scoped_release without_gil;
  kernels.approx(pointer<const float>(grad), pointer<const float>(x), n, pointer<float>(out), threads);
}

static void error_decay_gradient(int isa, int threads, std::uintptr_t grad, std::uintptr_t x, i64 n, float t,
                                 float k, std::uintptr_t out) {
  const SignSlopesKernels& kernels = sign_slopes_kernels(checked_isa(isa));
  nb::gil_scoped_release without_gil;
  kernels.error_decay(pointer<const float>(grad), pointer<const float>(x), n, t, k, pointer<float>(out),
                      threads);
}

static void fourier_gradient(int isa, int threads, std::uintptr_t grad, std::uintptr_t x, i64 n, i64 terms,
                             double omega, float limit, bool rising, float wave, std::uintptr_t out) {
  const SignSlopesKernels& kernels = sign_slopes_kernels(checked_isa(isa));
  nb::gil_scoped_release without_gil;
  kernels.fourier(pointer<const float>(grad), pointer<const float>(x), n, {omega, terms, limit, rising, wave},
                  pointer<float>(out), threads);
}

static void noisy_sign(int isa, int threads, std::uintptr_t x, std::uintptr_t noise, i64 n, float wave,
                       std::uintptr_t out) {
  const SignSlopesKernels& kernels = sign_slopes_kernels(checked_isa(isa));
  nb::gil_scoped_release without_gil;
  kernels.noisy_sign(pointer<const float>(x), pointer<const float>(noise), n, wave, pointer<float>(out),
                     threads);
}

void bind_sign_slopes(nb::module_& m) {
  m.def("approx_sign_gradient", &approx_sign_gradient, nb::arg("isa"), nb::arg("threads"), nb::arg("grad"),
        nb::arg("x"), nb::arg("n"), nb::arg("out"));
  m.def("error_decay_gradient", &error_decay_gradient, nb::arg("isa"), nb::arg("threads"), nb::arg("grad"),
        nb::arg("x"), nb::arg("n"), nb::arg("t"), nb::arg("k"), nb::arg("out"));
  m.def("fourier_gradient", &fourier_gradient, nb::arg("isa"), nb::arg("threads"), nb::arg("grad"),
        nb::arg("x"), nb::arg("n"), nb::arg("terms"), nb::arg("omega"), nb::arg("limit"), nb::arg("rising"),
        nb::arg("wave"), nb::arg("out"));
  m.def("noisy_sign", &noisy_sign, nb::arg("isa"), nb::arg("threads"), nb::arg("x"), nb::arg("noise"),
        nb::arg("n"), nb::arg("wave"), nb::arg("out"));
}

}  // namespace bittern
