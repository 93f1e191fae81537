// SPDX-License-Identifier: Apache-2.0

// The tables of codec.h, computed once per process.

#include "codec.h"

#include <cmath>
#include <cstring>

namespace bittern {
namespace {

float from_bits(u32 bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// Positive levels of a dynamic tree in ascending order, without 0 and 1: per decade 10^(i - top), the middles
// of equal parts of [0.1, 1], each operation rounded to float32 as the published table has it.
int fill_levels(float* out, int decades, int first_parts) {
  int count = 0;
  for (int i = 0; i < decades; ++i) {
    const int parts = first_parts << i;
    const float scale = static_cast<float>(std::pow(10.0, i - (decades - 1)));
    const float step = (1.0f - 0.1f) / static_cast<float>(parts);
    // torch.linspace counts from both ends
    auto edge = [&](int j) {
      return j < (parts + 1) / 2 ? std::fmaf(step, static_cast<float>(j), 0.1f)
                                 : std::fmaf(-step, static_cast<float>(parts - j), 1.0f);
    };
    for (int j = 0; j < parts; ++j) out[count++] = (edge(j) + edge(j + 1)) / 2 * scale;
  }
  return count;
}

int level_of(const TreeTables& t, float y) {
  int low = 0, high = t.levels;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (y >= t.borders[middle]) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

// Level at the upper end of a bucket of the lines.
int upper_level(const TreeTables& t, int bucket) {
  const u32 last = (kFirstBucket + static_cast<u32>(bucket)) << 16 | 0xffff;
  return level_of(t, std::fmin(from_bits(last + !t.is_signed), 1.0f));
}

// Whether `slope` gives the levels of buckets [first, end), and tells which of them have a border.
bool line_fits(const int* level, int first, int end, u32 slope) {
  const int start = level[first] - static_cast<int>(slope * static_cast<u32>(first % kPlaces | kPhase) >> 16);
  for (int i = first; i < end; ++i) {
    const u32 product = slope * static_cast<u32>(i % kPlaces | kPhase);
    if (start + static_cast<int>(product >> 16) != level[i]) return false;
    if (((product & 0xffff) < slope) != (i > 0 && level[i] != level[i - 1])) return false;
  }
  return true;
}

// A line through buckets [first, end), as group `group`; false if there is none.
bool fit_line(TreeTables& t, const int* level, int first, int end, int group) {
  // the multiplier is 256 at the first place, so the level before the base must stay a byte
  for (u32 slope = 0; slope < 0xe000; ++slope) {
    if (!line_fits(level, first, end, slope)) continue;
    t.slope_bytes[0][group] = static_cast<u8>(slope);
    t.slope_bytes[1][group] = static_cast<u8>(slope >> 8);
    t.base[group] = static_cast<u8>(
        level[first] - static_cast<int>(slope * static_cast<u32>(first % kPlaces | kPhase) >> 16));
    return true;
  }
  return false;
}

// Lines for all groups; a test encodes both ends of every bucket.
void fit_lines(TreeTables& t) {
  // up to those of y just above 1
  constexpr int buckets = (31 << 7) + kPlaces;
  int level[buckets];
  for (int i = 0; i < buckets; ++i) level[i] = upper_level(t, i);
  int group = 0;
  for (int first = 0; first < buckets; first += kPlaces, ++group) {
    const int end = first + kPlaces;
    if (fit_line(t, level, first, end, group)) continue;
    int cut = first + 1;
    while (!(fit_line(t, level, first, cut, group) && fit_line(t, level, cut, end, group + 1))) ++cut;
    t.cut = static_cast<u16>(cut);
    ++group;
  }
}

void derive(TreeTables& t, bool keep_nonzero) {
  const int zero = t.is_signed ? 127 : 0;
  t.borders[0] = 0;
  for (int p = 1; p <= t.levels; ++p)
    t.borders[p] = border_between(t.values[zero + p - 1], t.values[zero + p]);
  if (keep_nonzero) t.borders[1] = from_bits(1);
  t.borders[t.levels + 1] = HUGE_VALF;
  for (u32 i = 0; i < kBuckets; ++i) {
    const int level = level_of(t, from_bits((kFirstBucket + i) << 16 | 0xffff));
    t.guess[i] = static_cast<u8>(level < 1 ? 1 : level);
  }
  fit_lines(t);
  for (int i = 0; i < 256; ++i) {
    const int level = t.is_signed && i == 0 ? t.levels : i;
    const float border = level <= t.levels ? t.borders[level] : HUGE_VALF;
    const u32 rank = float_bits(border) - !t.is_signed;
    for (int j = 0; j < 4; ++j) t.value_bytes[j][i] = static_cast<u8>(float_bits(t.values[i]) >> 8 * j);
    if (t.is_signed && i > 127) {
      for (int j = 0; j < 4; ++j) t.magnitude_bytes[j][(i - 127) % 128] = t.value_bytes[j][i];
    }
    for (int j = 0; j < 2; ++j) t.border_bytes[j][i] = static_cast<u8>(rank >> 8 * j);
  }
}

TreeTables make_tree(bool is_signed, bool keep_nonzero) {
  TreeTables t{};
  t.is_signed = is_signed;
  t.levels = is_signed ? 128 : 255;
  float positive[256];
  const int count = fill_levels(positive, 7, is_signed ? 1 : 2);
  const int zero = is_signed ? 127 : 0;
  for (int i = 0; i < count; ++i) {
    t.values[zero + 1 + i] = positive[i];
    if (is_signed) t.values[zero - 1 - i] = -positive[i];
  }
  t.values[zero] = 0;
  t.values[255] = 1;
  derive(t, keep_nonzero);
  return t;
}

constexpr u32 kNoBorder = 1u << 16;  // behind the lower halves of all numbers

TreeBuckets make_buckets(const TreeTables& t) {
  constexpr u32 kMagnitudes = 1u << 15;
  TreeBuckets found;
  int level = 0;
  for (u32 bucket = 0; bucket < kMagnitudes; ++bucket) {
    while (level < t.levels && t.borders[level + 1] <= from_bits(bucket << 16)) ++level;
    const u32 next = level < t.levels ? float_bits(t.borders[level + 1]) : ~0u;
    const u32 border = next >> 16 == bucket ? next & 0xffffu : kNoBorder;
    const u32 zero = t.is_signed ? 127 : 0, up = static_cast<u32>(level);
    found.entry[bucket] = (zero + up) << 16 | (kNoBorder - border);
    if (!t.is_signed) {
      found.entry[kMagnitudes + bucket] = found.entry[bucket];
    } else if (up < zero) {
      found.entry[kMagnitudes + bucket] = (zero - up) << 16 | (border - 1);
    } else {  // the largest level is positive only
      found.entry[kMagnitudes + bucket] = kNoBorder - 1;
    }
  }
  return found;
}

// make_buckets counts the borders that y reaches; here entries are the borders.
EntriesBelow make_entries_below() {
  TreeTables t = make_tree(false, true);
  for (int p = 2; p < t.levels; ++p) t.borders[p] = t.values[p];
  t.borders[t.levels] = kLargestFrom;
  EntriesBelow found{make_buckets(t), {}, {}};
  for (int code = 0; code < t.levels; ++code) {
    found.values[code] = t.values[code];
    found.widths[code] = t.values[code + 1] - t.values[code];
  }
  found.values[t.levels] = HUGE_VALF;
  return found;
}

NibbleTables make_nibbles(bool is_signed) {
  NibbleTables t{};
  if (is_signed) {
    float positive[8];
    const int count = fill_levels(positive, 3, 1);
    for (int i = 0; i < count; ++i) {
      t.values[8 + i] = positive[i];
      t.values[6 - i] = -positive[i];
    }
    t.values[7] = 0;
    t.values[15] = 1;
  } else {
    for (int i = 0; i < 16; ++i) t.values[i] = static_cast<float>(i + 1) / 16;
  }
  t.borders[0] = -HUGE_VALF;
  for (int i = 1; i < 16; ++i) t.borders[i] = border_between(t.values[i - 1], t.values[i]);
  return t;
}

}  // namespace

// Smallest float32 on the upper side of the midpoint of a < b, where a tie goes to the one nearer zero.
float border_between(float a, float b) {
  const double middle = (static_cast<double>(a) + static_cast<double>(b)) / 2;
  const float rounded = static_cast<float>(middle);
  const bool tie_up = middle <= 0;
  const bool reached = tie_up ? rounded >= middle : rounded > middle;
  return reached ? rounded : std::nextafterf(rounded, HUGE_VALF);
}

const TreeTables& tree_tables(Code code) {
  static const TreeTables with_sign = make_tree(true, false), without = make_tree(false, false);
  static const TreeTables state = make_tree(false, true);
  return code == Code::signed_tree8 ? with_sign : code == Code::state_tree8 ? state : without;
}

const TreeBuckets& tree_buckets(Code code) {
  if (code == Code::signed_tree8) {
    static const TreeBuckets with_sign = make_buckets(tree_tables(code));
    return with_sign;
  }
  if (code == Code::state_tree8) {
    static const TreeBuckets state = make_buckets(tree_tables(code));
    return state;
  }
  static const TreeBuckets without = make_buckets(tree_tables(code));
  return without;
}

const EntriesBelow& entries_below() {
  static const EntriesBelow entries = make_entries_below();
  return entries;
}

const NibbleTables& nibble_tables(Code code) {
  static const NibbleTables with_sign = make_nibbles(true), without = make_nibbles(false);
  return code == Code::signed_tree4 ? with_sign : without;
}

}  // namespace bittern
