// SPDX-License-Identifier: Apache-2.0
#include "../multibit_quantize/kernel.h"
#include "binding.h"
#include "kernel.h"
#include "scratch.h"

namespace bittern {

static i64 multibit_bytes(int isa, i64 planes, i64 rows, i64 n) {
  const Isa set = checked_isa(isa);
  return multibit_matvec_kernels(set).prepared_bytes({planes, rows, n}, binary_conv2d_kernels(set));
}

static void multibit_prepare(int isa, std::uintptr_t canonical, i64 planes, i64 rows, i64 n,
                             std::uintptr_t prepared) {
  const Isa set = checked_isa(isa);
  const MultibitMatvecKernels& kernels = multibit_matvec_kernels(set);
  nb::gil_scoped_release without_gil;
  kernels.prepare({planes, rows, n}, binary_conv2d_kernels(set), pointer<const u64>(canonical),
                  pointer<u8>(prepared));
}

static void multibit_matvec(int isa, int threads, std::uintptr_t x, std::uintptr_t x_scale, i64 batch,
                            i64 x_planes, std::uintptr_t weights, std::uintptr_t w_scale, std::uintptr_t bias,
                            i64 w_planes, i64 rows, i64 n, std::uintptr_t out) {
  const Isa set = checked_isa(isa);
  const MultibitMatvecKernels& kernels = multibit_matvec_kernels(set);
  const MultibitMatvec job{{w_planes, rows, n},
                           pointer<const u8>(weights),
                           pointer<const float>(w_scale),
                           pointer<const float>(bias),
                           batch,
                           x_planes,
                           pointer<const u64>(x),
                           pointer<const float>(x_scale),
                           pointer<float>(out)};
  nb::gil_scoped_release without_gil;
  kernels.multiply(job, binary_conv2d_kernels(set), threads);
}

// The same of real inputs [batch, n], quantized on the way.
static void multibit_linear(int isa, int threads, std::uintptr_t x, i64 batch, int x_planes, i64 cycles,
                            bool refined, std::uintptr_t weights, std::uintptr_t w_scale, std::uintptr_t bias,
                            i64 w_planes, i64 rows, i64 n, std::uintptr_t out) {
  const Isa set = checked_isa(isa);
  nb::gil_scoped_release without_gil;
  const i64 count = batch * x_planes, words = ceil_div(n, kWordBits);
  u64* planes = scratch_array<u64>(Scratch::linear_groups, count * (words + 1));
  float* scale = reinterpret_cast<float*>(planes + count * words);
  const MultibitRows inputs{pointer<const float>(x), batch, n, x_planes, cycles, refined, planes, scale};
  multibit_quantize_kernels(set).quantize(inputs, threads);
  const MultibitMatvec job{{w_planes, rows, n},
                           pointer<const u8>(weights),
                           pointer<const float>(w_scale),
                           pointer<const float>(bias),
                           batch,
                           x_planes,
                           planes,
                           scale,
                           pointer<float>(out)};
  multibit_matvec_kernels(set).multiply(job, binary_conv2d_kernels(set), threads);
}

void bind_multibit_matvec(nb::module_& m) {
  m.def("multibit_bytes", &multibit_bytes, nb::arg("isa"), nb::arg("planes"), nb::arg("rows"), nb::arg("n"));
  m.def("multibit_prepare", &multibit_prepare, nb::arg("isa"), nb::arg("canonical"), nb::arg("planes"),
        nb::arg("rows"), nb::arg("n"), nb::arg("prepared"));
  m.def("multibit_matvec", &multibit_matvec, nb::arg("isa"), nb::arg("threads"), nb::arg("x"),
        nb::arg("x_scale"), nb::arg("batch"), nb::arg("x_planes"), nb::arg("weights"), nb::arg("w_scale"),
        nb::arg("bias"), nb::arg("w_planes"), nb::arg("rows"), nb::arg("n"), nb::arg("out"));
  m.def("multibit_linear", &multibit_linear, nb::arg("isa"), nb::arg("threads"), nb::arg("x"),
        nb::arg("batch"), nb::arg("x_planes"), nb::arg("cycles"), nb::arg("refined"), nb::arg("weights"),
        nb::arg("w_scale"), nb::arg("bias"), nb::arg("w_planes"), nb::arg("rows"), nb::arg("n"),
        nb::arg("out"));
}

}  // namespace bittern
