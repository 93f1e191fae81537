// SPDX-License-Identifier: Apache-2.0

// Differing bits counted by table lookup, a vector of nibbles against those of two others at a time. Included
// inside the namespace of one instruction set.
//
// Let a and n be four bits each: popcount(n ^ a) is a lookup of n in a table of 16 bytes that depends on a
// only, and vpshufb looks up a whole vector of bytes in such a table. So a *step* takes four bits of what is
// the same for all lanes, picks their table, and looks up one vector of nibbles, one in each byte. A result
// is at most 4, which leaves room for a second: the table for the nibbles (a, b) holds popcount(n ^ a) + 16 *
// popcount(n ^ b), and one lookup counts 2 * kBytes * 4 bits. All 256 such tables take 4 KiB. A byte of
// kNoNibble differs from nothing, because vpshufb gives 0 for it.
//
// Sums of 3 steps fit in a 4-bit field (12 <= 15); call the sum s = l + 16 h in every byte. Splitting each s
// into its fields costs mask and shift; instead, with o and e for the odd and the even byte of a 16-bit word,
//     T += s            as bytes: T_e = L_e + 16 H_e,  T_o = L_o + 16 H_o   (mod 256)
//     X += s >> 4       as words: X_e = H_e + 16 L_o,  X_o = H_o           (mod 256)
// where L and H are the sums of l and h. While they stay below 256, that is for 21 sums of 3 steps (21 * 12 =
// 252), they follow from T and X in the order H_o, L_o, H_e, L_e. Per 3 steps: 3 lookups, 1 shift, 4
// additions.

namespace {

constexpr i64 kStepBits = 4;
constexpr i64 kStepsPerSum = 3;    // fields of 4 bits
constexpr i64 kSumsPerChunk = 21;  // fields of 8 bits
constexpr u8 kNoNibble = 0x80;

struct PairTables {
  u8 entries[256][16];

  constexpr PairTables() : entries() {
    for (unsigned pair = 0; pair < 256; ++pair) {
      for (unsigned n = 0; n < 16; ++n) {
        entries[pair][n] = static_cast<u8>(popcount(n ^ (pair & 15)) + 16 * popcount(n ^ (pair >> 4)));
      }
    }
  }
  static constexpr unsigned popcount(unsigned n) {
    return (n & 1) + (n >> 1 & 1) + (n >> 2 & 1) + (n >> 3 & 1);
  }
};
alignas(64) constexpr PairTables kTables;

// Where the table of a pair of nibbles lies.
inline u16 table_offset(u64 a, u64 b) {
  return static_cast<u16>(16 * (a & 15) + 256 * (b & 15));
}

// T and X of the derivation at the top -> L and H.
inline void split_sums(Bytes t, Bytes x, Bytes& low, Bytes& high) {
  const Bytes odd_known = subtract_bytes(t, mask_words(words_left<4>(x), 0xf000));  // T_e, L_o
  high = subtract_bytes(x, mask_words(words_right<4>(odd_known), 0x00f0));          // H_e, H_o
  low = subtract_bytes(odd_known, mask_words(words_left<4>(high), 0x00f0));         // L_e, L_o
}

// `sums` <= kSumsPerChunk times 3 steps of `vectors` vectors side by side; offsets: of the tables. Calls
// take(v, L, H) with the counts of each vector.
template <int vectors, class Take>
BITTERN_INLINE void look_up(const u16* offsets, const u8* nibbles, i64 sums, const Take& take) {
  Bytes t[vectors], x[vectors], sum[vectors];
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) t[v] = x[v] = zero_bytes();
  for (i64 i = 0; i < sums; ++i) {
    BITTERN_UNROLL
    for (int step = 0; step < kStepsPerSum; ++step) {
      const Bytes table = load_table(kTables.entries[0] + offsets[step]);
      BITTERN_UNROLL
      for (int v = 0; v < vectors; ++v) {
        const Bytes found = lookup(table, load_bytes(nibbles + (step * vectors + v) * kBytes));
        sum[v] = step == 0 ? found : add_bytes(sum[v], found);
        keep_in_register(sum[v]);
      }
    }
    BITTERN_UNROLL
    for (int v = 0; v < vectors; ++v) {
      t[v] = add_bytes(t[v], sum[v]);
      x[v] = add_bytes(x[v], words_right<4>(sum[v]));
    }
    offsets += kStepsPerSum;
    nibbles += kStepsPerSum * vectors * kBytes;
  }
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) {
    Bytes low, high;
    split_sums(t[v], x[v], low, high);
    take(v, low, high);
  }
}

}  // namespace
