// SPDX-License-Identifier: Apache-2.0

// Plain loops that the compiler turns into vectors; included inside the namespace of one instruction set.
//
// All four float types are written as bit patterns: that of +1, with the sign bit set where the packed bit is
// 0.

namespace {

constexpr i64 kUnpackTask = 256;  // words per task: 64 KiB of float32

template <class Bits>
struct UnpackJob {
  const u64* words;
  Bits* out;
  i64 rows, cols, words_per_row;
  Bits one;
};

template <class Bits>
inline void unpack_byte(u32 byte, Bits one, Bits* __restrict__ out) {
  constexpr int kSignBit = 8 * sizeof(Bits) - 1;
  for (int i = 0; i < 8; ++i) {
    const Bits minus = static_cast<Bits>((~byte >> i) & 1u);
    out[i] = static_cast<Bits>(one | static_cast<Bits>(minus << kSignBit));
  }
}

template <class Bits>
void unpack_word(u64 word, Bits one, i64 count, Bits* out) {
  i64 c = 0;
  for (; c + 8 <= count; c += 8) unpack_byte(static_cast<u32>(word >> c & 0xff), one, out + c);
  if (c == count) return;
  Bits rest[8];
  unpack_byte(static_cast<u32>(word >> c & 0xff), one, rest);
  for (i64 i = 0; c + i < count; ++i) out[c + i] = rest[i];
}

template <class Bits>
void unpack_task(void* context, i64 index) {
  const auto& job = *static_cast<const UnpackJob<Bits>*>(context);
  const i64 first = index * kUnpackTask, end = smaller(job.rows * job.words_per_row, first + kUnpackTask);
  i64 row = first / job.words_per_row, word = first % job.words_per_row;
  for (i64 i = first; i < end; ++i) {
    const i64 col = word * kWordBits;
    unpack_word(job.words[i], job.one, smaller(kWordBits, job.cols - col), job.out + row * job.cols + col);
    if (++word == job.words_per_row) word = 0, ++row;
  }
}

template <class Bits>
void unpack_all(const u64* words, i64 rows, i64 cols, u64 one, void* out, int threads) {
  const i64 words_per_row = ceil_div(cols, kWordBits);
  UnpackJob<Bits> job{words, static_cast<Bits*>(out), rows, cols, words_per_row, static_cast<Bits>(one)};
  parallel_for(ceil_div(rows * words_per_row, kUnpackTask), threads, unpack_task<Bits>, &job);
}

void unpack_any(const u64* words, i64 rows, i64 cols, DType type, void* out, int threads) {
  switch (type) {
    case DType::f32:
      return unpack_all<u32>(words, rows, cols, 0x3f800000, out, threads);
    case DType::f64:
      return unpack_all<u64>(words, rows, cols, 0x3ff0000000000000, out, threads);
    case DType::f16:
      return unpack_all<u16>(words, rows, cols, 0x3c00, out, threads);
    case DType::bf16:
      return unpack_all<u16>(words, rows, cols, 0x3f80, out, threads);
    case DType::i32:
      return;
  }
}

}  // namespace

const UnpackSignsKernels unpack_signs_kernels = {unpack_any};
