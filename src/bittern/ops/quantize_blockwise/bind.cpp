// SPDX-License-Identifier: Apache-2.0
#include "binding.h"
#include "kernel.h"
#include "pages.h"

namespace bittern {

static void quantize_blockwise(int isa, int threads, std::uintptr_t x, int dtype, i64 n, i64 block_size,
                               std::uintptr_t code, int entries, bool nibbles, bool keep_nonzero,
                               bool stochastic, i64 seed, std::uintptr_t codes, std::uintptr_t absmax) {
  const QuantizeBlockwiseKernels& kernels = quantize_blockwise_kernels(checked_isa(isa));
  const QuantizeCall call{pointer<const void>(x),
                          checked_float("quantize_blockwise", dtype),
                          n,
                          block_size,
                          nibbles,
                          stochastic,
                          static_cast<u64>(seed),
                          pointer<u8>(codes),
                          pointer<float>(absmax)};
  nb::gil_scoped_release without_gil;
  CodeTable table;
  prepare_table(table, pointer<const float>(code), entries, keep_nonzero);
  kernels.quantize(call, table, threads);
}

static void dequantize_blockwise(int isa, int threads, std::uintptr_t codes, std::uintptr_t absmax,
                                 std::uintptr_t code, int entries, i64 n, i64 block_size, bool nibbles,
                                 int dtype, std::uintptr_t out) {
  const QuantizeBlockwiseKernels& kernels = quantize_blockwise_kernels(checked_isa(isa));
  const DequantizeCall call{pointer<const u8>(codes),
                            pointer<const float>(absmax),
                            n,
                            block_size,
                            nibbles,
                            checked_float("quantize_blockwise", dtype),
                            pointer<void>(out)};
  nb::gil_scoped_release without_gil;
  prefer_huge_pages(call.out, n * (call.type == DType::f32 ? 4 : 2));
  CodeTable table;
  prepare_table(table, pointer<const float>(code), entries, false);
  kernels.dequantize(call, table, threads);
}

void bind_quantize_blockwise(nb::module_& m) {
  m.def("quantize_blockwise", &quantize_blockwise, nb::arg("isa"), nb::arg("threads"), nb::arg("x"),
        nb::arg("dtype"), nb::arg("n"), nb::arg("block_size"), nb::arg("code"), nb::arg("entries"),
        nb::arg("nibbles"), nb::arg("keep_nonzero"), nb::arg("stochastic"), nb::arg("seed"), nb::arg("codes"),
        nb::arg("absmax"));
  m.def("dequantize_blockwise", &dequantize_blockwise, nb::arg("isa"), nb::arg("threads"), nb::arg("codes"),
        nb::arg("absmax"), nb::arg("code"), nb::arg("entries"), nb::arg("n"), nb::arg("block_size"),
        nb::arg("nibbles"), nb::arg("dtype"), nb::arg("out"));
}

}  // namespace bittern
