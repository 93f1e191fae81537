// SPDX-License-Identifier: Apache-2.0
#include "binding.h"
#include "kernel.h"

namespace bittern {

static void multibit_quantize(int isa, int threads, std::uintptr_t x, i64 rows, i64 n, int planes, i64 cycles,
                              bool refined, std::uintptr_t words, std::uintptr_t scale) {
  const MultibitQuantizeKernels& kernels = multibit_quantize_kernels(checked_isa(isa));
  const MultibitRows job{pointer<const float>(x), rows, n, planes, cycles, refined, pointer<u64>(words),
                         pointer<float>(scale)};
  nb::gil_scoped_release without_gil;
  kernels.quantize(job, threads);
}

void bind_multibit_quantize(nb::module_& m) {
  m.def("multibit_quantize", &multibit_quantize, nb::arg("isa"), nb::arg("threads"), nb::arg("x"),
        nb::arg("rows"), nb::arg("n"), nb::arg("planes"), nb::arg("cycles"), nb::arg("refined"),
        nb::arg("words"), nb::arg("scale"));
}

}  // namespace bittern
