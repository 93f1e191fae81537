// Block codecs for 64 elements at a time, by lookups in tables of bytes that lie in registers (VBMI).
// Included inside namespace avx512.
//
// A float32 table of 256 entries is four tables of bytes. Interleaving the four bytes works within 128-bit
// lanes, so the codes are put in an order first that comes out straight.

namespace {

struct Table256 {
  __m512i part[4];
};

inline Table256 load_table(const u8* bytes) {
  Table256 t;
  BITTERN_UNROLL
  for (int i = 0; i < 4; ++i) t.part[i] = _mm512_loadu_si512(bytes + 64 * i);
  return t;
}

// table[i] for 64 bytes i, of which `high` says which are at least 128.
inline __m512i lookup_256(const u8* table, __m512i i, __mmask64 high) {
  const Table256 t = load_table(table);
  const __m512i low = _mm512_permutex2var_epi8(t.part[0], i, t.part[1]);
  const __m512i up = _mm512_permutex2var_epi8(t.part[2], i, t.part[3]);
  return _mm512_mask_blend_epi8(high, low, up);
}

// table[i % 128]
inline __m512i lookup_128(const u8* table, __m512i i) {
  return _mm512_permutex2var_epi8(_mm512_loadu_si512(table), i, _mm512_loadu_si512(table + 64));
}

struct Floats64 {
  __m512 part[4];
};

// Groups of four bytes in the order that interleaving undoes.
inline __m512i before_interleave(__m512i bytes) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, bytes);
}

inline Floats64 interleave(__m512i b0, __m512i b1, __m512i b2, __m512i b3) {
  const __m512i low01 = _mm512_unpacklo_epi8(b0, b1), high01 = _mm512_unpackhi_epi8(b0, b1);
  const __m512i low23 = _mm512_unpacklo_epi8(b2, b3), high23 = _mm512_unpackhi_epi8(b2, b3);
  return {{_mm512_castsi512_ps(_mm512_unpacklo_epi16(low01, low23)),
           _mm512_castsi512_ps(_mm512_unpackhi_epi16(low01, low23)),
           _mm512_castsi512_ps(_mm512_unpacklo_epi16(high01, high23)),
           _mm512_castsi512_ps(_mm512_unpackhi_epi16(high01, high23))}};
}

// Values of 64 codes.
inline Floats64 tree_values(const TreeTables& t, __m512i codes) {
  const __m512i i = before_interleave(codes);
  const __mmask64 high = _mm512_movepi8_mask(i);
  return interleave(lookup_256(t.value_bytes[0], i, high), lookup_256(t.value_bytes[1], i, high),
                    lookup_256(t.value_bytes[2], i, high), lookup_256(t.value_bytes[3], i, high));
}

// Lower borders of 64 levels; kSigned: levels up to 128, of which 128 is found at 0.
template <bool kSigned>
inline Floats64 level_borders(const TreeTables& t, __m512i levels) {
  const __m512i i = before_interleave(levels);
  if (kSigned) {
    return interleave(lookup_128(t.border_bytes[0], i), lookup_128(t.border_bytes[1], i),
                      lookup_128(t.border_bytes[2], i), lookup_128(t.border_bytes[3], i));
  }
  const __mmask64 high = _mm512_movepi8_mask(i);
  return interleave(lookup_256(t.border_bytes[0], i, high), lookup_256(t.border_bytes[1], i, high),
                    lookup_256(t.border_bytes[2], i, high), lookup_256(t.border_bytes[3], i, high));
}

// Index vectors, in memory from the start: building them per block would stall on store forwarding.
struct alignas(64) EncodeIndices {
  u16 upper_halves[32];
  u8 even_bytes[64], spread_low[64], spread_high[64];
};

constexpr EncodeIndices encode_indices() {
  EncodeIndices t{};
  for (int i = 0; i < 32; ++i) t.upper_halves[i] = static_cast<u16>(2 * i + 1);
  for (int i = 0; i < 64; ++i) {
    t.even_bytes[i] = static_cast<u8>(2 * i);
    t.spread_low[i] = static_cast<u8>(i / 2);
    t.spread_high[i] = static_cast<u8>(32 + i / 2);
  }
  return t;
}

constexpr EncodeIndices kIndices = encode_indices();

struct EncodeConstants {
  __m512i upper_halves, even_bytes, spread_low, spread_high;
  __m512i magnitude, least, fraction, phase, one, middle;
};

