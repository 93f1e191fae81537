// SPDX-License-Identifier: Apache-2.0

// What the native tests share: counting, buffers with guards around them, random data.
#pragma once

#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "isa.h"
#include "types.h"

namespace bittern::test {

// Counts cases and says which failed.
class Results {
 public:
  void record(bool passed, const std::string& what) {
    ++(passed ? passed_ : failed_);
    constexpr int kShown = 20;
    if (!passed && failed_ <= kShown) std::printf("FAILED: %s\n", what.c_str());
  }
  int passed() const { return passed_; }
  int failed() const { return failed_; }

 private:
  int passed_ = 0, failed_ = 0;
};

// n elements between two stretches of known bytes, filled with another known byte, so that both a write
// outside and an element left unwritten are seen.
template <class T>
class Guarded {
 public:
  explicit Guarded(i64 n) : size_(n * static_cast<i64>(sizeof(T))), bytes_(size_ + 2 * kGuard, kFill) {
    std::memset(bytes_.data(), kCanary, kGuard);
    std::memset(bytes_.data() + kGuard + size_, kCanary, kGuard);
  }
  T* data() { return reinterpret_cast<T*>(bytes_.data() + kGuard); }
  T operator[](i64 i) const {
    T value;
    std::memcpy(&value, bytes_.data() + kGuard + i * static_cast<i64>(sizeof(T)), sizeof value);
    return value;
  }
  bool intact() const {
    for (i64 i = 0; i < kGuard; ++i) {
      if (bytes_[i] != kCanary || bytes_[kGuard + size_ + i] != kCanary) return false;
    }
    return true;
  }

 private:
  static constexpr i64 kGuard = 64;
  static constexpr u8 kCanary = 0xa5, kFill = 0x5a;
  i64 size_;
  std::vector<u8> bytes_;
};

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  i64 below(i64 n) { return static_cast<i64>(engine_() % static_cast<u64>(n)); }
  float uniform() { return std::uniform_real_distribution<float>(-2, 2)(engine_); }
  u64 word() { return engine_(); }
  template <std::size_t n>
  i64 pick(const i64 (&values)[n]) {
    return values[below(n)];
  }

 private:
  std::mt19937_64 engine_;
};

void test_elementwise(Isa isa, Results& results);
void test_estimators(Isa isa, Results& results);
void test_conv2d(Isa isa, Results& results);
void test_codes(Isa isa, Results& results);
void test_blockwise(Isa isa, Results& results);
void test_step_types(Isa isa, Results& results);
void test_linear(Isa isa, Results& results);
void test_groups(Isa isa, Results& results);
void test_integers(Isa isa, Results& results);
void test_real(Isa isa, Results& results);
void test_rows(Isa isa, Results& results);
void test_bits(Isa isa, Results& results);
void test_multibit(Isa isa, Results& results);
void test_threads(bool with_fork, Results& results);

}  // namespace bittern::test
