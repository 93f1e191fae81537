// SPDX-License-Identifier: Apache-2.0

// Convolutions of few channels: a byte lane is an output pixel. Included after grouped.inl.h and
// lookups.inl.h, inside the namespace of one instruction set.
//
// Where lanes are output channels, a pixel with few of them costs more to gather and to finish than to count.
// Here the roles are exchanged: two output channels pick the table, and a vector holds one nibble of each of
// kBytes neighbouring output pixels (lookups.inl.h). Any pixels fill a vector, whatever the width of the
// image, and 16 output channels cost half as much as 32.
//
// A task takes some rows of outputs (*band*). It turns the rows of the image under them into planes, once: of
// each row one plane per nibble of a pixel and column modulo the stride, so that the pixels under a tap are
// neighbours in a plane. Those of a few vectors of outputs are copied together, tap by tap (*panel*), while
// all output channels pass. Padding lies in the planes: as nibbles of -1 or 1, or for a padding of 0 as what
// differs from nothing, so that no sum has to be corrected.
//
// Counts come as [channel][pixel], one byte each, and are transposed as bytes to [pixel][channel], a fourth
// of what transposing the results would cost. A byte holds 63 steps; more are several parts, which the end
// adds up, as for grouped convolutions (finish_rows.inl.h).
//
// Weights: the offsets of tables, [pair of output channels][step]. A step is a nibble of a tap; three at a
// time, the surplus ones with pixels that differ from nothing. Behind them lie the weights of the kernel that
// takes images which do not suit.

