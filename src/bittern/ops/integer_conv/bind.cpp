// SPDX-License-Identifier: Apache-2.0
#include "binary_block/program.h"
#include "binding.h"

namespace bittern {

// Bytes of the weights of a step laid out for an instruction set, and numbers of its rows.
static nb::tuple integer_conv_sizes(int isa, std::uintptr_t step) {
  const IntegerConv& c = pointer<const ProgramStep>(step)->integer_conv;
  return nb::make_tuple(integer_conv_kernels(checked_isa(isa)).prepared_bytes(c),
                        kIntegerRows * integer_outputs(c));
}

static void integer_conv_prepare(int isa, std::uintptr_t step, std::uintptr_t w, std::uintptr_t given,
                                 std::uintptr_t weights, std::uintptr_t rows) {
  const IntegerConv& c = pointer<const ProgramStep>(step)->integer_conv;
  integer_conv_kernels(checked_isa(isa))
      .prepare(c, pointer<const std::int8_t>(w), pointer<const i32>(given), pointer<void>(weights),
               pointer<i32>(rows));
}

void bind_integer_conv(nb::module_& m) {
  m.def("integer_conv_sizes", &integer_conv_sizes, nb::arg("isa"), nb::arg("step"));
  m.def("integer_conv_prepare", &integer_conv_prepare, nb::arg("isa"), nb::arg("step"), nb::arg("w"),
        nb::arg("given"), nb::arg("weights"), nb::arg("rows"));
}

}  // namespace bittern
