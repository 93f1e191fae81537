// SPDX-License-Identifier: Apache-2.0
#include "binding.h"
#include "kernel.h"

namespace bittern {

static Weight4bit weight_of(std::uintptr_t packed, std::uintptr_t absmax, std::uintptr_t code, i64 block_size,
                            i64 n, i64 k, DType type) {
  Weight4bit weight{pointer<const u8>(packed), pointer<const float>(absmax), {}, n, k, block_size, type};
  for (int i = 0; i < 16; ++i) weight.table.values[i] = pointer<const float>(code)[i];
  return weight;
}

static void linear_4bit(int isa, int threads, std::uintptr_t x, int dtype, i64 m, std::uintptr_t packed,
                        std::uintptr_t absmax, std::uintptr_t code, i64 block_size, i64 n, i64 k,
                        std::uintptr_t bias, std::uintptr_t out) {
  const Linear4bitKernels& kernels = linear_4bit_kernels(checked_isa(isa));
  const DType type = checked_float("linear_4bit", dtype);
  const Linear4bitCall call{pointer<const void>(x), pointer<const void>(bias), pointer<void>(out), type, m};
  nb::gil_scoped_release without_gil;
  kernels.forward(call, weight_of(packed, absmax, code, block_size, n, k, type), threads);
}

static void linear_4bit_backward(int isa, int threads, std::uintptr_t grad, int dtype, i64 m,
                                 std::uintptr_t packed, std::uintptr_t absmax, std::uintptr_t code,
                                 i64 block_size, i64 n, i64 k, std::uintptr_t out) {
  const Linear4bitKernels& kernels = linear_4bit_kernels(checked_isa(isa));
  const DType type = checked_float("linear_4bit", dtype);
  const Linear4bitCall call{pointer<const void>(grad), nullptr, pointer<void>(out), type, m};
  nb::gil_scoped_release without_gil;
  kernels.backward(call, weight_of(packed, absmax, code, block_size, n, k, type), threads);
}

void bind_linear_4bit(nb::module_& m) {
  m.def("linear_4bit", &linear_4bit, nb::arg("isa"), nb::arg("threads"), nb::arg("x"), nb::arg("dtype"),
        nb::arg("m"), nb::arg("packed"), nb::arg("absmax"), nb::arg("code"), nb::arg("block_size"),
        nb::arg("n"), nb::arg("k"), nb::arg("bias"), nb::arg("out"));
  m.def("linear_4bit_backward", &linear_4bit_backward, nb::arg("isa"), nb::arg("threads"), nb::arg("grad"),
        nb::arg("dtype"), nb::arg("m"), nb::arg("packed"), nb::arg("absmax"), nb::arg("code"),
        nb::arg("block_size"), nb::arg("n"), nb::arg("k"), nb::arg("out"));
}

}  // namespace bittern
