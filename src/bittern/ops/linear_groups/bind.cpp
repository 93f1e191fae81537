// SPDX-License-Identifier: Apache-2.0
#include "binding.h"
#include "kernel.h"

namespace bittern {

static WeightGroups weight_of(std::uintptr_t codes, int bits, std::uintptr_t scale, int scale_type,
                              std::uintptr_t zero, bool byte_zero, i64 group, i64 n, i64 k) {
  const i64 whole_row = round_up(larger(k, 1), kTileColumns);
  return {pointer<const u32>(codes),
          bits,
          pointer<const void>(scale),
          static_cast<DType>(scale_type) == DType::f16,
          pointer<const void>(zero),
          byte_zero,
          group == 0 ? whole_row : group,
          n,
          k};
}

static void linear_groups(int isa, int threads, std::uintptr_t x, int dtype, i64 m, std::uintptr_t codes,
                          int bits, std::uintptr_t scale, int scale_type, std::uintptr_t zero, bool byte_zero,
                          i64 group, i64 n, i64 k, std::uintptr_t bias, bool int8, std::uintptr_t out) {
  const LinearGroupsKernels& kernels = linear_groups_kernels(checked_isa(isa));
  const DType type = checked_float("linear_groups", dtype);
  const LinearGroupsCall call{pointer<const void>(x), pointer<const void>(bias), pointer<void>(out), type, m};
  const WeightGroups weight = weight_of(codes, bits, scale, scale_type, zero, byte_zero, group, n, k);
  nb::gil_scoped_release without_gil;
  (int8 ? kernels.int8 : kernels.real)(call, weight, threads);
}

static void dequantize_groups(int isa, int threads, std::uintptr_t codes, int bits, std::uintptr_t scale,
                              int scale_type, std::uintptr_t zero, bool byte_zero, i64 group, i64 n, i64 k,
                              int dtype, std::uintptr_t out) {
  const LinearGroupsKernels& kernels = linear_groups_kernels(checked_isa(isa));
  const DType type = checked_float("dequantize_groups", dtype);
  const WeightGroups weight = weight_of(codes, bits, scale, scale_type, zero, byte_zero, group, n, k);
  nb::gil_scoped_release without_gil;
  kernels.decode(weight, type, pointer<void>(out), threads);
}

void bind_linear_groups(nb::module_& m) {
  m.def("linear_groups", &linear_groups, nb::arg("isa"), nb::arg("threads"), nb::arg("x"), nb::arg("dtype"),
        nb::arg("m"), nb::arg("codes"), nb::arg("bits"), nb::arg("scale"), nb::arg("scale_type"),
        nb::arg("zero"), nb::arg("byte_zero"), nb::arg("group"), nb::arg("n"), nb::arg("k"), nb::arg("bias"),
        nb::arg("int8"), nb::arg("out"));
  m.def("dequantize_groups", &dequantize_groups, nb::arg("isa"), nb::arg("threads"), nb::arg("codes"),
        nb::arg("bits"), nb::arg("scale"), nb::arg("scale_type"), nb::arg("zero"), nb::arg("byte_zero"),
        nb::arg("group"), nb::arg("n"), nb::arg("k"), nb::arg("dtype"), nb::arg("out"));
}

}  // namespace bittern
