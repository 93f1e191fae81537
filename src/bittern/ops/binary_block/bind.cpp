// SPDX-License-Identifier: Apache-2.0
#include <stdexcept>

#include "binary_block/extents.h"
#include "binary_block/fields.h"
#include "binding.h"

namespace bittern {

[[noreturn]] static void refuse(i64 index, StepKind kind, const Misfit& misfit) {
  throw std::runtime_error("run_block_program: step " + std::to_string(index) + " of kind " +
                           std::to_string(static_cast<i64>(kind)) + " was planned wrongly: " + misfit.what +
                           " (needs " + std::to_string(misfit.needed) + " bytes, has " +
                           std::to_string(misfit.given) + "); nothing was run");
}

static void run_block_program(int isa, int threads, std::uintptr_t steps, i64 count) {
  const Isa chosen = checked_isa(isa);
  const ProgramStep* first = pointer<const ProgramStep>(steps);
  for (i64 i = 0; i < count; ++i) {
    const Misfit misfit = misfit_of(chosen, first[i]);
    if (misfit.what != nullptr) refuse(i, first[i].kind, misfit);
  }
  nb::gil_scoped_release without_gil;
  run_steps(chosen, first, count, threads);
}

// Of the step, and by their names of the records in it.
static nb::dict step_fields() {
  nb::dict found;
  found["step"] = layout_of(kProgramStepFields);
  found["conv"] = layout_of(kConv2dFields);
  found["tail"] = layout_of(kTailFields);
  found["planes"] = layout_of(kPlanesFields);
  found["encode"] = layout_of(kEncodeImageFields);
  found["pool"] = layout_of(kPoolImagesFields);
  found["real"] = layout_of(kRealConvFields);
  found["input_scale"] = layout_of(kInputScaleFields);
  found["pool_bits"] = layout_of(kPoolBitsFields);
  found["concatenate_bits"] = layout_of(kConcatenateBitsFields);
  found["linear"] = layout_of(kRealLinearFields);
  found["map"] = layout_of(kMapImagesFields);
  found["integer_conv"] = layout_of(kIntegerConvFields);
  found["integer_add"] = layout_of(kIntegerAddFields);
  found["integer_pool"] = layout_of(kIntegerPoolFields);
  found["integer_table"] = layout_of(kIntegerTableFields);
  found["integer_softmax"] = layout_of(kIntegerSoftmaxFields);
  found["integer_mean"] = layout_of(kIntegerMeanFields);
  found["integer_quantize"] = layout_of(kIntegerQuantizeFields);
  found["integer_dequantize"] = layout_of(kIntegerDequantizeFields);
  found["sizes"] = layout_of(kSizesFields);
  return found;
}

void bind_binary_block(nb::module_& m) {
  m.def("step_fields", &step_fields);
  m.def("run_block_program", &run_block_program, nb::arg("isa"), nb::arg("threads"), nb::arg("steps"),
        nb::arg("count"));
}

}  // namespace bittern
