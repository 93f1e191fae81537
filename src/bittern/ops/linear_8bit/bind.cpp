// SPDX-License-Identifier: Apache-2.0
#include "binding.h"
#include "kernel.h"

namespace bittern {

static void linear_8bit(int isa, int threads, std::uintptr_t x, int dtype, i64 m, i64 n, i64 k,
                        std::uintptr_t weight, std::uintptr_t scale, std::uintptr_t bias,
                        std::uintptr_t extra, std::uintptr_t out) {
  const Linear8bitKernels& kernels = linear_8bit_kernels(checked_isa(isa));
  const Linear8bitCall call{pointer<const void>(x),
                            checked_float("linear_8bit", dtype),
                            m,
                            n,
                            k,
                            pointer<const std::int8_t>(weight),
                            pointer<const float>(scale),
                            pointer<const void>(bias),
                            pointer<const float>(extra),
                            pointer<void>(out)};
  nb::gil_scoped_release without_gil;
  kernels.forward(call, threads);
}

void bind_linear_8bit(nb::module_& m) {
  m.def("linear_8bit", &linear_8bit, nb::arg("isa"), nb::arg("threads"), nb::arg("x"), nb::arg("dtype"),
        nb::arg("m"), nb::arg("n"), nb::arg("k"), nb::arg("weight"), nb::arg("scale"), nb::arg("bias"),
        nb::arg("extra"), nb::arg("out"));
}

}  // namespace bittern
