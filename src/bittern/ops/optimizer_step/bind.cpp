// SPDX-License-Identifier: Apache-2.0
#include "binding.h"
#include "kernel.h"

namespace bittern {

#define FIELD(name) BITTERN_FIELD(StepTensor, name)
constexpr std::array kStepTensorFields = {FIELD(param),        FIELD(grad),   FIELD(state),   FIELD(absmax),
                                          FIELD(compensation), FIELD(numel),  FIELD(row),     FIELD(block),
                                          FIELD(bits),         FIELD(dtypes), FIELD(scalars), FIELD(first)};
static_assert(is_whole(kStepTensorFields, sizeof(StepTensor)));

static nb::list step_tensor_fields() {
  return layout_of(kStepTensorFields);
}

static void optimizer_step(int isa, int threads, int rule, std::uintptr_t tensors, i64 count,
                           std::uintptr_t scalars, i64 scalars_per_row, bool stochastic, u64 seed,
                           std::uintptr_t norms, std::uintptr_t ratios, std::uintptr_t state_seeds,
                           i64 state_seed_count, i64 at_random) {
  const OptimizerStepKernels& kernels = optimizer_step_kernels(checked_isa(isa));
  if (rule < 0 || rule >= static_cast<int>(Rule::count)) throw nb::value_error("rule: not a Rule");
  const StepCall call{static_cast<Rule>(rule),
                      pointer<const StepTensor>(tensors),
                      count,
                      pointer<const float>(scalars),
                      scalars_per_row,
                      stochastic,
                      seed,
                      threads,
                      pointer<double>(norms),
                      pointer<const float>(ratios),
                      pointer<const u64>(state_seeds),
                      state_seed_count,
                      at_random};
  nb::gil_scoped_release without_gil;
  kernels.step(call);
}

void bind_optimizer_step(nb::module_& m) {
  m.def("step_tensor_fields", &step_tensor_fields);
  m.def("optimizer_step", &optimizer_step, nb::arg("isa"), nb::arg("threads"), nb::arg("rule"),
        nb::arg("tensors"), nb::arg("count"), nb::arg("scalars"), nb::arg("scalars_per_row"),
        nb::arg("stochastic"), nb::arg("seed"), nb::arg("norms") = 0, nb::arg("ratios") = 0,
        nb::arg("state_seeds") = 0, nb::arg("state_seed_count") = 0, nb::arg("at_random") = 0);
}

}  // namespace bittern