namespace {

constexpr int kPanelVectors = 4;  // that share a table while it is in a register
constexpr i64 kMostParts = 4;
constexpr i64 kPlanesPerWord = kWordBits / kStepBits;

i64 tap_nibbles(i64 channels) {
  return ceil_div(channels, kStepBits);
}

i64 pixel_steps(const WeightShape& s) {
  return round_up(s.taps * tap_nibbles(s.channels), kStepsPerSum);
}

i64 pixel_parts(const WeightShape& s) {
  return ceil_div(pixel_steps(s), kStepsPerSum * kSumsPerChunk);
}

bool is_by_pixels(const WeightShape& s) {
  return s.groups == 1 && s.taps > 1 && pixel_parts(s) <= kMostParts;
}

// Whether planes are not much larger than the image, and where channels are not few, output pixels are.
bool suits_pixels(const Conv2d& c) {
  constexpr i64 kMostReach = 64, kFewPixels = 128;
  const i64 down = (c.kernel_h - 1) * c.dilation_h, right = (c.kernel_w - 1) * c.dilation_w;
  const i64 reach =
      larger(larger(larger(down, right), larger(c.pad_h, c.pad_w)), larger(c.stride_h, c.stride_w));
  if (reach > kMostReach) return false;
  return c.channels <= kFewChannels ||
         out_extent(c.height, c.kernel_h, c.stride_h, c.pad_h, c.dilation_h) *
                 out_extent(c.width, c.kernel_w, c.stride_w, c.pad_w, c.dilation_w) <=
             kFewPixels;
}

// ---- weights

// A whole number of cache lines, for other weights may follow.
i64 pixel_bytes(const WeightShape& s) {
  constexpr i64 kCacheLine = 64;
  return round_up(ceil_div(s.out_channels, 2) * pixel_steps(s) * static_cast<i64>(sizeof(u16)), kCacheLine);
}

void prepare_pixels(const WeightShape& s, const u64* canonical, u8* prepared) {
  const i64 nibbles = tap_nibbles(s.channels), words = ceil_div(s.channels, kWordBits),
            steps = pixel_steps(s);
  const auto nibble = [&](i64 channel, i64 step) -> u64 {
    if (channel >= s.out_channels || step >= s.taps * nibbles) return 0;
    const i64 tap = step / nibbles, n = step % nibbles;
    const u64 word = canonical[(channel * s.taps + tap) * words + n / kPlanesPerWord];
    return word >> (n % kPlanesPerWord * kStepBits);
  };
  u16* out = reinterpret_cast<u16*>(prepared);
  for (i64 channel = 0; channel < s.out_channels; channel += 2) {
    for (i64 step = 0; step < steps; ++step) {
      *out++ = table_offset(nibble(channel, step), nibble(channel + 1, step));
    }
  }
}

// ---- planning

// A vector of a panel, or as much of it as follows each other in a row of outputs.
struct Piece {
  i64 lane;
  const u8* planes;  // of the row under its first tap, from its first column on
};

struct PixelPlan {
  Conv2d conv;
  i64 out_h, out_w, pixel_words, row_words, image_words;
  i64 taps, nibbles, steps, parts;
  i64 planes, pitch;  // of a pixel, and bytes from plane to plane
  i64 row_bytes;      // of all planes of a row of the image
  i64 rows, bands;    // output rows of a band, and bands of an image
  i64* tap_offsets;   // bytes from the planes under the first tap
  i64* columns;       // [out_w]: kernel columns that count
  Tail tail;
  bool integers;
};

// Rows of a band: those that fill vectors best, and the more the better, within so many pixels.
i64 band_rows(i64 out_h, i64 out_w, i64 most_pixels) {
  i64 best = 1;
  const auto lanes = [&](i64 rows) { return round_up(rows * out_w, kBytes); };
  for (i64 rows = 2; rows <= out_h && rows * out_w <= most_pixels; ++rows) {
    if (lanes(rows) * best <= lanes(best) * rows) best = rows;
  }
  return best;
}

void plan_bands(PixelPlan& p, int threads) {
  constexpr i64 kCountBytes = i64{32} << 10, kMostPixels = 1024, kBandsPerThread = 2;
  constexpr i64 kLeastPixels = 2 * kPanelVectors * kBytes;
  const i64 pixel_bytes = p.parts * round_up(p.conv.out_channels, kTailUnit);
  i64 most = larger(smaller(kCountBytes / pixel_bytes, kMostPixels), kLeastPixels);
  if (threads > 1) {
    const i64 each = ceil_div(p.conv.batch * p.out_h * p.out_w, threads * kBandsPerThread);
    most = smaller(most, larger(each, kBytes));
  }
  p.rows = band_rows(p.out_h, p.out_w, most);
  p.bands = ceil_div(p.out_h, p.rows);
}

void plan_planes(PixelPlan& p) {
  const Conv2d& c = p.conv;
  const i64 width = (p.out_w - 1) * c.stride_w + (c.kernel_w - 1) * c.dilation_w + 1;
  p.planes = p.pixel_words * kPlanesPerWord;
  if (p.nibbles <= 8) p.planes = p.nibbles <= 4 ? 4 : 8;  // of the bytes that turn_nibbles turns
  p.pitch = round_up(ceil_div(larger(width, c.width + c.pad_w), c.stride_w), kPlaneWords) + kPlaneWords;
  p.row_bytes = c.stride_w * p.planes * p.pitch;
  p.tap_offsets = scratch_array<i64>(Scratch::tap_offsets, p.taps);
  i64* offset = p.tap_offsets;
  for (i64 ky = 0; ky < c.kernel_h; ++ky) {
    for (i64 kx = 0; kx < c.kernel_w; ++kx) {
      const i64 x = kx * c.dilation_w;
      *offset++ = ky * c.dilation_h * p.row_bytes + x % c.stride_w * p.planes * p.pitch + x / c.stride_w;
    }
  }
  p.columns = scratch_array<i64>(Scratch::pixels, p.out_w);
  for (i64 x = 0; x < p.out_w; ++x)
    p.columns[x] = c.pad_value == 0 ? columns_inside(c, x).size() : c.kernel_w;
}

// False: there is nothing to compute.
bool plan_pixels(PixelPlan& p, const Conv2d& c, int threads) {
  const WeightShape shape = weight_shape(c);
  p.conv = c;
  p.out_h = out_extent(c.height, c.kernel_h, c.stride_h, c.pad_h, c.dilation_h);
  p.out_w = out_extent(c.width, c.kernel_w, c.stride_w, c.pad_w, c.dilation_w);
  if (c.batch * p.out_h * p.out_w * c.out_channels == 0) return false;
  p.pixel_words = ceil_div(c.channels, kWordBits);
  p.row_words = c.input_row != 0 ? c.input_row : c.width * p.pixel_words;
  p.image_words = c.input_image != 0 ? c.input_image : c.height * p.row_words;
  p.taps = shape.taps, p.nibbles = tap_nibbles(c.channels);
  p.steps = pixel_steps(shape), p.parts = pixel_parts(shape);
  p.integers = c.tail == nullptr && c.epilogue == nullptr;
  if (!p.integers) p.tail = tail_of(c);
  plan_planes(p);
  plan_bands(p, threads);
  return true;
}

// ---- planes of the rows of the image under a band

void turn_words(const u64* words, i64 step, i64 planes, i64 pitch, u8* out) {
  if (planes <= 4) return turn_nibbles<2>(words, step, pitch, out);
  if (planes <= 8) return turn_nibbles<4>(words, step, pitch, out);
  turn_nibbles<8>(words, step, pitch, out);
}

// Nibbles of `count` words that lie `step` apart. They may be followed by some of what is no word.
void turn_row(const u64* words, i64 step, i64 count, i64 planes, i64 pitch, u8* out) {
  i64 i = 0;
  for (; i + kPlaneWords <= count; i += kPlaneWords)
    turn_words(words + i * step, step, planes, pitch, out + i);
  if (i == count) return;
  u64 rest[kPlaneWords] = {};
  for (i64 k = i; k < count; ++k) rest[k - i] = words[k * step];
  turn_words(rest, 1, planes, pitch, out + i);
}

// A nibble of padding.
u8 pad_nibble(const Conv2d& c, i64 n) {
  if (c.pad_value <= 0) return c.pad_value == 0 ? kNoNibble : 0;
  const i64 bits = c.channels - n * kStepBits;
  return static_cast<u8>((1 << larger(smaller(bits, kStepBits), 0)) - 1);
}

// Planes of one row of the image and of the columns that are `phase` modulo the stride.
void fill_phase(const PixelPlan& p, const u64* row, i64 phase, u8* out) {
  const Conv2d& c = p.conv;
  const i64 first = ceil_div(larger(c.pad_w - phase, 0), c.stride_w),
            x = first * c.stride_w + phase - c.pad_w;
  const i64 count = x < c.width ? ceil_div(c.width - x, c.stride_w) : 0;
  for (i64 word = 0; word < p.pixel_words; ++word) {
    turn_row(row + x * p.pixel_words + word, c.stride_w * p.pixel_words, count,
             smaller(p.planes, kPlanesPerWord), p.pitch, out + word * kPlanesPerWord * p.pitch + first);
  }
  if (count % kPlaneWords == 0) return;
  const i64 end = first + count;
  for (i64 n = 0; n < p.nibbles; ++n) {
    std::memset(out + n * p.pitch + end, pad_nibble(c, n), static_cast<std::size_t>(p.pitch - end));
  }
}

// Rows [top, top + count) of an image, some of which may lie outside.
void fill_planes(const PixelPlan& p, i64 image, i64 top, i64 count, u8* out) {
  const Conv2d& c = p.conv;
  std::memset(out, pad_nibble(c, 0), static_cast<std::size_t>(count * p.row_bytes));
  const u8 last = pad_nibble(c, p.nibbles - 1);
  if (last != pad_nibble(c, 0)) {
    for (i64 plane = p.nibbles - 1; plane < count * c.stride_w * p.planes; plane += p.planes) {
      std::memset(out + plane * p.pitch, last, static_cast<std::size_t>(p.pitch));
    }
  }
  for (i64 y = larger(top, 0); y < smaller(top + count, c.height); ++y) {
    const u64* row = c.input + image * p.image_words + y * p.row_words;
    u8* planes = out + (y - top) * p.row_bytes;
    for (i64 phase = 0; phase < c.stride_w; ++phase) {
      fill_phase(p, row, phase, planes + phase * p.planes * p.pitch);
    }
  }
}

// ---- panels

// Pieces of the pixels [first, first + count) of a band; returns how many.
i64 find_pieces(const PixelPlan& p, const u8* planes, i64 first, i64 count, Piece* pieces) {
  i64 found = 0, y = first / p.out_w, x = first % p.out_w;
  for (i64 lane = 0; lane < count;) {
    const i64 pixels = smaller(kBytes, smaller(p.out_w - x, count - lane));
    pieces[found++] = {lane, planes + y * p.conv.stride_h * p.row_bytes + x};
    lane += pixels, x += pixels;
    if (x == p.out_w) x = 0, ++y;
  }
  return found;
}

// A whole vector is copied for each piece: what is too much the next one overwrites, and so does the next
// step.
void fill_panel(const PixelPlan& p, const Piece* pieces, i64 count, i64 lanes, u8* panel) {
  for (i64 tap = 0; tap < p.taps; ++tap) {
    i64 offset = p.tap_offsets[tap];
    for (i64 n = 0; n < p.nibbles; ++n, panel += lanes, offset += p.pitch) {
      for (i64 i = 0; i < count; ++i) {
        store_bytes(panel + pieces[i].lane, load_bytes(pieces[i].planes + offset));
      }
    }
  }
  std::memset(panel, kNoNibble, static_cast<std::size_t>((p.steps - p.taps * p.nibbles) * lanes));
}

// ---- counting

// Counts of all output channels over sums [begin, end) of the panel: [channel][lane].
template <int vectors>
void count_panel(const PixelPlan& p, const u8* panel, i64 begin, i64 end, u8* counts) {
  constexpr i64 kLanesOfPanel = vectors * kBytes;
  const u16* offsets = reinterpret_cast<const u16*>(p.conv.weights) + begin * kStepsPerSum;
  panel += begin * kStepsPerSum * kLanesOfPanel;
  for (i64 channel = 0; channel < p.conv.out_channels; channel += 2, offsets += p.steps) {
    look_up<vectors>(offsets, panel, end - begin, [&](int v, Bytes low, Bytes high) {
      store_bytes(counts + v * kBytes, low);
      store_bytes(counts + (vectors + v) * kBytes, high);
    });
    counts += 2 * kLanesOfPanel;
  }
}

// 16 channels of kBytes pixels, `lanes` apart, to pixels of `pitch` bytes.
inline void transpose_counts(const u8* counts, i64 lanes, i64 pitch, u8* out) {
  constexpr int kUnit = static_cast<int>(kTailUnit);
  Bytes x[kUnit], next[kUnit];
  BITTERN_UNROLL
  for (int i = 0; i < kUnit; ++i) x[i] = load_bytes(counts + i * lanes);
  BITTERN_UNROLL
  for (int round = 0; round < 4; ++round) {  // each takes a bit of the channel's number to the pixel's
    BITTERN_UNROLL
    for (int i = 0; i < kUnit / 2; ++i) {
      next[2 * i] = interleave_low(x[i], x[i + kUnit / 2]);
      next[2 * i + 1] = interleave_high(x[i], x[i + kUnit / 2]);
    }
    BITTERN_UNROLL
    for (int i = 0; i < kUnit; ++i) x[i] = next[i];
  }
  BITTERN_UNROLL
  for (int i = 0; i < kUnit; ++i) store_sixteens(out + i * pitch, kTailUnit * pitch, x[i]);
}

// Counts of a band, as finish_row reads them: [part][pixel][pitch].
struct BandCounts {
  u8* counts;
  i64 pitch, part;
};

template <int vectors>
void count_pixels(const PixelPlan& p, const u8* planes, i64 first, i64 count, const BandCounts& out) {
  constexpr i64 kLanesOfPanel = vectors * kBytes;
  Piece pieces[kLanesOfPanel];
  const i64 found = find_pieces(p, planes, first, count, pieces);
  u8* panel = scratch_array<u8>(Scratch::panel, (p.steps + 1) * kLanesOfPanel);
  u8* channels = scratch_array<u8>(Scratch::channel_counts, out.pitch * kLanesOfPanel);
  fill_panel(p, pieces, found, kLanesOfPanel, panel);
  const i64 sums = p.steps / kStepsPerSum;
  for (i64 part = 0; part < p.parts; ++part) {
    count_panel<vectors>(p, panel, part * sums / p.parts, (part + 1) * sums / p.parts, channels);
    for (i64 channel = 0; channel < out.pitch; channel += kTailUnit) {
      for (i64 v = 0; v < vectors; ++v) {
        transpose_counts(channels + channel * kLanesOfPanel + v * kBytes, kLanesOfPanel, out.pitch,
                         out.counts + part * out.part + (first + v * kBytes) * out.pitch + channel);
      }
    }
  }
}

void count_band(const PixelPlan& p, const u8* planes, i64 pixels, const BandCounts& out) {
  for (i64 first = 0; first < pixels; first += kPanelVectors * kBytes) {
    const i64 count = smaller(pixels - first, kPanelVectors * kBytes);
    switch (ceil_div(count, kBytes)) {
      case 1:
        count_pixels<1>(p, planes, first, count, out);
        break;
      case 2:
        count_pixels<2>(p, planes, first, count, out);
        break;
      case 3:
        count_pixels<3>(p, planes, first, count, out);
        break;
      default:
        count_pixels<kPanelVectors>(p, planes, first, count, out);
    }
  }
}

// ---- bands

void finish_counts(const RowEnd& end, const BandCounts& c, i64 parts, const u8* counts) {
  switch (parts) {
    case 1:
      return finish_row(end, ByteCounts<1>{counts, c.pitch, c.part});
    case 2:
      return finish_row(end, ByteCounts<2>{counts, c.pitch, c.part});
    case 3:
      return finish_row(end, ByteCounts<3>{counts, c.pitch, c.part});
    default:
      return finish_row(end, ByteCounts<4>{counts, c.pitch, c.part});
  }
}

void finish_band(const PixelPlan& p, i64 image, i64 top, i64 rows, const BandCounts& counts) {
  const Conv2d& c = p.conv;
  i32* starts = scratch_array<i32>(Scratch::correction, p.out_w);
  for (i64 row = 0; row < rows; ++row) {
    const i64 y = top + row, kernel_rows = c.pad_value == 0 ? rows_inside(c, y).size() : c.kernel_h;
    for (i64 x = 0; x < p.out_w; ++x) starts[x] = static_cast<i32>(kernel_rows * p.columns[x] * c.channels);
    const Place first{(image * p.out_h + y) * p.out_w, image, y, 0};
    const RowEnd end{
        starts, p.out_w, c.out_channels, first, p.integers ? nullptr : &p.tail, static_cast<i32*>(c.output)};
    finish_counts(end, counts, p.parts, counts.counts + row * p.out_w * counts.pitch);
  }
}

void pixel_task(void* context, i64 index) {
  const auto& p = *static_cast<const PixelPlan*>(context);
  const Conv2d& c = p.conv;
  const i64 image = index / p.bands, top = index % p.bands * p.rows, rows = smaller(p.rows, p.out_h - top);
  const i64 under = (rows - 1) * c.stride_h + (c.kernel_h - 1) * c.dilation_h + 1;
  u8* planes = scratch_array<u8>(Scratch::padded_input, under * p.row_bytes + kBytes);
  fill_planes(p, image, top * c.stride_h - c.pad_h, under, planes);
  const i64 pixels = rows * p.out_w, lanes = round_up(pixels, kBytes);
  const i64 pitch = round_up(c.out_channels, kTailUnit), part = lanes * pitch;
  const BandCounts counts{scratch_array<u8>(Scratch::counts, p.parts * part), pitch, part};
  count_band(p, planes, pixels, counts);
  finish_band(p, image, top, rows, counts);
}

void conv2d_pixels(const Conv2d& conv, int threads) {
  PixelPlan p{};
  if (!plan_pixels(p, conv, threads)) return;
  parallel_for(conv.batch * p.bands, threads, pixel_task, &p);
}

}  // namespace
