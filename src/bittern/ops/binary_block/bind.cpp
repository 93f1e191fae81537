#include "binary_block/program.h"
#include "binding.h"

namespace bittern {

static void run_block_program(int isa, int threads, std::uintptr_t steps, i64 count) {
  const Isa chosen = checked_isa(isa);
  const ProgramStep* first = pointer<const ProgramStep>(steps);
  for (i64 i = 0; i < count; ++i) {
    if (static_cast<i64>(first[i].kind) < 0 || first[i].kind >= StepKind::count) {
      throw nb::value_error("run_block_program: not a StepKind");
    }
  }
  nb::gil_scoped_release without_gil;
  run_steps(chosen, first, count, threads);
}

void bind_binary_block(nb::module_& m) {
  m.attr("STEP_WORDS") = sizeof(ProgramStep) / sizeof(i64);
  m.def("run_block_program", &run_block_program, nb::arg("isa"), nb::arg("threads"), nb::arg("steps"),
        nb::arg("count"));
}

}  // namespace bittern
