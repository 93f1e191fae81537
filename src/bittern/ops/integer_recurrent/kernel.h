// SPDX-License-Identifier: Apache-2.0

// integer_recurrent: one layer of an LSTM or a GRU in one direction, of int8 inputs, weights and outputs,
// with int16 gates and an int16 state. reference.py says what it computes.
#pragma once

#include "dispatch.h"
#include "integer_conv/kernel.h"
#include "types.h"

namespace bittern {

// A product of all gates. All fields are 64 bits wide, as those of the layer, because Python fills them.
struct GateProduct {
  i64 features, rows, zero;
  i64 ending;              // an IntegerEnding that rounds twice
  const void* weights;     // as `prepare` laid them out for the same instruction set
  const i32* bias;         // [gate_rows], as `prepare` left it
  const i32* multipliers;  // [gate_rows]
  const i32* shifts;       // [gate_rows]
};

// Rows of the numbers behind the sums, with those that fill the last unit.
static constexpr inline i64 gate_rows(const GateProduct& p) {
  return round_up(p.rows, kIntegerUnit);
}

struct IntegerRecurrent {
  GateProduct input, recurrent;
  i64 batch, steps, hidden;
  i64 gated;              // 0: an LSTM, 1: a GRU
  i64 reverse;            // whether it goes from the last step to the first
  i64 state_bits;         // by which a product of a gate and new values is shifted on its way into the state
  i64 clip;               // of an LSTM's state; 0: it is not clipped
  i64 multiplier, shift;  // to the scale of the output
  i64 low, high;          // of the output, whose zero point is the recurrent product's
  const std::int16_t *logistic, *tanh, *tanh_of_state;  // [2^16], of x at x + 2^15
  const std::int8_t* x;                                 // [batch, steps, features]
  const std::int8_t* first;                             // [batch, hidden], outputs before the first step
  std::int16_t* state;  // [batch, hidden], before the first step and behind the last
  std::int8_t* out;     // [batch, steps, hidden]
};

struct IntegerRecurrentKernels {
  void (*run)(const IntegerRecurrent& layer, int threads);
  // Bytes of the weights laid out. Weights and rows are not read.
  i64 (*prepared_bytes)(const GateProduct& product);
  // Lays out w [rows, features], and takes the zero point into the bias [gate_rows].
  void (*prepare)(const GateProduct& product, const std::int8_t* w, void* weights, i32* bias);
};

BITTERN_DISPATCH(integer_recurrent, IntegerRecurrentKernels)

}  // namespace bittern