inline EncodeConstants encode_constants() {
  EncodeConstants c;
  c.upper_halves = _mm512_load_si512(kIndices.upper_halves);
  c.even_bytes = _mm512_load_si512(kIndices.even_bytes);
  c.spread_low = _mm512_load_si512(kIndices.spread_low);
  c.spread_high = _mm512_load_si512(kIndices.spread_high);
  c.magnitude = _mm512_set1_epi16(0x7fff);
  c.least = _mm512_set1_epi16(static_cast<short>(kFirstBucket));
  c.fraction = _mm512_set1_epi16(15);
  c.phase = _mm512_set1_epi16(16);
  c.one = _mm512_set1_epi8(1);
  c.middle = _mm512_set1_epi8(127);
  return c;
}

constexpr __mmask64 kOddBytes = 0xaaaaaaaaaaaaaaaaull;

// Guessed levels from buckets: base[group] + (slope[group] * (place in the group | 16) >> 8).
inline __m512i guess_levels(const TreeTables& t, const EncodeConstants& c, __m512i buckets0,
                            __m512i buckets1) {
  const __m512i group =
      _mm512_permutex2var_epi8(_mm512_srli_epi16(buckets0, 4), c.even_bytes, _mm512_srli_epi16(buckets1, 4));
  const __mmask64 high = _mm512_movepi8_mask(group);
  const __m512i base = lookup_256(t.base, group, high), slope = lookup_256(t.slope, group, high);
  const __m512i slope0 = _mm512_maskz_permutexvar_epi8(kOddBytes, c.spread_low, slope);
  const __m512i slope1 = _mm512_maskz_permutexvar_epi8(kOddBytes, c.spread_high, slope);
  constexpr int kAndOr = 0xea;  // (a & b) | c
  const __m512i place0 = _mm512_ternarylogic_epi32(buckets0, c.fraction, c.phase, kAndOr);
  const __m512i place1 = _mm512_ternarylogic_epi32(buckets1, c.fraction, c.phase, kAndOr);
  const __m512i rise0 = _mm512_mulhi_epu16(slope0, place0), rise1 = _mm512_mulhi_epu16(slope1, place1);
  return _mm512_add_epi8(base, _mm512_permutex2var_epi8(rise0, c.even_bytes, rise1));
}

inline __mmask64 join_masks(__mmask16 a, __mmask16 b, __mmask16 c, __mmask16 d) {
  return _mm512_kunpackd(_mm512_kunpackw(d, c), _mm512_kunpackw(b, a));
}

// Codes of 64 numbers.
template <bool kSigned>
inline __m512i encode_64(const TreeTables& t, const EncodeConstants& c, const float* x, __m512 inverse) {
  __m512 y[4];
  // the sum turns -0, whose bits would name a bucket of its own, into +0 and changes nothing else
  BITTERN_UNROLL
  for (int i = 0; i < 4; ++i)
    y[i] = _mm512_fmadd_ps(_mm512_loadu_ps(x + 16 * i), inverse, _mm512_setzero_ps());
  __m512i top0 =
      _mm512_permutex2var_epi16(_mm512_castps_si512(y[0]), c.upper_halves, _mm512_castps_si512(y[1]));
  __m512i top1 =
      _mm512_permutex2var_epi16(_mm512_castps_si512(y[2]), c.upper_halves, _mm512_castps_si512(y[3]));
  __mmask64 negative = 0;
  if (kSigned) {
    negative = _mm512_kunpackd(_mm512_movepi16_mask(top1), _mm512_movepi16_mask(top0));
    top0 = _mm512_and_si512(top0, c.magnitude);
    top1 = _mm512_and_si512(top1, c.magnitude);
  }
  const __m512i level = guess_levels(t, c, _mm512_max_epu16(top0, c.least), _mm512_max_epu16(top1, c.least));
  const Floats64 border = level_borders<kSigned>(t, level);
  __mmask16 below[4];
  BITTERN_UNROLL
  for (int i = 0; i < 4; ++i) {
    const __m512 magnitude = kSigned ? _mm512_abs_ps(y[i]) : y[i];
    below[i] = _mm512_cmp_ps_mask(magnitude, border.part[i], _CMP_LT_OQ);
  }
  const __mmask64 less = join_masks(below[0], below[1], below[2], below[3]);
  const __m512i exact = _mm512_mask_sub_epi8(level, less, level, c.one);
  if (!kSigned) return exact;
  const __m512i up = _mm512_add_epi8(c.middle, exact);
  return _mm512_mask_sub_epi8(up, negative, c.middle, _mm512_min_epu8(exact, c.middle));
}

