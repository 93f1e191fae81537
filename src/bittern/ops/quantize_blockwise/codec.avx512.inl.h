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

// 64 numbers as 16-bit halves: elements 0 to 31 and 32 to 63.
struct Halves64 {
  __m512i part[2];
};

// Bytes lie in the order that unpacking and packing 16-bit numbers of one lane gives ("packed order"): in
// lane l first elements 8 l to 8 l + 7, then 32 + 8 l to 32 + 8 l + 7.
inline Halves64 unpack(__m512i low, __m512i high) {
  return {{_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)}};
}
inline __m512i pack(Halves64 x) {
  return _mm512_packus_epi16(x.part[0], x.part[1]);
}
inline __m512i straighten(__m512i packed) {
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

struct EncodeConstants {
  __m512i upper_halves, lower_halves, magnitude, least, one, middle;
};

inline EncodeConstants encode_constants() {
  EncodeConstants c;
  c.upper_halves = _mm512_load_si512(kIndices.upper_halves);
  c.lower_halves = _mm512_load_si512(kIndices.lower_halves);
  c.magnitude = _mm512_set1_epi16(0x7fff);
  c.least = _mm512_set1_epi16(static_cast<short>(kFirstBucket));
  c.one = _mm512_set1_epi8(1);
  c.middle = _mm512_set1_epi8(127);
  return c;
}

// table[i] for 64 bytes; kSmall: the table has 128 entries and repeats.
template <bool kSmall>
inline __m512i lookup(const u8* table, __m512i i, __mmask64 high) {
  return kSmall ? lookup_128(table, i) : lookup_256(table, i, high);
}

// Guessed levels, in packed order: base[group] + (slope[group] * (place in the group | places) >> 8), where
// a group has 2^kPlaceBits buckets: 32 of the signed tree, 16 of the finer unsigned one.
template <bool kSigned>
inline __m512i guess_levels(const TreeTables& t, Halves64 bucket) {
  constexpr unsigned kPlaceBits = kSigned ? 5 : 4;
  const __m512i fraction = _mm512_set1_epi16((1 << kPlaceBits) - 1),
                phase = _mm512_set1_epi16(1 << kPlaceBits);
  const __m512i group =
      pack({{_mm512_srli_epi16(bucket.part[0], kPlaceBits), _mm512_srli_epi16(bucket.part[1], kPlaceBits)}});
  const __mmask64 high = kSigned ? 0 : _mm512_movepi8_mask(group);
  const Halves64 slope = unpack(_mm512_setzero_si512(), lookup<kSigned>(t.slope, group, high));
  Halves64 rise;
  BITTERN_UNROLL
  for (int i = 0; i < 2; ++i) {
    constexpr int kAndOr = 0xea;  // (a & b) | c
    const __m512i place = _mm512_ternarylogic_epi32(bucket.part[i], fraction, phase, kAndOr);
    rise.part[i] = _mm512_mulhi_epu16(slope.part[i], place);
  }
  return _mm512_add_epi8(lookup<kSigned>(t.base, group, high), pack(rise));
}

// Which of 64 numbers lie below the borders of their levels.
template <bool kSigned>
inline __mmask64 below_borders(const TreeTables& t, __m512i level, Halves64 top, Halves64 low) {
  const __mmask64 high = kSigned ? 0 : _mm512_movepi8_mask(level);
  const Halves64 border_low = unpack(lookup<kSigned>(t.border_bytes[0], level, high),
                                     lookup<kSigned>(t.border_bytes[1], level, high));
  const Halves64 border_top = unpack(lookup<kSigned>(t.border_bytes[2], level, high),
                                     lookup<kSigned>(t.border_bytes[3], level, high));
  __mmask32 below[2];
  BITTERN_UNROLL
  for (int i = 0; i < 2; ++i) {
    const __mmask32 level_with = _mm512_cmpeq_epi16_mask(top.part[i], border_top.part[i]);
    below[i] = _mm512_cmplt_epu16_mask(top.part[i], border_top.part[i]) |
               _mm512_mask_cmplt_epu16_mask(level_with, low.part[i], border_low.part[i]);
  }
  return _mm512_kunpackd(below[1], below[0]);
}

// Codes of 64 numbers.
template <bool kSigned>
inline __m512i encode_64(const TreeTables& t, const EncodeConstants& c, const float* x, __m512 inverse) {
  __m512i y[4];
  // the sum turns -0, whose bits would name a bucket of its own, into +0 and changes nothing else
  BITTERN_UNROLL
  for (int i = 0; i < 4; ++i)
    y[i] = _mm512_castps_si512(_mm512_fmadd_ps(_mm512_loadu_ps(x + 16 * i), inverse, _mm512_setzero_ps()));
  Halves64 top, low, bucket;
  __mmask32 minus[2] = {};
  BITTERN_UNROLL
  for (int i = 0; i < 2; ++i) {
    low.part[i] = _mm512_permutex2var_epi16(y[2 * i], c.lower_halves, y[2 * i + 1]);
    top.part[i] = _mm512_permutex2var_epi16(y[2 * i], c.upper_halves, y[2 * i + 1]);
    if (kSigned) {
      minus[i] = _mm512_movepi16_mask(top.part[i]);
      top.part[i] = _mm512_and_si512(top.part[i], c.magnitude);
    }
    bucket.part[i] = _mm512_subs_epu16(top.part[i], c.least);
  }
  const __m512i guess = guess_levels<kSigned>(t, bucket);
  const __mmask64 below = below_borders<kSigned>(t, guess, top, low);
  const __m512i straight = straighten(guess);
  const __m512i exact = _mm512_mask_sub_epi8(straight, below, straight, c.one);
  if (!kSigned) return exact;
  const __m512i up = _mm512_add_epi8(c.middle, exact);
  return _mm512_mask_sub_epi8(up, _mm512_kunpackd(minus[1], minus[0]), c.middle,
                              _mm512_min_epu8(exact, c.middle));
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
