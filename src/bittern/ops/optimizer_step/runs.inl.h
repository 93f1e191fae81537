// SPDX-License-Identifier: Apache-2.0

// Instruction sets without a faster way for whole blocks (runs.avx512.inl.h). Included inside the namespace
// of one instruction set, after norms.inl.h.

namespace {

// Steps blocks from b on; returns their number, which is 0.
template <class R>
inline i64 step_whole_blocks(const StepCall&, const StepTensor&, const R&, const Block&, i64, float,
                             const Workspace&) {
  return 0;
}

// Of a block in codes, whose direction needs them.
template <class R>
inline Squares squares_of_codes(const StepCall& call, const StepTensor& t, const R& rule, const Block& b,
                                F32 scale, const Workspace& w) {
  return squares_of_loaded(call, t, rule, b, scale, w);
}

}  // namespace
