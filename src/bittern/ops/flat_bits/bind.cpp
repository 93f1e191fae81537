// SPDX-License-Identifier: Apache-2.0
#include "binding.h"
#include "kernel.h"

namespace bittern {

static bool flat_bits(int isa, int threads, std::uintptr_t x, i64 n, float low, std::uintptr_t out) {
  const FlatBitsKernels& kernels = flat_bits_kernels(checked_isa(isa));
  nb::gil_scoped_release without_gil;
  return kernels.pack(pointer<const float>(x), n, low, pointer<u64>(out), threads);
}

static void rows_of_bits(int isa, int threads, std::uintptr_t bits, i64 rows, i64 columns,
                         std::uintptr_t out) {
  const FlatBitsKernels& kernels = flat_bits_kernels(checked_isa(isa));
  nb::gil_scoped_release without_gil;
  kernels.rows(pointer<const u64>(bits), rows, columns, pointer<u64>(out), threads);
}

static void from_flat_bits(int isa, int threads, std::uintptr_t bits, i64 n, float low, std::uintptr_t out) {
  const FlatBitsKernels& kernels = flat_bits_kernels(checked_isa(isa));
  nb::gil_scoped_release without_gil;
  kernels.unpack(pointer<const u64>(bits), n, low, pointer<float>(out), threads);
}

void bind_flat_bits(nb::module_& m) {
  m.def("flat_bits", &flat_bits, nb::arg("isa"), nb::arg("threads"), nb::arg("x"), nb::arg("n"),
        nb::arg("low"), nb::arg("out"));
  m.def("rows_of_bits", &rows_of_bits, nb::arg("isa"), nb::arg("threads"), nb::arg("bits"), nb::arg("rows"),
        nb::arg("columns"), nb::arg("out"));
  m.def("from_flat_bits", &from_flat_bits, nb::arg("isa"), nb::arg("threads"), nb::arg("bits"), nb::arg("n"),
        nb::arg("low"), nb::arg("out"));
}

}  // namespace bittern
