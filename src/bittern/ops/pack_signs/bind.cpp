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

void bind_pack_signs(nb::module_& m) {
  m.def("pack_signs", &pack_signs, nb::arg("isa"), nb::arg("threads"), nb::arg("x"), nb::arg("dtype"),
        nb::arg("rows"), nb::arg("cols"), nb::arg("threshold"), nb::arg("out"));
}

}  // namespace bittern
