// SPDX-License-Identifier: Apache-2.0

// The rows that are worked on together: kTileVectors vectors, each lane a row, so that sums need no adding up
// across lanes and any number of columns is as good as another.
// Included inside the namespace of one instruction set, after its quads.

namespace {

constexpr i64 kRows = kTileVectors * kLanes;
static_assert(kTileRows % kLanes == 0, "a vector lies within a tile of codes");
constexpr int kInputTile = 6;  // inputs whose sums fill the registers, together with a tile of rows
constexpr int kQuads = kTileColumns / 4;

struct RowTile {
  RowTile(const WeightGroups& weight, i64 index) : weight(weight), first(index * kRows) {
    const i64 pitch = weight.column_tiles() * weight.bits * kTileRows;
    for (int v = 0; v < kTileVectors; ++v) {
      // rows behind the last tile of codes are those of the last one again; nobody stores them
      const i64 row = first + v * kLanes, tile = smaller(row / kTileRows, weight.row_tiles() - 1);
      codes[v] = weight.codes + tile * pitch + row % kTileRows;
      factors[v] = tile * weight.groups() * kTileRows + row % kTileRows;
    }
  }
  F32 scale(int v, i64 group) const {
    const i64 i = factors[v] + group * kTileRows;
    if (weight.half_scale) return load(static_cast<const f16*>(weight.scale) + i);
    return load(static_cast<const float*>(weight.scale) + i);
  }
  F32 zero(int v, i64 group) const {
    const i64 i = factors[v] + group * kTileRows;
    if (weight.zero == nullptr) return splat(static_cast<float>(1 << (weight.bits - 1)));
    if (weight.byte_zero) return load_small(static_cast<const u8*>(weight.zero) + i);
    return load(static_cast<const float*>(weight.zero) + i);
  }
  // The words of a tile of columns.
  const u32* words(int v, i64 column_tile) const { return codes[v] + column_tile * weight.bits * kTileRows; }

  const WeightGroups& weight;
  i64 first;
  const u32* codes[kTileVectors];
  i64 factors[kTileVectors];
};

// Columns 4 t ... 4 t + 3 of a tile of columns.
template <int kBits>
inline Quads quad(const u32* words, int t) {
  constexpr int kPlane = kBits == 3 ? 2 : kBits, kSlots = 8 / kPlane;
  const Quads low = field(load_quads(words + t / kSlots * kTileRows), t % kSlots * kPlane, (1 << kPlane) - 1);
  return kBits == 3 ? with_high(low, field(load_quads(words + 2 * kTileRows), t, 1)) : low;
}

// Part `i` of `parts` that inputs are cut into, all of nearly the same size.
inline i64 cut(i64 inputs, i64 parts, i64 i) {
  return inputs * i / parts;
}

// sums [inputs, kRows], the results without their bias; steps: a factor of each input, or null.
inline void store_results(const LinearGroupsCall& call, const RowTile& tile, i64 first_input, i64 inputs,
                          const float* sums, const float* steps) {
  const i64 n = tile.weight.n, rows = smaller(kRows, n - tile.first);
  for (i64 i = 0; i < inputs; ++i) {
    for (i64 r = 0; r < rows; ++r) {
      float y = sums[i * kRows + r];
      if (steps != nullptr) y *= steps[first_input + i];
      if (call.bias != nullptr) y += widened(call.bias, call.type, tile.first + r);
      store_as(call.out, call.type, (first_input + i) * n + tile.first + r, y);
    }
  }
}

// A task is as many rows for every instruction set.
constexpr i64 kTaskTiles = larger(1, 64 / kRows);

inline i64 tasks_of(const WeightGroups& weight) {
  return ceil_div(weight.n, kTaskTiles * kRows);
}

}  // namespace
