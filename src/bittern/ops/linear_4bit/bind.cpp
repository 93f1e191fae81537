// SPDX-License-Identifier: Apache-2.0
#include "binding.h"
#include "kernel.h"

namespace bittern {

// Of a tuple of pointers: absmax; or codes, and where they are nested their table, the scales of codes, and
// the offset. Those that there are not are 0.
static BlockScales scales_of(const nb::tuple& pointers) {
  const auto at = [&](std::size_t i) { return nb::cast<std::uintptr_t>(pointers[i]); };
  const float* offset = pointer<const float>(at(4));
  return {pointer<const float>(at(0)), pointer<const u8>(at(1)), pointer<const float>(at(2)),
          pointer<const float>(at(3)), offset == nullptr ? 0.0f : *offset};
}

static Weight4bit weight_of(std::uintptr_t packed, const nb::tuple& scales, std::uintptr_t code,
                            i64 block_size, i64 n, i64 k, DType type) {
  Weight4bit weight{pointer<const u8>(packed), scales_of(scales), {}, n, k, block_size, type};
  for (int i = 0; i < 16; ++i) weight.table.values[i] = pointer<const float>(code)[i];
  return weight;
}

static void linear_4bit(int isa, int threads, std::uintptr_t x, int dtype, i64 m, std::uintptr_t packed,
                        const nb::tuple& scales, std::uintptr_t code, i64 block_size, i64 n, i64 k,
                        std::uintptr_t bias, std::uintptr_t out) {
  const Linear4bitKernels& kernels = linear_4bit_kernels(checked_isa(isa));
  const DType type = checked_float("linear_4bit", dtype);
  const Linear4bitCall call{pointer<const void>(x), pointer<const void>(bias), pointer<void>(out), type, m};
  const Weight4bit weight = weight_of(packed, scales, code, block_size, n, k, type);
  nb::gil_scoped_release without_gil;
  kernels.forward(call, weight, threads);
}

static void linear_4bit_backward(int isa, int threads, std::uintptr_t grad, int dtype, i64 m,
                                 std::uintptr_t packed, const nb::tuple& scales, std::uintptr_t code,
                                 i64 block_size, i64 n, i64 k, std::uintptr_t out) {
  const Linear4bitKernels& kernels = linear_4bit_kernels(checked_isa(isa));
  const DType type = checked_float("linear_4bit", dtype);
  const Linear4bitCall call{pointer<const void>(grad), nullptr, pointer<void>(out), type, m};
  const Weight4bit weight = weight_of(packed, scales, code, block_size, n, k, type);
  nb::gil_scoped_release without_gil;
  kernels.backward(call, weight, threads);
}

void bind_linear_4bit(nb::module_& m) {
  m.def("linear_4bit", &linear_4bit, nb::arg("isa"), nb::arg("threads"), nb::arg("x"), nb::arg("dtype"),
        nb::arg("m"), nb::arg("packed"), nb::arg("scales"), nb::arg("code"), nb::arg("block_size"),
        nb::arg("n"), nb::arg("k"), nb::arg("bias"), nb::arg("out"));
  m.def("linear_4bit_backward", &linear_4bit_backward, nb::arg("isa"), nb::arg("threads"), nb::arg("grad"),
        nb::arg("dtype"), nb::arg("m"), nb::arg("packed"), nb::arg("scales"), nb::arg("code"),
        nb::arg("block_size"), nb::arg("n"), nb::arg("k"), nb::arg("out"));
}

}  // namespace bittern
