// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after sums.inl.h. A row lies in working memory,
// filled up with zeros to whole words of bits; its planes are words. What is compared and added passes a
// word, 64 numbers, at a time. The order of each operation is that of multibit_quantize/__init__.py.

namespace {

constexpr int kMost = kMostMultibitPlanes;
constexpr int kWordVectors = static_cast<int>(kWordBits / kLanes);
constexpr double kDependent = 1.0 / 1024;  // a pivot below this is 0: see least_squares in reference.py

// One row on its way: `x` and `rest` [words * 64], `planes` [kMost][words].
struct Row {
  i64 n, words;
  int planes;
  const float* x;
  float* rest;
  u64* bits;
  float scale[kMost];

  u64* plane(int i) const { return bits + i * words; }
  // The bits of a word that stand for numbers.
  u64 used(i64 word) const {
    const i64 left = n - word * kWordBits;
    return left >= kWordBits ? ~u64{0} : (u64{1} << left) - 1;
  }
};

// Lanes whose bit is set, of the lowest kLanes bits.
inline Mask lanes_of(u64 bits) {
  alignas(64) static constexpr i32 kLaneBits[16] = {1,   2,   4,    8,    16,   32,   64,    128,
                                                    256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
  const I32 set = both(splat(static_cast<i32>(bits & 0xffff)), load(kLaneBits));
  return greater(set, splat(i32{0}));
}

inline F32 negative(F32 x) {
  return from_bits(exclusive_or(to_bits(x), splat(static_cast<i32>(0x80000000u))));
}

// Bits of a word of numbers that are at least t.
inline u64 compared(const float* x, F32 t) {
  u64 word = 0;
  BITTERN_UNROLL
  for (int v = 0; v < kWordVectors; ++v) {
    word |= static_cast<u64>(at_least(load(x + v * kLanes), t)) << (v * kLanes);
  }
  return word;
}

float sum_of_magnitudes(const float* x, i64 words) {
  F32 part[kParts];
  for (int j = 0; j < kParts; ++j) part[j] = splat(0.0f);
  for (i64 c = 0; c < words * kWordBits; c += kSums) {
    BITTERN_UNROLL
    for (int j = 0; j < kParts; ++j) part[j] = add(part[j], absolute(load(x + c + j * kLanes)));
  }
  return joined_vectors(part);
}

// sum of x where the plane has a bit, of -x elsewhere
float signed_sum(const Row& row, const u64* plane) {
  F32 part[kParts];
  for (int j = 0; j < kParts; ++j) part[j] = splat(0.0f);
  for (i64 w = 0; w < row.words; ++w) {
    const float* x = row.x + w * kWordBits;
    u64 bits = plane[w];
    for (int c = 0; c < kWordBits; c += kSums) {
      BITTERN_UNROLL
      for (int j = 0; j < kParts; ++j, bits >>= kLanes) {
        const F32 value = load(x + c + j * kLanes);
        part[j] = add(part[j], select(lanes_of(bits), value, negative(value)));
      }
    }
  }
  return joined_vectors(part);
}

i64 product_of_planes(const Row& row, int i, int j) {
  i64 differ = 0;
  for (i64 w = 0; w < row.words; ++w) differ += __builtin_popcountll(row.plane(i)[w] ^ row.plane(j)[w]);
  return row.n - 2 * differ;
}

// scale of the first `count` planes := the least squares of x
void least_squares(Row& row, int count) {
  double upper[kMost][kMost], low[kMost][kMost], target[kMost];
  for (int j = 0; j < count; ++j) {
    target[j] = signed_sum(row, row.plane(j));
    for (int i = j; i < count; ++i) {
      double u = static_cast<double>(product_of_planes(row, i, j));
      for (int m = 0; m < j; ++m) u = u - upper[i][m] * low[j][m];
      upper[i][j] = u;
      low[i][j] = upper[j][j] > kDependent ? u / upper[j][j] : 0.0;
    }
  }
  for (int i = 0; i < count; ++i) {
    for (int m = 0; m < i; ++m) target[i] = target[i] - low[i][m] * target[m];
  }
  for (int i = count - 1; i >= 0; --i) {
    double a = upper[i][i] > kDependent ? target[i] / upper[i][i] : 0.0;
    for (int m = i + 1; m < count; ++m) a = a - low[m][i] * target[m];
    target[i] = a;  // from here on what was found
    row.scale[i] = static_cast<float>(a);
  }
}

// ---- the start

void clear_surplus(Row& row) {
  for (i64 c = row.n; c < row.words * kWordBits; ++c) row.rest[c] = 0;
}

// plane i := signs of the rest
void take_signs(Row& row, int i) {
  for (i64 w = 0; w < row.words; ++w) {
    row.plane(i)[w] = compared(row.rest + w * kWordBits, splat(0.0f)) & row.used(w);
  }
}

// rest := rest - scale, or + scale where its sign is -
void leave_rest(Row& row, float scale) {
  const F32 a = splat(scale), zero = splat(0.0f);
  for (i64 c = 0; c < row.words * kWordBits; c += kLanes) {
    const F32 r = load(row.rest + c);
    store(row.rest + c, select(lanes_of(at_least(r, zero)), subtract(r, a), add(r, a)));
  }
  clear_surplus(row);
}

// rest := x less the sum of the first `count` planes
void leave_rest_of_all(Row& row, int count) {
  for (i64 c = 0; c < row.words * kWordBits; c += kLanes) {
    F32 total = splat(0.0f);
    for (int i = 0; i < count; ++i) {
      const u64 bits = row.plane(i)[c / kWordBits] >> (c % kWordBits);
      const F32 term = select(lanes_of(bits), splat(row.scale[i]), splat(-row.scale[i]));
      total = i == 0 ? term : add(total, term);
    }
    store(row.rest + c, subtract(load(row.x + c), total));
  }
  clear_surplus(row);
}

void start(Row& row, bool refined) {
  std::memcpy(row.rest, row.x, static_cast<std::size_t>(row.words * kWordBits) * sizeof(float));
  for (int i = 0; i < row.planes; ++i) {
    take_signs(row, i);
    if (refined) {
      least_squares(row, i + 1);
    } else {
      row.scale[i] = sum_of_magnitudes(row.rest, row.words) / static_cast<float>(row.n);
    }
    if (i + 1 == row.planes) return;
    refined ? leave_rest_of_all(row, i + 1) : leave_rest(row, row.scale[i]);
  }
}

// ---- a cycle

// +-scale[0] +- scale[1] ..., the sign of the first plane in the highest bit of the code.
float combined(const Row& row, int code) {
  float total = 0;
  for (int i = 0; i < row.planes; ++i) {
    const float term = (code >> (row.planes - 1 - i) & 1) != 0 ? row.scale[i] : -row.scale[i];
    total = i == 0 ? term : total + term;
  }
  return total;
}

void sort_scales(Row& row) {
  for (int i = 0; i < row.planes; ++i) {
    const float a = __builtin_fabsf(row.scale[i]);
    int place = i;
    for (; place > 0 && row.scale[place - 1] < a; --place) row.scale[place] = row.scale[place - 1];
    row.scale[place] = a;
  }
}

// All sums of scales in ascending order: `codes`, and the `borders` between neighbours.
void sort_codes(const Row& row, u8* codes, float* borders) {
  const int count = 1 << row.planes;
  float sums[1 << kMost];
  for (int code = 0; code < count; ++code) {
    const float sum = combined(row, code);
    int place = code;
    for (; place > 0 && sum < sums[place - 1]; --place) {
      sums[place] = sums[place - 1];
      codes[place] = codes[place - 1];
    }
    sums[place] = sum;
    codes[place] = static_cast<u8>(code);
  }
  for (int i = 0; i + 1 < count; ++i) borders[i] = 0.5f * sums[i] + 0.5f * sums[i + 1];
}

// A number passes the borders below it one by one; at each, the planes in which its two codes differ turn.
void take_nearest(Row& row) {
  const int borders = (1 << row.planes) - 1;
  u8 codes[1 << kMost];
  float border[1 << kMost];
  sort_codes(row, codes, border);
  for (i64 w = 0; w < row.words; ++w) {
    u64 plane[kMost] = {};
    for (int b = 0; b < borders; ++b) {
      const u64 passed = compared(row.x + w * kWordBits, splat(border[b]));
      const int turned = codes[b] ^ codes[b + 1];
      for (int i = 0; i < row.planes; ++i) {
        plane[i] ^= (turned >> (row.planes - 1 - i) & 1) != 0 ? passed : 0;
      }
    }
    for (int i = 0; i < row.planes; ++i) row.plane(i)[w] = plane[i] & row.used(w);
  }
}

bool finite_scales(const Row& row) {
  bool finite = true;
  for (int i = 0; i < row.planes; ++i) finite &= __builtin_isfinite(row.scale[i]);
  return finite;
}

// False: its scales are not finite.
bool quantize_row(Row& row, i64 cycles, bool refined) {
  start(row, refined);
  for (i64 cycle = 0; cycle < cycles && finite_scales(row); ++cycle) {
    least_squares(row, row.planes);
    if (!finite_scales(row)) return false;
    sort_scales(row);
    take_nearest(row);
  }
  return finite_scales(row) && __builtin_isfinite(combined(row, (1 << row.planes) - 1));
}

void quantize_task(void* context, i64 index) {
  const auto& job = *static_cast<const MultibitRows*>(context);
  const i64 words = ceil_div(job.n, kWordBits), numbers = words * kWordBits;
  float* memory = scratch_array<float>(Scratch::linear_input, 2 * numbers);
  Row row{job.n,
          words,
          job.planes,
          memory,
          memory + numbers,
          scratch_array<u64>(Scratch::linear_rows, kMost * words),
          {}};
  std::memcpy(memory, job.x + index * job.n, static_cast<std::size_t>(job.n) * sizeof(float));
  for (i64 c = job.n; c < numbers; ++c) memory[c] = 0;
  const bool finite = quantize_row(row, job.cycles, job.refined);
  for (int i = 0; i < job.planes; ++i) {
    u64* out = job.words + (i * job.rows + index) * words;
    for (i64 w = 0; w < words; ++w) out[w] = finite ? row.plane(i)[w] : 0;
    job.scale[index * job.planes + i] = finite ? row.scale[i] : __builtin_nanf("");
  }
}

void quantize(const MultibitRows& job, int threads) {
  constexpr i64 kWorthThreads = i64{1} << 13;  // numbers
  parallel_for(job.rows, job.rows * job.n <= kWorthThreads ? 1 : threads, quantize_task,
               const_cast<MultibitRows*>(&job));
}

}  // namespace

const MultibitQuantizeKernels multibit_quantize_kernels = {quantize};
