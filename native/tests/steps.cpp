// SPDX-License-Identifier: Apache-2.0

// optimizer_step with parameters and gradients of every type, Kahan's compensation, random bits, gradients
// that are not finite, and several rows: every instruction set against the scalar one, bit for bit.

#include "harness.h"
#include "numbers.h"
#include "optimizer_step/kernel.h"

namespace bittern::test {
namespace {

constexpr i64 kRows = 3, kRow = 333, kBlock = 128, kStates = 4;
constexpr i64 kNumel = kRows * kRow, kBlocks = kRows * ((kRow + kBlock - 1) / kBlock);

enum class Rounding { nearest, random, compensated };

struct Kind {
  Rule rule;
  i64 bits;
  DType param, grad;
  Rounding rounding;
  bool at_random;  // states of 4 bits, and squares of 8
};

// Everything that a step reads and writes of one tensor.
struct Tensor {
  std::vector<u8> param, grad, compensation, codes;
  std::vector<float> floats, absmax;

  explicit Tensor(const Kind& kind)
      : compensation(static_cast<std::size_t>(kNumel * bytes_of(kind.param)), 0),
        codes(static_cast<std::size_t>(kStates * kNumel), 0),
        floats(static_cast<std::size_t>(kStates * kNumel), 0.0f),
        absmax(static_cast<std::size_t>(kStates * kBlocks * 2), 0.0f) {
    constexpr i64 kOddPeriod = 40;
    Random random(9);
    param = in_memory(kind.param, spread_numbers(random, kNumel));
    std::vector<float> gradient = spread_numbers(random, kNumel);
    spoil(random, gradient, kOddPeriod);
    grad = in_memory(kind.grad, gradient);
  }

  StepTensor view(const Kind& kind) {
    const bool coded = kind.bits != 32;
    StepTensor t{};
    t.param = param.data();
    t.grad = grad.data();
    for (i64 k = 0; k < kStates; ++k) {
      t.state[k] = coded && !is_exact(kind.rule, k) ? static_cast<void*>(codes.data() + k * kNumel)
                                                    : floats.data() + k * kNumel;
      t.absmax[k] = coded ? absmax.data() + k * kBlocks * 2 : nullptr;
    }
    t.compensation = kind.rounding == Rounding::compensated ? compensation.data() : nullptr;
    t.numel = kNumel;
    t.row = kRow;
    t.block = kBlock;
    t.bits = kind.bits;
    t.dtypes = static_cast<i64>(kind.param) + 16 * static_cast<i64>(kind.grad);
    return t;
  }

  bool equals(const Tensor& other) const {
    const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
      return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    };
    return param == other.param && compensation == other.compensation && codes == other.codes &&
           same(floats, other.floats) && same(absmax, other.absmax);
  }
};

constexpr i64 kScalars = 16;

std::vector<float> scalars() {
  std::vector<float> s(static_cast<std::size_t>(kScalars));
  for (std::size_t i = 0; i < s.size(); ++i) s[i] = 0.25f + 0.03125f * static_cast<float>(i);
  return s;
}

Tensor stepped(Isa isa, const Kind& kind) {
  constexpr int kSteps = 3, kThreads = 2;
  Tensor tensor(kind);
  const StepTensor view = tensor.view(kind);
  const std::vector<float> s = scalars();
  for (int i = 0; i < kSteps; ++i) {
    const bool random = kind.rounding == Rounding::random;
    const u64 seed = static_cast<u64>(i) << 32;
    optimizer_step_kernels(isa).step({kind.rule, &view, 1, s.data(), kScalars, random, static_cast<u64>(i),
                                      kThreads, nullptr, nullptr, &seed, 1, kind.at_random ? 4 + 8 : 0});
  }
  return tensor;
}

// The two sums of squares of a rule with a trust ratio, after some steps.
std::vector<double> norms(Isa isa, const Kind& kind) {
  Tensor tensor = stepped(isa, kind);
  const StepTensor view = tensor.view(kind);
  const std::vector<float> s = scalars();
  std::vector<double> found(2);
  const u64 seed = 5;
  optimizer_step_kernels(isa).step({kind.rule, &view, 1, s.data(), kScalars, false, 0, 1, found.data(),
                                    nullptr, &seed, 1, kind.at_random ? 4 + 8 : 0});
  return found;
}

std::string describe(Isa isa, const Kind& kind) {
  constexpr const char* kRoundings[] = {"to nearest", "by random bits", "compensated"};
  return std::string(isa_name(isa)) + ": rule " + std::to_string(static_cast<int>(kind.rule)) + ", " +
         std::to_string(kind.bits) + " bits, parameter " + type_name(kind.param) + ", gradient " +
         type_name(kind.grad) + ", " + kRoundings[static_cast<int>(kind.rounding)] +
         (kind.at_random ? ", states at random" : "");
}

}  // namespace

void test_step_types(Isa isa, Results& results) {
  if (isa == Isa::scalar) return;  // what the others are compared with
  constexpr struct {
    DType param, grad;
    Rounding rounding;
  } kForms[] = {
      {DType::f32, DType::f32, Rounding::nearest},     {DType::f32, DType::bf16, Rounding::nearest},
      {DType::f32, DType::f16, Rounding::nearest},     {DType::bf16, DType::bf16, Rounding::nearest},
      {DType::bf16, DType::f32, Rounding::random},     {DType::bf16, DType::bf16, Rounding::compensated},
      {DType::f16, DType::f16, Rounding::compensated}, {DType::f16, DType::f32, Rounding::nearest}};
  for (int rule = 0; rule < static_cast<int>(Rule::count); ++rule) {
    for (i64 bits : {32, 8, 4}) {
      for (const auto& form : kForms) {
        const Kind kind{static_cast<Rule>(rule), bits, form.param, form.grad, form.rounding, bits < 32};
        results.record(stepped(isa, kind).equals(stepped(Isa::scalar, kind)), describe(isa, kind));
        if (bits < 32) {
          Kind nearest = kind;
          nearest.at_random = false;
          results.record(stepped(isa, nearest).equals(stepped(Isa::scalar, nearest)), describe(isa, nearest));
        }
        if (kind.rule != Rule::lamb && kind.rule != Rule::lars) continue;
        results.record(norms(isa, kind) == norms(Isa::scalar, kind), describe(isa, kind) + ", norms");
      }
    }
  }
}

}  // namespace bittern::test
