// SPDX-License-Identifier: Apache-2.0

// The Python module bittern._native: one line per op.

#include "binding.h"
#include "parallel.h"

namespace bittern {

void bind_sign(nb::module_& m);
void bind_clipped_sign(nb::module_& m);
void bind_adapted_sign(nb::module_& m);
void bind_sign_slopes(nb::module_& m);
void bind_standard_sign(nb::module_& m);
void bind_shifted_sign(nb::module_& m);
void bind_scaled_gradient(nb::module_& m);
void bind_flat_bits(nb::module_& m);
void bind_mean_magnitude(nb::module_& m);
void bind_pack_signs(nb::module_& m);
void bind_unpack_signs(nb::module_& m);
void bind_binary_conv2d(nb::module_& m);
void bind_binary_matmul(nb::module_& m);
void bind_binary_block(nb::module_& m);
void bind_integer_conv(nb::module_& m);
void bind_integer_recurrent(nb::module_& m);
void bind_linear_4bit(nb::module_& m);
void bind_linear_8bit(nb::module_& m);
void bind_linear_groups(nb::module_& m);
void bind_multibit_quantize(nb::module_& m);
void bind_multibit_matvec(nb::module_& m);
void bind_optimizer_step(nb::module_& m);
void bind_quantize_blockwise(nb::module_& m);

namespace {

nb::dict features() {
  nb::dict found;
  for (const CpuFeature& feature : cpu_features()) found[feature.name] = feature.present;
  return found;
}

nb::list available_isas() {
  nb::list names;
  for (const InstructionSet& set : kInstructionSets) {
    if (isa_available(set.isa)) names.append(set.name);
  }
  return names;
}

// (name, number, processor, on request, needs) of every set, in this build or not.
nb::list instruction_sets() {
  nb::list found;
  for (const InstructionSet& set : kInstructionSets) {
    nb::list needs;
    for (const char* name : set.needs) {
      if (name != nullptr) needs.append(name);
    }
    found.append(
        nb::make_tuple(set.name, static_cast<int>(set.isa), set.processor, set.on_request, nb::tuple(needs)));
  }
  return found;
}

}  // namespace
}  // namespace bittern

NB_MODULE(_native, m) {
  using namespace bittern;
  m.def("cpu_features", &features);
  m.def("instruction_sets", &instruction_sets);
  m.def("available_isas", &available_isas);
  m.def("adopt_openmp", &adopt_openmp, nb::arg("path"));
  m.def("pool_name", &pool_name);
  bind_sign(m);
  bind_clipped_sign(m);
  bind_adapted_sign(m);
  bind_sign_slopes(m);
  bind_standard_sign(m);
  bind_shifted_sign(m);
  bind_scaled_gradient(m);
  bind_flat_bits(m);
  bind_mean_magnitude(m);
  bind_pack_signs(m);
  bind_unpack_signs(m);
  bind_binary_conv2d(m);
  bind_binary_matmul(m);
  bind_binary_block(m);
  bind_integer_conv(m);
  bind_integer_recurrent(m);
  bind_linear_4bit(m);
  bind_linear_8bit(m);
  bind_linear_groups(m);
  bind_multibit_quantize(m);
  bind_multibit_matvec(m);
  bind_optimizer_step(m);
  bind_quantize_blockwise(m);
}
