// SPDX-License-Identifier: Apache-2.0

// Block codecs for 64 elements at a time, by lookups in tables of bytes that lie in registers (VBMI).
// Included inside namespace avx512.
//
// A float32 table of 256 entries is four tables of bytes. Interleaving the four bytes works within 128-bit
// lanes, so the codes are put in an order first that comes out straight.

namespace {

// kChunks times 64 bytes, numbers or bits that are worked on side by side, so that a table is loaded once for
// all: loads of 64 bytes are what the codecs have most of.
template <int kChunks>
struct Bytes {
  __m512i chunk[kChunks];
};
template <int kChunks>
struct Bits {
  __mmask64 chunk[kChunks];
};

template <int kChunks>
BITTERN_INLINE Bits<kChunks> top_bits(Bytes<kChunks> x) {
  Bits<kChunks> bits;
  BITTERN_UNROLL
  for (int c = 0; c < kChunks; ++c) bits.chunk[c] = _mm512_movepi8_mask(x.chunk[c]);
  return bits;
}

// table[i % 128]
template <int kChunks>
BITTERN_INLINE Bytes<kChunks> lookup_128(const u8* table, Bytes<kChunks> i) {
  const __m512i low = _mm512_loadu_si512(table), high = _mm512_loadu_si512(table + 64);
  BITTERN_UNROLL
  for (int c = 0; c < kChunks; ++c) i.chunk[c] = _mm512_permutex2var_epi8(low, i.chunk[c], high);
  return i;
}

// table[i] of 256 entries; `high` says which i are at least 128.
template <int kChunks>
BITTERN_INLINE Bytes<kChunks> lookup_256(const u8* table, Bytes<kChunks> i, Bits<kChunks> high) {
  const Bytes<kChunks> low = lookup_128(table, i), up = lookup_128(table + 128, i);
  BITTERN_UNROLL
  for (int c = 0; c < kChunks; ++c)
    i.chunk[c] = _mm512_mask_blend_epi8(high.chunk[c], low.chunk[c], up.chunk[c]);
  return i;
}

struct Floats64 {
  __m512 part[4];
};

// Groups of four bytes in the order that interleaving undoes.
BITTERN_INLINE __m512i before_interleave(__m512i bytes) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, bytes);
}

BITTERN_INLINE Floats64 interleave(__m512i b0, __m512i b1, __m512i b2, __m512i b3) {
  const __m512i low01 = _mm512_unpacklo_epi8(b0, b1), high01 = _mm512_unpackhi_epi8(b0, b1);
  const __m512i low23 = _mm512_unpacklo_epi8(b2, b3), high23 = _mm512_unpackhi_epi8(b2, b3);
  return {{_mm512_castsi512_ps(_mm512_unpacklo_epi16(low01, low23)),
           _mm512_castsi512_ps(_mm512_unpackhi_epi16(low01, low23)),
           _mm512_castsi512_ps(_mm512_unpacklo_epi16(high01, high23)),
           _mm512_castsi512_ps(_mm512_unpackhi_epi16(high01, high23))}};
}

// Values of codes that are in the order of before_interleave.
BITTERN_INLINE Floats64 tree_values(const TreeTables& t, __m512i codes) {
  const Bytes<1> i{{codes}};
  const Bits<1> high = top_bits(i);
  __m512i byte[4];
  BITTERN_UNROLL
  for (int j = 0; j < 4; ++j) byte[j] = lookup_256(t.value_bytes[j], i, high).chunk[0];
  return interleave(byte[0], byte[1], byte[2], byte[3]);
}

// The same for the signed tree, by magnitude and sign: half the lookups. 0 where `zero` says so, too.
BITTERN_INLINE Floats64 signed_tree_values(const TreeTables& t, __m512i codes, __mmask64 zero) {
  const __m512i middle = _mm512_set1_epi8(127);
  const __m512i level = _mm512_abs_epi8(_mm512_sub_epi8(codes, middle));
  // 255, the code of 1, stands too far from the middle for a sign in one byte
  const __m512i sign = _mm512_sub_epi8(_mm512_min_epu8(codes, _mm512_set1_epi8(-2)), middle);
  const __mmask64 present = _mm512_test_epi8_mask(level, level) & ~zero;
  __m512i byte[4];
  BITTERN_UNROLL
  for (int j = 0; j < 4; ++j)
    byte[j] = _mm512_maskz_permutex2var_epi8(present, _mm512_load_si512(t.magnitude_bytes[j]), level,
                                             _mm512_load_si512(t.magnitude_bytes[j] + 64));
  constexpr int kAndOr = 0xea;  // (a & b) | c
  byte[3] = _mm512_ternarylogic_epi32(sign, _mm512_maskz_set1_epi8(present, -128), byte[3], kAndOr);
  return interleave(byte[0], byte[1], byte[2], byte[3]);
}

