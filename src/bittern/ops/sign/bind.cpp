// SPDX-License-Identifier: Apache-2.0
#include "binding.h"
#include "kernel.h"

namespace bittern {

static void sign(int isa, int threads, std::uintptr_t x, int dtype, i64 n, std::uintptr_t out) {
  const SignKernels& kernels = sign_kernels(checked_isa(isa));
  const DType type = checked_dtype(dtype);
  nb::gil_scoped_release without_gil;
  kernels.sign(pointer<const void>(x), type, n, pointer<void>(out), threads);
}

void bind_sign(nb::module_& m) {
  m.def("sign", &sign, nb::arg("isa"), nb::arg("threads"), nb::arg("x"), nb::arg("dtype"), nb::arg("n"),
        nb::arg("out"));
}

}  // namespace bittern
