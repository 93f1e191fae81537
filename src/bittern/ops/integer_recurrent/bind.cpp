// SPDX-License-Identifier: Apache-2.0
#include "binding.h"
#include "kernel.h"

namespace bittern {

#define FIELD(name) BITTERN_FIELD(GateProduct, name)
static constexpr std::array<Field, 8> kGateProductFields = {FIELD(features),    FIELD(rows),    FIELD(zero),
                                                            FIELD(ending),      FIELD(weights), FIELD(bias),
                                                            FIELD(multipliers), FIELD(shifts)};
#undef FIELD
static_assert(is_whole(kGateProductFields, sizeof(GateProduct)));

#define FIELD(name) BITTERN_FIELD(IntegerRecurrent, name)
static constexpr std::array<Field, 20> kIntegerRecurrentFields = {
    FIELD(input),         FIELD(recurrent), FIELD(batch),      FIELD(steps),    FIELD(hidden),
    FIELD(gated),         FIELD(reverse),   FIELD(state_bits), FIELD(clip),     FIELD(multiplier),
    FIELD(shift),         FIELD(low),       FIELD(high),       FIELD(logistic), FIELD(tanh),
    FIELD(tanh_of_state), FIELD(x),         FIELD(first),      FIELD(state),    FIELD(out)};
#undef FIELD
static_assert(is_whole(kIntegerRecurrentFields, sizeof(IntegerRecurrent)));

static nb::dict integer_recurrent_fields() {
  nb::dict found;
  found["product"] = layout_of(kGateProductFields);
  found["layer"] = layout_of(kIntegerRecurrentFields);
  return found;
}

static i64 integer_recurrent_bytes(int isa, std::uintptr_t product) {
  return integer_recurrent_kernels(checked_isa(isa)).prepared_bytes(*pointer<const GateProduct>(product));
}

static void integer_recurrent_prepare(int isa, std::uintptr_t product, std::uintptr_t w,
                                      std::uintptr_t weights, std::uintptr_t bias) {
  integer_recurrent_kernels(checked_isa(isa))
      .prepare(*pointer<const GateProduct>(product), pointer<const std::int8_t>(w), pointer<void>(weights),
               pointer<i32>(bias));
}

static void integer_recurrent(int isa, int threads, std::uintptr_t layer) {
  const IntegerRecurrentKernels& kernels = integer_recurrent_kernels(checked_isa(isa));
  nb::gil_scoped_release without_gil;
  kernels.run(*pointer<const IntegerRecurrent>(layer), threads);
}

void bind_integer_recurrent(nb::module_& m) {
  m.def("integer_recurrent_fields", &integer_recurrent_fields);
  m.def("integer_recurrent_bytes", &integer_recurrent_bytes, nb::arg("isa"), nb::arg("product"));
  m.def("integer_recurrent_prepare", &integer_recurrent_prepare, nb::arg("isa"), nb::arg("product"),
        nb::arg("w"), nb::arg("weights"), nb::arg("bias"));
  m.def("integer_recurrent", &integer_recurrent, nb::arg("isa"), nb::arg("threads"), nb::arg("layer"));
}

}  // namespace bittern