// 64 numbers as 16-bit halves: elements 0 to 31 and 32 to 63.
struct Halves64 {
  __m512i part[2];
};

// Bytes lie in the order that unpacking and packing 16-bit numbers of one lane gives ("packed order"): in
// lane l first elements 8 l to 8 l + 7, then 32 + 8 l to 32 + 8 l + 7.
BITTERN_INLINE Halves64 unpack(__m512i low, __m512i high) {
  return {{_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)}};
}
BITTERN_INLINE __m512i pack(Halves64 x) {
  return _mm512_packus_epi16(x.part[0], x.part[1]);
}
BITTERN_INLINE __m512i straighten(__m512i packed) {
  return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), packed);
}

struct EncodeIndices {
  alignas(64) u16 upper_halves[32], lower_halves[32];
};

constexpr EncodeIndices encode_indices() {
  EncodeIndices t{};
  for (int i = 0; i < 32; ++i) {
    t.upper_halves[i] = static_cast<u16>(2 * i + 1);
    t.lower_halves[i] = static_cast<u16>(2 * i);
  }
  return t;
}

// In memory from the start: building them per block would stall on store forwarding.
constexpr EncodeIndices kIndices = encode_indices();

// Codes of kChunks * 64 numbers, found in parts that a caller may run between other work.
template <bool kSigned, int kChunks>
struct TreeEncoder {
  Halves64 top[kChunks], low[kChunks];
  Bits<kChunks> minus;
  Bytes<kChunks> level;
  __mmask32 has_border[kChunks][2];

