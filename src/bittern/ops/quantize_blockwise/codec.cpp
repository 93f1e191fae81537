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

// A line for each group of buckets that gives, in each, the level of its upper end or one more than the level
// of its lower end, whichever is there; the search always finds one (a test encodes both ends of every
// bucket).
void fit_line(TreeTables& t, int group) {
  const int places = t.is_signed ? 32 : 16;
  int least[32], most[32];
  for (int f = 0; f < places; ++f) {
    const u32 bucket = kFirstBucket + static_cast<u32>(group * places + f);
    const float low = std::fmin(from_bits(bucket << 16), 1.0f);
    const float high = std::fmin(from_bits(bucket << 16 | 0xffff), 1.0f);
    const int up = level_of(t, high);
    least[f] = up < 1 ? 1 : up;
    most[f] = level_of(t, low) + 1;
    if (most[f] > t.levels) most[f] = t.levels;
  }
  for (int slope = 0; slope < 256; ++slope) {
    int base_least = -256, base_most = 256;
    for (int f = 0; f < places; ++f) {
      const int rise = slope * (f | places) >> 8;
      if (least[f] - rise > base_least) base_least = least[f] - rise;
      if (most[f] - rise < base_most) base_most = most[f] - rise;
    }
    if (base_least <= base_most) {
      t.base[group] = static_cast<u8>(base_least);
      t.slope[group] = static_cast<u8>(slope);
      return;
    }
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
  // the five exponent bits of kFirstBucket (96) are 0, so a group's number is its index
  for (int group = 0; group < (t.is_signed ? 128 : 256); ++group) fit_line(t, group);
  for (int i = 0; i < 256; ++i) {
    const int level = t.is_signed && i == 0 ? t.levels : i;
    const float border = level <= t.levels ? t.borders[level] : HUGE_VALF;
    for (int j = 0; j < 4; ++j) {
      t.value_bytes[j][i] = static_cast<u8>(float_bits(t.values[i]) >> 8 * j);
      t.border_bytes[j][i] = static_cast<u8>(float_bits(border) >> 8 * j);
    }
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

const NibbleTables& nibble_tables(Code code) {
  static const NibbleTables with_sign = make_nibbles(true), without = make_nibbles(false);
  return code == Code::signed_tree4 ? with_sign : without;
}

}  // namespace bittern
