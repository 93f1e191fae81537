// SPDX-License-Identifier: Apache-2.0
#include "binding.h"
#include "kernel.h"

namespace bittern {

static void unpack_signs(int isa, int threads, std::uintptr_t words, i64 rows, i64 cols, int dtype,
                         std::uintptr_t out) {
  const UnpackSignsKernels& kernels = unpack_signs_kernels(checked_isa(isa));
  const DType type = checked_dtype(dtype);
  if (type == DType::i32)
    throw nb::value_error("unpack_signs: dtype must be a float type (0 to 3); got 4 (int32)");
  nb::gil_scoped_release without_gil;
  kernels.unpack(pointer<const u64>(words), rows, cols, type, pointer<void>(out), threads);
}

void bind_unpack_signs(nb::module_& m) {
  m.def("unpack_signs", &unpack_signs, nb::arg("isa"), nb::arg("threads"), nb::arg("words"), nb::arg("rows"),
        nb::arg("cols"), nb::arg("dtype"), nb::arg("out"));
}

}  // namespace bittern
