// SPDX-License-Identifier: Apache-2.0

// optimizer_step: one step of many tensors, with states in 32, 8 or 4 bits.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

// In the order of rules.py.
enum class Rule : int {
  sgd,
  momentum,
  adam,
  amsgrad,
  nadam,
  radam,
  adagrad,
  rmsprop,
  rmsprop_momentum,
  rmsprop_centered,
  rmsprop_centered_momentum,
  lion,
  lamb,
  lars,
  ademamix,
  adan,
  adadelta,
  adamax,
  rprop,
  asgd,
  schedule_free_adamw,
  schedule_free_sgd,
  count
};

// One tensor. All fields are 64 bits wide, because Python fills them as one array of int64.
struct StepTensor {
  void* param;
  const void* grad;
  void* state[4];
  float* absmax[4];    // null for states of 32 bits
  void* compensation;  // Kahan's: elements of the type of param, or null
  i64 numel;
  i64 row;      // blocks start anew every `row` elements; divides numel
  i64 block;    // elements per absmax
  i64 bits;     // 32, 8 or 4
  i64 dtypes;   // DType of param + 16 * DType of grad
  i64 scalars;  // row of the scalars
  i64 first;    // number of its first element among all tensors, for the random bits
};

// Whether state k of a rule is float32 in every storage.
constexpr bool is_exact(Rule rule, i64 k) {
  return ((rule == Rule::asgd || rule == Rule::schedule_free_sgd) && k == 0) ||
         (rule == Rule::schedule_free_adamw && k == 1);
}

struct StepCall {
  Rule rule;
  const StepTensor* tensors;
  i64 count;
  const float* scalars;
  i64 scalars_per_row;
  bool stochastic;  // rounds bfloat16 parameters by random bits of `seed`
  u64 seed;
  int threads;
  // Rules with a trust ratio, whose tensors may be shards of larger ones: `norms` asks for the sums of
  // squares of the parameter and the direction of each tensor, [count, 2], and for no step; `ratios`,
  // [count], are taken instead of those of the tensors here. Null otherwise.
  double* norms;
  const float* ratios;
  // Seeds of the random bits that states are rounded by, one for all tensors or one for each, or null; and
  // the sum of the bits of states that are, 4 (which are those of log_codes then) and 8 (their squares
  // alone), of which others are entries of tables, rounded to nearest.
  const u64* state_seeds;
  i64 state_seed_count;
  i64 at_random;
};

constexpr i64 kLargestBlock = 4096;

struct OptimizerStepKernels {
  void (*step)(const StepCall& call);
};

BITTERN_DISPATCH(optimizer_step, OptimizerStepKernels)

}  // namespace bittern
