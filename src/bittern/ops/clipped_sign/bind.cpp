// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "binding.h"
#include "kernel.h"

namespace bittern {

// |x| < limit where |x| is at most the float below.
static float largest_inside(double limit, bool strict) {
  const float most = static_cast<float>(limit);
  return strict ? std::nextafterf(most, -1.0f) : most;
}

static void clipped_sign(int isa, int threads, std::uintptr_t x, i64 n, double limit, bool strict,
                         std::uintptr_t out, std::uintptr_t mask) {
  const ClippedSignKernels& kernels = clipped_sign_kernels(checked_isa(isa));
  nb::gil_scoped_release without_gil;
  kernels.sign(pointer<const float>(x), n, largest_inside(limit, strict), pointer<float>(out),
               pointer<u8>(mask), threads);
}

static void clipped_levels(int isa, int threads, std::uintptr_t x, i64 n, int bits, std::uintptr_t out,
                           std::uintptr_t mask) {
  const ClippedSignKernels& kernels = clipped_sign_kernels(checked_isa(isa));
  nb::gil_scoped_release without_gil;
  const float top = static_cast<float>((1 << bits) - 1);
  kernels.levels(pointer<const float>(x), n, top, pointer<float>(out), pointer<u8>(mask), threads);
}

static void masked_gradient(int isa, int threads, std::uintptr_t grad, std::uintptr_t mask, i64 n,
                            double factor, std::uintptr_t out) {
  const ClippedSignKernels& kernels = clipped_sign_kernels(checked_isa(isa));
  nb::gil_scoped_release without_gil;
  kernels.gradient(pointer<const float>(grad), pointer<const u8>(mask), n, static_cast<float>(factor),
                   pointer<float>(out), threads);
}

void bind_clipped_sign(nb::module_& m) {
  m.def("clipped_sign", &clipped_sign, nb::arg("isa"), nb::arg("threads"), nb::arg("x"), nb::arg("n"),
        nb::arg("limit"), nb::arg("strict"), nb::arg("out"), nb::arg("mask"));
  m.def("clipped_levels", &clipped_levels, nb::arg("isa"), nb::arg("threads"), nb::arg("x"), nb::arg("n"),
        nb::arg("bits"), nb::arg("out"), nb::arg("mask"));
  m.def("masked_gradient", &masked_gradient, nb::arg("isa"), nb::arg("threads"), nb::arg("grad"),
        nb::arg("mask"), nb::arg("n"), nb::arg("factor"), nb::arg("out"));
}

}  // namespace bittern
