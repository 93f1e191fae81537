// SPDX-License-Identifier: Apache-2.0
#include "binding.h"
#include "kernel.h"

namespace bittern {

static AdaptedRows rows_of(std::uintptr_t x, i64 rows, i64 columns, std::uintptr_t down, std::uintptr_t up,
                           i64 hidden, float alpha, float wave, std::uintptr_t turned) {
  if (hidden < 1 || hidden > kMostHidden) throw nb::value_error("hidden: too many numbers");
  return {pointer<const float>(x),  rows,   columns, pointer<const float>(down),
          pointer<const float>(up), hidden, alpha,   wave,
          pointer<float>(turned)};
}

static void adapted_sign(int isa, int threads, std::uintptr_t x, i64 rows, i64 columns, std::uintptr_t down,
                         std::uintptr_t up, i64 hidden, float alpha, float wave, std::uintptr_t turned,
                         std::uintptr_t out) {
  const AdaptedSignKernels& kernels = adapted_sign_kernels(checked_isa(isa));
  const AdaptedRows given = rows_of(x, rows, columns, down, up, hidden, alpha, wave, turned);
  nb::gil_scoped_release without_gil;
  kernels.sign(given, pointer<float>(out), threads);
}

static void adapted_sign_gradient(int isa, int threads, std::uintptr_t x, i64 rows, i64 columns,
                                  std::uintptr_t down, std::uintptr_t up, i64 hidden, float alpha, float wave,
                                  std::uintptr_t turned, std::uintptr_t grad, i64 terms, double omega,
                                  float limit, bool rising, i64 parts, std::uintptr_t sums,
                                  std::uintptr_t to_x, std::uintptr_t to_down, std::uintptr_t to_up) {
  const AdaptedSignKernels& kernels = adapted_sign_kernels(checked_isa(isa));
  const AdaptedRows given = rows_of(x, rows, columns, down, up, hidden, alpha, wave, turned);
  const AdaptedGradient gradient{pointer<const float>(grad),
                                 {omega, terms, limit, rising, wave},
                                 parts,
                                 pointer<float>(sums),
                                 pointer<float>(to_x),
                                 pointer<float>(to_down),
                                 pointer<float>(to_up)};
  nb::gil_scoped_release without_gil;
  kernels.gradient(given, gradient, threads);
}

void bind_adapted_sign(nb::module_& m) {
  m.def("adapted_sign", &adapted_sign, nb::arg("isa"), nb::arg("threads"), nb::arg("x"), nb::arg("rows"),
        nb::arg("columns"), nb::arg("down"), nb::arg("up"), nb::arg("hidden"), nb::arg("alpha"),
        nb::arg("wave"), nb::arg("turned"), nb::arg("out"));
  m.def("adapted_sign_gradient", &adapted_sign_gradient, nb::arg("isa"), nb::arg("threads"), nb::arg("x"),
        nb::arg("rows"), nb::arg("columns"), nb::arg("down"), nb::arg("up"), nb::arg("hidden"),
        nb::arg("alpha"), nb::arg("wave"), nb::arg("turned"), nb::arg("grad"), nb::arg("terms"),
        nb::arg("omega"), nb::arg("limit"), nb::arg("rising"), nb::arg("parts"), nb::arg("sums"),
        nb::arg("to_x"), nb::arg("to_down"), nb::arg("to_up"));
}

}  // namespace bittern