template <bool kSigned>
inline void encode_tree(const TreeTables& t, const float* x, i64 n, float inverse, u8* codes) {
  const EncodeConstants c = encode_constants();
  const __m512 factor = _mm512_set1_ps(inverse);
  i64 i = 0;
  for (; i + 64 <= n; i += 64) _mm512_storeu_si512(codes + i, encode_64<kSigned>(t, c, x + i, factor));
  if (i == n) return;
  alignas(64) float rest[64] = {};
  for (i64 j = i; j < n; ++j) rest[j - i] = x[j];
  const __mmask64 present = ~0ull >> (64 - (n - i));
  _mm512_mask_storeu_epi8(codes + i, present, encode_64<kSigned>(t, c, rest, factor));
}

inline void decode_tree(const TreeTables& t, const u8* codes, float absmax, float* out, i64 n) {
  const __m512 factor = _mm512_set1_ps(absmax);
  for (i64 i = 0; i < n; i += 64) {
    const i64 left = n - i;
    const __mmask64 present = left >= 64 ? ~0ull : ~0ull >> (64 - left);
    const Floats64 values = tree_values(t, _mm512_maskz_loadu_epi8(present, codes + i));
    BITTERN_UNROLL
    for (int j = 0; j < 4; ++j) _mm512_storeu_ps(out + i + 16 * j, _mm512_mul_ps(values.part[j], factor));
  }
}

// Nibbles: 16 elements at a time; the table of 16 numbers is one register, and a code is the number of
// borders that a number reaches.
inline void decode_nibbles(const NibbleTables& t, const u8* codes, float absmax, float* out, i64 n) {
  const __m512 table = _mm512_mul_ps(_mm512_loadu_ps(t.values), _mm512_set1_ps(absmax));
  const __m512i shifts = _mm512_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24, 4, 0, 12, 8, 20, 16, 28, 24);
  const __m512i words = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
  for (i64 i = 0; i < n; i += 16) {
    const i64 bytes = smaller(8, ceil_div(n - i, 2));
    const __m128i packed = _mm_maskz_loadu_epi8(static_cast<__mmask16>((1u << bytes) - 1), codes + i / 2);
    const __m512i both = _mm512_permutexvar_epi32(words, _mm512_castsi128_si512(packed));
    // vpermps reads the low four bits of each index
    _mm512_storeu_ps(out + i, _mm512_permutexvar_ps(_mm512_srlv_epi32(both, shifts), table));
  }
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

inline void encode_nibbles(const NibbleTables& t, const float* x, i64 n, float inverse, u8* codes) {
  const __m512 borders = _mm512_loadu_ps(t.borders);
  const __m512 factor = _mm512_set1_ps(inverse);
  for (i64 i = 0; i < n; i += 16) {
    const i64 left = smaller(16, n - i);
    const __mmask16 present = static_cast<__mmask16>((1u << left) - 1);
    const __m512 y = _mm512_mul_ps(_mm512_maskz_loadu_ps(present, x + i), factor);
    const __m512i code = _mm512_maskz_mov_epi32(present, nibble_codes(borders, y));
    // pairs: the even lane of each 64 bits moves up by four bits and takes in the odd one
    const __m512i pairs = _mm512_or_si512(_mm512_slli_epi64(code, 4), _mm512_srli_epi64(code, 32));
    const __mmask16 bytes = static_cast<__mmask16>((1u << ceil_div(left, 2)) - 1);
    _mm_mask_storeu_epi8(codes + i / 2, bytes, _mm512_cvtepi64_epi8(pairs));
  }
}

inline float inverse_of(float absmax) {
  return absmax >= kLeastAbsmax ? 1.0f / absmax : 0.0f;
}

// Codes of n finite numbers whose largest magnitude is `absmax`.
inline void encode_block(Code code, const float* x, i64 n, float absmax, u8* codes) {
  const float inverse = inverse_of(absmax);
  if (code == Code::signed_tree8) return encode_tree<true>(tree_tables(code), x, n, inverse, codes);
  if (is_tree8(code)) return encode_tree<false>(tree_tables(code), x, n, inverse, codes);
  encode_nibbles(nibble_tables(code), x, n, inverse, codes);
}

// May write up to 63 numbers behind out + n.
inline void decode_block(Code code, const u8* codes, float absmax, float* out, i64 n) {
  if (is_tree8(code)) return decode_tree(tree_tables(code), codes, absmax, out, n);
  decode_nibbles(nibble_tables(code), codes, absmax, out, n);
}

}  // namespace