  // Splits y = x * inverse into halves and sign.
  BITTERN_INLINE void split(const float* x, __m512 inverse) {
    const __m512i lower_halves = _mm512_load_si512(kIndices.lower_halves),
                  upper_halves = _mm512_load_si512(kIndices.upper_halves);
    BITTERN_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      __m512i y[4];
      // the sum turns -0, whose bits would name a bucket of its own, into +0 and changes nothing else
      BITTERN_UNROLL
      for (int i = 0; i < 4; ++i) {
        const __m512 number = _mm512_loadu_ps(x + 64 * c + 16 * i);
        y[i] = _mm512_castps_si512(_mm512_fmadd_ps(number, inverse, _mm512_setzero_ps()));
        if (!kSigned) y[i] = _mm512_sub_epi32(y[i], _mm512_set1_epi32(1));
      }
      BITTERN_UNROLL
      for (int i = 0; i < 2; ++i) {
        low[c].part[i] = _mm512_permutex2var_epi16(y[2 * i], lower_halves, y[2 * i + 1]);
        top[c].part[i] = _mm512_permutex2var_epi16(y[2 * i], upper_halves, y[2 * i + 1]);
      }
      if (!kSigned) continue;
      minus.chunk[c] =
          _mm512_kunpackd(_mm512_movepi16_mask(top[c].part[1]), _mm512_movepi16_mask(top[c].part[0]));
      BITTERN_UNROLL
      for (int i = 0; i < 2; ++i)
        top[c].part[i] = _mm512_and_si512(top[c].part[i], _mm512_set1_epi16(0x7fff));
    }
  }

  BITTERN_INLINE Bytes<kChunks> lookup(const u8* table, Bytes<kChunks> i, Bits<kChunks> high) const {
    return kSigned ? lookup_128(table, i) : lookup_256(table, i, high);
  }

  // Levels at the upper ends of the buckets, in packed order, and which buckets have a border.
  BITTERN_INLINE void guess(const TreeTables& t) {
    constexpr int kAndOr = 0xea;  // (a & b) | c
    const __m512i fraction = _mm512_set1_epi16(kPlaces - 1), phase = _mm512_set1_epi16(kPhase),
                  least = _mm512_set1_epi16(static_cast<short>(kFirstBucket)),
                  last_before_cut = _mm512_set1_epi16(static_cast<short>(t.cut - 1));
    Bytes<kChunks> group;
    Halves64 place[kChunks];
    BITTERN_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      Halves64 index;
      BITTERN_UNROLL
      for (int i = 0; i < 2; ++i) {
        const __m512i bucket = _mm512_subs_epu16(top[c].part[i], least);
        place[c].part[i] = _mm512_ternarylogic_epi32(bucket, fraction, phase, kAndOr);
        const __mmask32 behind = _mm512_cmplt_epu16_mask(last_before_cut, bucket);
        const __m512i moved = _mm512_mask_add_epi16(bucket, behind, bucket, _mm512_set1_epi16(kPlaces));
        index.part[i] = _mm512_srli_epi16(moved, 5);
      }
      group.chunk[c] = pack(index);
    }
    const Bytes<kChunks> slope_low = lookup_128(t.slope_bytes[0], group),
                         slope_high = lookup_128(t.slope_bytes[1], group);
    level = lookup_128(t.base, group);
    BITTERN_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      const Halves64 slope = unpack(slope_low.chunk[c], slope_high.chunk[c]);
      Halves64 rise;
      BITTERN_UNROLL
      for (int i = 0; i < 2; ++i) {
        rise.part[i] = _mm512_mulhi_epu16(slope.part[i], place[c].part[i]);
        const __m512i rest = _mm512_mullo_epi16(slope.part[i], place[c].part[i]);
        has_border[c][i] = _mm512_cmplt_epu16_mask(rest, slope.part[i]);
      }
      level.chunk[c] = _mm512_add_epi8(level.chunk[c], pack(rise));
    }
  }

  // Takes one off the levels of numbers that lie below the borders in their buckets.
  BITTERN_INLINE void compare(const TreeTables& t) {
    const Bits<kChunks> high = kSigned ? Bits<kChunks>{} : top_bits(level);
    const Bytes<kChunks> border_low = lookup(t.border_bytes[0], level, high),
                         border_high = lookup(t.border_bytes[1], level, high);
    BITTERN_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      const Halves64 border = unpack(border_low.chunk[c], border_high.chunk[c]);
      __mmask32 below[2];
      BITTERN_UNROLL
      for (int i = 0; i < 2; ++i)
        below[i] = _mm512_mask_cmplt_epu16_mask(has_border[c][i], low[c].part[i], border.part[i]);
      const __m512i straight = straighten(level.chunk[c]);
      level.chunk[c] =
          _mm512_mask_sub_epi8(straight, _mm512_kunpackd(below[1], below[0]), straight, _mm512_set1_epi8(1));
    }
  }

  BITTERN_INLINE __m512i codes(int c) const {
    if (!kSigned) return level.chunk[c];
    const __m512i middle = _mm512_set1_epi8(127);
    return _mm512_mask_sub_epi8(_mm512_add_epi8(middle, level.chunk[c]), minus.chunk[c], middle,
                                _mm512_min_epu8(level.chunk[c], middle));
  }
};

template <bool kSigned>
inline __m512i encode_64(const TreeTables& t, const float* x, __m512 inverse) {
  TreeEncoder<kSigned, 1> encoder;
  encoder.split(x, inverse);
  encoder.guess(t);
  encoder.compare(t);
  return encoder.codes(0);
}

template <bool kSigned>
inline void encode_tree(const TreeTables& t, const float* x, i64 n, float inverse, u8* codes) {
  const __m512 factor = _mm512_set1_ps(inverse);
  i64 i = 0;
  for (; i + 64 <= n; i += 64) _mm512_storeu_si512(codes + i, encode_64<kSigned>(t, x + i, factor));
  if (i == n) return;
  alignas(64) float rest[64] = {};
  for (i64 j = i; j < n; ++j) rest[j - i] = x[j];
  const __mmask64 present = ~0ull >> (64 - (n - i));
  _mm512_mask_storeu_epi8(codes + i, present, encode_64<kSigned>(t, rest, factor));
}

inline void decode_tree(const TreeTables& t, const u8* codes, float absmax, float* out, i64 n) {
  const __m512 factor = _mm512_set1_ps(absmax);
  for (i64 i = 0; i < n; i += 64) {
    const i64 left = n - i;
    const __mmask64 present = left >= 64 ? ~0ull : ~0ull >> (64 - left);
    const Floats64 values = tree_values(t, before_interleave(_mm512_maskz_loadu_epi8(present, codes + i)));
    BITTERN_UNROLL
    for (int j = 0; j < 4; ++j) _mm512_storeu_ps(out + i + 16 * j, _mm512_mul_ps(values.part[j], factor));
  }
}

