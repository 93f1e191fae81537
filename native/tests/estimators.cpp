// SPDX-License-Identifier: Apache-2.0

// Gradient estimators against plain loops where they are exact, and against the scalar kernels, whose bits
// all have.

#include <cmath>
#include <cstring>
#include <functional>

#include "clipped_sign/kernel.h"
#include "flat_bits/kernel.h"
#include "harness.h"
#include "scaled_gradient/kernel.h"
#include "shifted_sign/kernel.h"
#include "sign_slopes/kernel.h"
#include "standard_sign/kernel.h"

namespace bittern::test {
namespace {

constexpr int kThreadCounts[] = {1, 3};

std::vector<float> draw(Random& random, i64 n) {
  constexpr float kEdges[] = {0.0f, -0.0f, 1.0f, -1.0f, 1e-45f, -1e-45f, 1e5f, -3e38f, INFINITY, -INFINITY};
  std::vector<float> values(static_cast<std::size_t>(n));
  for (float& x : values) x = random.below(8) == 0 ? kEdges[random.below(10)] : random.uniform();
  return values;
}

std::vector<float> draw_plain(Random& random, i64 n) {
  std::vector<float> values(static_cast<std::size_t>(n));
  for (float& x : values) x = random.uniform();
  return values;
}

// Two runs into guarded memory give the same bytes: NaN is compared as bits are, but for its sign.
template <class T, class Run>
bool same(i64 n, Run mine, Run theirs) {
  Guarded<T> a(n), b(n);
  mine(a.data());
  theirs(b.data());
  bool good = a.intact() && b.intact();
  for (i64 i = 0; i < n; ++i) {
    const T x = a[i], y = b[i];
    good &= std::memcmp(&x, &y, sizeof x) == 0 || (x != x && y != y);
  }
  return good;
}

// call(kernels, out) for the kernels of `isa` and the scalar ones.
template <class Kernels, class Call>
bool like_scalar(const Kernels& kernels, const Kernels& scalar, i64 n, Call call) {
  using Run = std::function<void(float*)>;
  return same<float>(n, Run([&](float* out) { call(kernels, out); }),
                     Run([&](float* out) { call(scalar, out); }));
}

void test_masks(Isa isa, i64 n, int threads, Results& results) {
  Random random(static_cast<unsigned>(n));
  std::vector<float> x = draw(random, n);
  if (n > 3) x[3] = NAN;
  const std::vector<float> grad = draw_plain(random, n);
  const ClippedSignKernels& kernels = clipped_sign_kernels(isa);
  Guarded<float> out(n), levels(n), gradient(n);
  Guarded<u8> mask(ceil_div(n, 8)), inside(ceil_div(n, 8));
  kernels.sign(x.data(), n, 1.0f, out.data(), mask.data(), threads);
  kernels.levels(x.data(), n, 7.0f, levels.data(), inside.data(), threads);
  kernels.gradient(grad.data(), mask.data(), n, 3.0f, gradient.data(), threads);
  bool good = out.intact() && levels.intact() && gradient.intact() && mask.intact() && inside.intact();
  for (i64 i = 0; i < ceil_div(n, 8) * 8; ++i) {
    const bool here = i < n;
    const float value = here ? x[static_cast<std::size_t>(i)] : NAN;
    const bool bit = mask[i / 8] >> (i % 8) & 1, other = inside[i / 8] >> (i % 8) & 1;
    good &= bit == (std::fabs(value) <= 1.0f) && other == (value >= 0.0f && value <= 1.0f);
    if (!here) continue;
    const float clipped = value > 0 ? (value > 1 ? 1.0f : value) : 0.0f;
    good &= out[i] == (value >= 0 ? 1.0f : -1.0f) && levels[i] == std::nearbyintf(clipped * 7.0f);
    good &= gradient[i] == grad[static_cast<std::size_t>(i)] * (bit ? 3.0f : 0.0f);
  }
  results.record(good, std::string("clipped_sign ") + isa_name(isa) + " " + std::to_string(n));
}

void test_slopes(Isa isa, i64 n, int threads, Results& results) {
  Random random(static_cast<unsigned>(n));
  const std::vector<float> x = draw(random, n), g = draw_plain(random, n);
  const SignSlopesKernels &mine = sign_slopes_kernels(isa), &scalar = sign_slopes_kernels(Isa::scalar);
  const float *at = x.data(), *grad = g.data();
  const std::string name = std::string(" ") + isa_name(isa) + " " + std::to_string(n);
  bool good = like_scalar(
      mine, scalar, n, [&](const SignSlopesKernels& k, float* out) { k.approx(grad, at, n, out, threads); });
  results.record(good, "approx" + name);
  for (float t : {1e-3f, 0.5f, 10.0f}) {
    good = like_scalar(mine, scalar, n, [&](const SignSlopesKernels& k, float* out) {
      k.error_decay(grad, at, n, t, 2.0f, out, threads);
    });
    results.record(good, "error_decay" + name);
  }
  const FourierSlope slopes[] = {{0.1, 19, 1.0f, false, 0.0f}, {3.0, 10, 3e38f, true, 0.5f}};
  for (const FourierSlope& slope : slopes) {
    good = like_scalar(mine, scalar, n, [&](const SignSlopesKernels& k, float* out) {
      k.fourier(grad, at, n, slope, out, threads);
    });
    results.record(good, "fourier" + name);
  }
  good = like_scalar(mine, scalar, n, [&](const SignSlopesKernels& k, float* out) {
    k.noisy_sign(at, grad, n, 0.1f, out, threads);
  });
  results.record(good, "noisy_sign" + name);
}

void test_standard(Isa isa, i64 samples, i64 n, int threads, Results& results) {
  Random random(static_cast<unsigned>(n));
  const std::vector<float> x = draw_plain(random, samples * n), g = draw_plain(random, samples * n);
  const StandardSignKernels &mine = standard_sign_kernels(isa), &scalar = standard_sign_kernels(Isa::scalar);
  const ScaledGradientKernels &both = scaled_gradient_kernels(isa),
                              &plain = scaled_gradient_kernels(Isa::scalar);
  std::vector<float> values(x.size()), statistics(static_cast<std::size_t>(2 * samples)), sums(x.size());
  scalar.sign(x.data(), samples, n, 1e-5, values.data(), statistics.data(), 1);
  const std::string name =
      std::string(" ") + isa_name(isa) + " " + std::to_string(samples) + "x" + std::to_string(n);
  bool good = like_scalar(mine, scalar, samples * n, [&](const StandardSignKernels& k, float* out) {
    k.sign(x.data(), samples, n, 1e-5, out, statistics.data(), threads);
  });
  good &= like_scalar(mine, scalar, 2 * samples, [&](const StandardSignKernels& k, float* out) {
    k.sign(x.data(), samples, n, 1e-5, values.data(), out, threads);
  });
  good &= like_scalar(mine, scalar, samples * n, [&](const StandardSignKernels& k, float* out) {
    k.gradient(g.data(), x.data(), statistics.data(), samples, n, out, threads);
  });
  results.record(good, "standard_sign" + name);
  const float* factor = g.data();
  good = like_scalar(both, plain, samples * n, [&](const ScaledGradientKernels& k, float* out) {
    k.gradient(g.data(), x.data(), factor, samples, n, out, sums.data(), threads);
  });
  good &= like_scalar(both, plain, n, [&](const ScaledGradientKernels& k, float* out) {
    k.gradient(g.data(), x.data(), factor, samples, n, values.data(), out, threads);
  });
  results.record(good, "scaled_gradient" + name);
}

void test_whole(Isa isa, i64 rows, i64 n, int threads, Results& results) {
  Random random(static_cast<unsigned>(n));
  const ScaledGradientKernels &mine = scaled_gradient_kernels(isa),
                              &scalar = scaled_gradient_kernels(Isa::scalar);
  const std::vector<float> g = draw_plain(random, rows * n), factor = draw_plain(random, n);
  std::vector<float> y(g.size());
  for (float& value : y) value = static_cast<float>(random.below(65535)) - 32767.0f;
  Guarded<u16> lifted(rows * n);
  Guarded<float> out(rows * n), to_y(rows * n), to_factor(n), expected(n);
  bool good = mine.scale_whole(y.data(), factor.data(), rows, n, out.data(), lifted.data(), threads);
  for (i64 i = 0; i < rows * n; ++i) {
    const float value = y[static_cast<std::size_t>(i)];
    good &= lifted[i] == static_cast<u16>(value + 32768.0f);
    good &= out[i] == value * factor[static_cast<std::size_t>(i % n)];
  }
  mine.gradient_of_whole(g.data(), lifted.data(), factor.data(), rows, n, to_y.data(), to_factor.data(),
                         threads);
  scalar.gradient(g.data(), y.data(), factor.data(), rows, n, to_y.data(), expected.data(), 1);
  for (i64 j = 0; j < n; ++j) good &= to_factor[j] == expected[j];
  good &= lifted.intact() && out.intact() && to_y.intact() && to_factor.intact();
  if (rows * n > 0) {
    y.back() = 0.5f;
    good &= !mine.scale_whole(y.data(), factor.data(), rows, n, out.data(), lifted.data(), threads);
  }
  results.record(good, std::string("scale_whole ") + isa_name(isa) + " " + std::to_string(n));
}

void test_shifted(Isa isa, i64 outer, i64 channels, i64 inner, int threads, Results& results) {
  Random random(static_cast<unsigned>(channels + inner));
  const i64 n = outer * channels * inner;
  const std::vector<float> x = draw(random, n), g = draw_plain(random, n),
                           shift = draw_plain(random, channels);
  const ShiftedSignKernels &mine = shifted_sign_kernels(isa), &scalar = shifted_sign_kernels(Isa::scalar);
  const ShiftedImages images{x.data(), shift.data(), outer, channels, inner};
  std::vector<float> sums(static_cast<std::size_t>(images.parts() * channels)), to_x(x.size()),
      to_shift(shift.size());
  bool good = like_scalar(mine, scalar, n,
                          [&](const ShiftedSignKernels& k, float* out) { k.sign(images, out, threads); });
  good &= like_scalar(mine, scalar, n, [&](const ShiftedSignKernels& k, float* out) {
    k.gradient(images, g.data(), sums.data(), out, to_shift.data(), threads);
  });
  good &= like_scalar(mine, scalar, channels, [&](const ShiftedSignKernels& k, float* out) {
    k.gradient(images, g.data(), sums.data(), to_x.data(), out, threads);
  });
  results.record(good, std::string("shifted_sign ") + isa_name(isa) + " " + std::to_string(channels) + "x" +
                           std::to_string(inner));
}

void test_flat_bits(Isa isa, i64 n, int threads, Results& results) {
  Random random(static_cast<unsigned>(n));
  const FlatBitsKernels& kernels = flat_bits_kernels(isa);
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& value : x) value = random.below(2) == 0 ? -1.0f : 1.0f;
  const i64 rows = n / 3;
  Guarded<u64> bits(ceil_div(n, kWordBits)), words(rows);
  Guarded<float> back(n);
  bool good = kernels.pack(x.data(), n, -1.0f, bits.data(), threads);
  kernels.unpack(bits.data(), n, -1.0f, back.data(), threads);
  kernels.rows(bits.data(), rows, 3, words.data(), threads);
  good &= bits.intact() && back.intact() && words.intact();
  for (i64 i = 0; i < n; ++i) {
    const float value = x[static_cast<std::size_t>(i)];
    good &= back[i] == value && (bits[i / kWordBits] >> i % kWordBits & 1) == (value == 1.0f);
    if (i < 3 * rows) good &= (words[i / 3] >> i % 3 & 1) == (value == 1.0f) && words[i / 3] < 8;
  }
  if (n > 0) {
    x.back() = 0.5f;
    good &= !kernels.pack(x.data(), n, -1.0f, bits.data(), threads);
  }
  results.record(good, std::string("flat_bits ") + isa_name(isa) + " " + std::to_string(n));
}

}  // namespace

void test_estimators(Isa isa, Results& results) {
  for (int threads : kThreadCounts) {
    for (i64 n : {0, 1, 7, 63, 64, 65, 257, 40001}) {
      test_masks(isa, n, threads, results);
      test_slopes(isa, n, threads, results);
      test_flat_bits(isa, n, threads, results);
    }
    for (i64 n : {2, 63, 64, 65, 1025, 4161}) {
      test_standard(isa, 3, n, threads, results);
      test_whole(isa, 3, n, threads, results);
      test_shifted(isa, 3, 2, n, threads, results);
      test_shifted(isa, 300, n, 1, threads, results);
    }
  }
}

}  // namespace bittern::test
