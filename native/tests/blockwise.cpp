// SPDX-License-Identifier: Apache-2.0

// quantize_blockwise and dequantize_blockwise with every kind of table, type and rounding: every instruction
// set against the scalar one, bit for bit.

#include <algorithm>

#include "harness.h"
#include "numbers.h"
#include "quantize_blockwise/kernel.h"

namespace bittern::test {
namespace {

constexpr i64 kCounts[] = {1, 7, 15, 16, 17, 63, 64, 65, 257, 1000, 4097};
constexpr DType kTypes[] = {DType::f32, DType::bf16, DType::f16};

struct Table {
  std::string name;
  CodeTable table;
  bool nibbles;
};

std::vector<float> ascending(Random& random, int count) {
  std::vector<float> entries(static_cast<std::size_t>(count));
  for (float& value : entries) value = random.uniform() / 2;
  std::sort(entries.begin(), entries.end());
  entries.back() = 1;
  return entries;
}

std::vector<Table> tables() {
  Random random(5);
  std::vector<Table> found;
  const auto add = [&](const std::string& name, const float* entries, int count, bool keep_nonzero) {
    Table t{name + (keep_nonzero ? ", keep_nonzero" : ""), {}, count <= 16};
    prepare_table(t.table, entries, count, keep_nonzero);
    found.push_back(t);
  };
  for (bool keep_nonzero : {false, true}) {
    add("signed tree", tree_tables(Code::signed_tree8).values, 256, keep_nonzero);
    add("unsigned tree", tree_tables(Code::unsigned_tree8).values, 256, keep_nonzero);
    for (int count : {2, 5, 15, 16, 100, 256}) {
      add(std::to_string(count) + " entries", ascending(random, count).data(), count, keep_nonzero);
    }
  }
  return found;
}

i64 code_bytes_of(const Table& t, i64 n) {
  return t.nibbles ? ceil_div(n, 2) : n;
}

std::vector<float> inputs(Random& random, i64 n, bool odd) {
  constexpr i64 kOddPeriod = 50;
  std::vector<float> x = spread_numbers(random, n);
  if (odd) spoil(random, x, kOddPeriod);
  return x;
}

// Codes, then the bytes of absmax.
std::vector<u8> quantized(Isa isa, const Table& t, QuantizeCall call) {
  const i64 bytes = code_bytes_of(t, call.n), blocks = ceil_div(call.n, call.block_size);
  Guarded<u8> codes(bytes);
  Guarded<float> absmax(blocks);
  call.codes = codes.data();
  call.absmax = absmax.data();
  quantize_blockwise_kernels(isa).quantize(call, t.table, 2);
  std::vector<u8> all(codes.data(), codes.data() + bytes);
  const u8* scales = reinterpret_cast<const u8*>(absmax.data());
  all.insert(all.end(), scales, scales + blocks * static_cast<i64>(sizeof(float)));
  if (!codes.intact() || !absmax.intact()) all.clear();
  return all;
}

std::vector<u8> dequantized(Isa isa, const Table& t, DequantizeCall call) {
  Guarded<u8> out(call.n * bytes_of(call.type));
  call.out = out.data();
  quantize_blockwise_kernels(isa).dequantize(call, t.table, 2);
  if (!out.intact()) return {};
  return std::vector<u8>(out.data(), out.data() + call.n * bytes_of(call.type));
}

void test_forward(Isa isa, const Table& t, DType type, i64 n, bool odd, Results& results) {
  Random random(static_cast<unsigned>(n) + (odd ? 1 : 0));
  const std::vector<u8> x = in_memory(type, inputs(random, n, odd));
  for (i64 block : {64, 256}) {
    for (bool stochastic : {false, true}) {
      const QuantizeCall call{x.data(), type, n, block, t.nibbles, stochastic, 77, nullptr, nullptr};
      results.record(quantized(isa, t, call) == quantized(Isa::scalar, t, call),
                     std::string(isa_name(isa)) + ": quantize " + std::to_string(n) + " " + type_name(type) +
                         (odd ? " with NaN and infinities" : "") + " by blocks of " + std::to_string(block) +
                         ", " + t.name + (stochastic ? ", stochastic" : ""));
    }
  }
}

void test_back(Isa isa, const Table& t, DType type, i64 n, Results& results) {
  Random random(static_cast<unsigned>(n));
  constexpr i64 kBlock = 64;
  std::vector<u8> codes(static_cast<std::size_t>(code_bytes_of(t, n)));
  for (u8& code : codes) {
    const i64 first = random.below(t.table.entries), second = random.below(t.table.entries);
    code = static_cast<u8>(t.nibbles ? first << 4 | second : first);
  }
  const std::vector<float> absmax = spread_numbers(random, ceil_div(n, kBlock));
  const DequantizeCall call{codes.data(), absmax.data(), n, kBlock, t.nibbles, type, nullptr};
  results.record(dequantized(isa, t, call) == dequantized(Isa::scalar, t, call),
                 std::string(isa_name(isa)) + ": dequantize " + std::to_string(n) + " " + type_name(type) +
                     ", " + t.name);
}

float from_bits(u32 bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// Every border between levels with its neighbours, and both ends of every stretch of floats that share their
// upper 16 bits, in blocks that each begin with 1 so that no number is scaled.
std::vector<float> decisive_numbers(const TreeTables& tree, i64 block) {
  constexpr u32 kOne = 0x3f800000;
  std::vector<float> found;
  const auto add = [&](float y) {
    for (float x : {y, -y}) {
      if (static_cast<i64>(found.size()) % block == 0) found.push_back(1.0f);
      if (x >= 0 || tree.is_signed) found.push_back(x);
    }
  };
  for (u32 upper = 0; upper < kOne; upper += 1u << 16) {
    add(from_bits(upper));
    add(from_bits(upper | 0xffffu));
  }
  for (int p = 1; p <= tree.levels; ++p) {
    const u32 border = float_bits(tree.borders[p]);
    for (u32 bits : {border - 1, border, border + 1}) add(from_bits(std::min(bits, kOne)));
  }
  return found;
}

void test_decisive(Isa isa, Results& results) {
  constexpr i64 kBlock = 256;
  for (Code code : {Code::signed_tree8, Code::unsigned_tree8, Code::state_tree8}) {
    const TreeTables& tree = tree_tables(code);
    Table t{"tree " + std::to_string(static_cast<int>(code)), {}, false};
    prepare_table(t.table, tree.values, 256, code == Code::state_tree8);
    const std::vector<float> x = decisive_numbers(tree, kBlock);
    const QuantizeCall call{x.data(), DType::f32, static_cast<i64>(x.size()), kBlock, false, false, 0,
                            nullptr,  nullptr};
    results.record(
        t.table.tree == static_cast<int>(code) && quantized(isa, t, call) == quantized(Isa::scalar, t, call),
        std::string(isa_name(isa)) + ": borders of " + t.name);
  }
}

}  // namespace

void test_blockwise(Isa isa, Results& results) {
  if (isa == Isa::scalar) return;  // what the others are compared with
  test_decisive(isa, results);
  for (const Table& t : tables()) {
    for (DType type : kTypes) {
      for (i64 n : kCounts) {
        for (bool odd : {false, true}) test_forward(isa, t, type, n, odd, results);
        test_back(isa, t, type, n, results);
      }
    }
  }
}

}  // namespace bittern::test