// Where the nibble of each of 16 elements starts in 64 bits, the first element of a byte in its high half: in
// the lowest byte of each 32-bit lane, of which vpermps reads four bits.
inline __m512i nibble_places() {
  return _mm512_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24, 36, 32, 44, 40, 52, 48, 60, 56);
}

// Nibbles: 16 elements at a time; the table of 16 numbers is one register.
inline void decode_nibbles(const NibbleTables& t, const u8* codes, float absmax, float* out, i64 n) {
  const __m512 table = _mm512_mul_ps(_mm512_loadu_ps(t.values), _mm512_set1_ps(absmax));
  const __m512i places = nibble_places();
  long long packed = 0;
  i64 i = 0;
  for (; i + 16 <= n; i += 16) {
    std::memcpy(&packed, codes + i / 2, sizeof packed);
    const __m512i code = _mm512_multishift_epi64_epi8(places, _mm512_set1_epi64(packed));
    _mm512_storeu_ps(out + i, _mm512_permutexvar_ps(code, table));
  }
  if (i == n) return;
  packed = 0;
  std::memcpy(&packed, codes + i / 2, static_cast<size_t>(ceil_div(n - i, 2)));
  const __m512i code = _mm512_multishift_epi64_epi8(places, _mm512_set1_epi64(packed));
  _mm512_storeu_ps(out + i, _mm512_permutexvar_ps(code, table));
}

// The number of borders [1 ..] that y reaches, bit by bit from the highest: a search in a table of 16.
inline __m512i nibble_codes(__m512 borders, __m512 y) {
  __m512i code = _mm512_setzero_si512();
  BITTERN_UNROLL
  for (int step = 8; step > 0; step /= 2) {
    const __m512i next = _mm512_or_si512(code, _mm512_set1_epi32(step));
    const __mmask16 reached = _mm512_cmp_ps_mask(y, _mm512_permutexvar_ps(next, borders), _CMP_GE_OQ);
    code = _mm512_mask_mov_epi32(code, reached, next);
  }
  return code;
}

// Eight bytes of sixteen codes: the even lane of each 64 bits moves up by four bits and takes in the odd one.
inline __m128i join_nibbles(__m512i code) {
  return _mm512_cvtepi64_epi8(_mm512_or_si512(_mm512_slli_epi64(code, 4), _mm512_srli_epi64(code, 32)));
}

// May read up to 15 codes behind the last one.
inline void pack_nibbles(const i32* code, i64 n, u8* codes) {
  for (i64 i = 0; i < n; i += 16) {
    const i64 left = smaller(16, n - i);
    const __mmask16 present = static_cast<__mmask16>((1u << left) - 1);
    const __mmask16 bytes = static_cast<__mmask16>((1u << ceil_div(left, 2)) - 1);
    const __m512i here = _mm512_maskz_mov_epi32(present, _mm512_loadu_si512(code + i));
    _mm_mask_storeu_epi8(codes + i / 2, bytes, join_nibbles(here));
  }
}

inline void encode_nibbles(const NibbleTables& t, const float* x, i64 n, float inverse, u8* codes) {
  const __m512 borders = _mm512_loadu_ps(t.borders);
  const __m512 factor = _mm512_set1_ps(inverse);
  for (i64 i = 0; i < n; i += 16) {
    const i64 left = smaller(16, n - i);
    const __mmask16 present = static_cast<__mmask16>((1u << left) - 1);
    const __m512 y = _mm512_mul_ps(_mm512_maskz_loadu_ps(present, x + i), factor);
    const __m512i code = _mm512_maskz_mov_epi32(present, nibble_codes(borders, y));
    const __mmask16 bytes = static_cast<__mmask16>((1u << ceil_div(left, 2)) - 1);
    _mm_mask_storeu_epi8(codes + i / 2, bytes, join_nibbles(code));
  }
}

inline float inverse_of(float absmax) {
  return absmax >= kLeastAbsmax ? 1.0f / absmax : 0.0f;
}

}  // namespace

#include "encode_block.inl.h"

namespace {

// May write up to 63 numbers behind out + n.
inline void decode_block(Code code, const u8* codes, float absmax, float* out, i64 n) {
  if (is_tree8(code)) return decode_tree(tree_tables(code), codes, absmax, out, n);
  decode_nibbles(nibble_tables(code), codes, absmax, out, n);
}

// The numbers of any table of bytes: its entries, and the same as four tables of bytes.
inline void decode_table(const float*, const TreeTables& bytes, const u8* codes, float absmax, float* out,
                         i64 n) {
  decode_tree(bytes, codes, absmax, out, n);
}

}  // namespace
