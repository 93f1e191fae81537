// SPDX-License-Identifier: Apache-2.0

// Instruction sets without a faster way for whole blocks (runs.avx512.inl.h). Included inside the namespace
// of one instruction set, after apply.inl.h.

namespace {

// Steps blocks from b on; returns their number, which is 0.
template <class R>
inline i64 step_whole_blocks(const StepCall&, const StepTensor&, const R&, const Block&, i64, float,
                             const Workspace&) {
  return 0;
}

}  // namespace
