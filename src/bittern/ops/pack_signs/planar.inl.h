// SPDX-License-Identifier: Apache-2.0

// Signs and levels of images whose pixels lie side by side, a plane of numbers per channel, as torch's
// contiguous images. Included by kernel.inl.h.
//
// A vector compares neighbouring pixels of one channel, and what is wanted is the bits of 64 channels of one
// pixel. So a run of pixels is compared channel by channel, which reads each channel in one long stretch,
// into a tile of one byte per channel for every 8 pixels. Then 8 x 64 bits at a time are turned into the
// words of 8 pixels.

namespace {

constexpr i64 kRun = 512;      // pixels of a tile: 4 KiB of bytes, and 2 KiB of each channel's float32
constexpr i64 kTurned = 8;     // pixels whose words are made at once
constexpr i64 kLevelRun = 16;  // pixels of a tile of numbers: 4 KiB
constexpr i64 kUnit = kLanes > kTurned ? kLanes : kTurned;  // pixels that are compared at once
static_assert(kRun % kUnit == 0 && kUnit % kTurned == 0 && kUnit % kLanes == 0);

// Where a task reads and writes: a stretch of pixels that follow each other in memory.
struct Stretch {
  const PlanarImages* images;
  i64 image, row, column, pixels;

  i64 x_offset() const { return image * images->x_image + row * images->x_row + column; }
};

// The words of one pixel after another; rows of words may have a border between them.
class PixelWords {
 public:
  explicit PixelWords(const Stretch& s)
      : width_(s.images->width), pixel_(ceil_div(s.images->channels, kWordBits)), row_(s.images->words_row) {
    const i64 down = s.column / width_;
    column_ = s.column % width_;
    start_ = s.images->words + s.image * s.images->words_image + (s.row + down) * row_;
  }

  u64* next() {
    if (column_ == width_) column_ = 0, start_ += row_;
    return start_ + column_++ * pixel_;
  }

 private:
  i64 width_, pixel_, row_, column_;
  u64* start_;
};

// Bit i: pixel i of kUnit, behind the map, is at least the limit.
template <class T, class Threshold, class Map>
inline u32 compare_unit(const T* x, Threshold limit, Map map) {
  u32 bits = 0;
  BITTERN_UNROLL
  for (i64 i = 0; i < kUnit; i += kLanes) bits |= at_least(map(load(x + i)), splat(limit)) << i;
  return bits;
}

// Byte [i / 8][channel] of the tile: bit i % 8 says that pixel i of the channel is at least its limit.
template <class T, class Threshold, class Map>
void compare_channel(const T* x, Threshold limit, Map map, i64 pixels, u8 (*tile)[kWordBits], i64 channel) {
  for (i64 i = 0; i < pixels; i += kUnit) {
    T rest[kUnit] = {};
    const bool whole = i + kUnit <= pixels;
    if (!whole) std::memcpy(rest, x + i, static_cast<std::size_t>(pixels - i) * sizeof(T));
    const u32 bits = compare_unit(whole ? x + i : rest, limit, map);
    BITTERN_UNROLL
    for (i64 j = 0; j < kUnit; j += kTurned) {
      tile[(i + j) / kTurned][channel] = static_cast<u8>(bits >> j);
    }
  }
}

inline AsItIs map_of(const PlanarImages&, i64, AsItIs) {
  return {};
}

inline Mapped map_of(const PlanarImages& images, i64 channel, Mapped) {
  return {splat(images.affine[channel]), splat(images.affine[images.channels + channel])};
}

template <class T, class Threshold, class Map = AsItIs>
void pack_stretch(const Stretch& s) {
  const PlanarImages& images = *s.images;
  const T* x = static_cast<const T*>(images.x) + s.x_offset();
  const Threshold* threshold = static_cast<const Threshold*>(images.threshold);
  alignas(64) u8 tile[kRun / kTurned][kWordBits];
  for (i64 first = 0; first < images.channels; first += kWordBits) {
    const i64 channels = smaller(kWordBits, images.channels - first);
    if (channels < kWordBits) std::memset(tile, 0, sizeof tile);  // surplus bits are 0
    for (i64 c = 0; c < channels; ++c) {
      const Threshold limit = threshold == nullptr ? Threshold(0) : threshold[first + c];
      compare_channel(x + (first + c) * images.x_channel, limit, map_of(images, first + c, Map{}), s.pixels,
                      tile, c);
    }
    PixelWords words(s);
    for (i64 i = 0; i < s.pixels; i += kTurned) {
      u64 turned[kTurned];
      turn_bits(tile[i / kTurned], turned);
      for (i64 j = 0; j < smaller(kTurned, s.pixels - i); ++j) words.next()[first / kWordBits] = turned[j];
    }
  }
}

void pack_levels_stretch(const Stretch& s) {
  const PlanarImages& images = *s.images;
  const float* x = static_cast<const float*>(images.x) + s.x_offset();
  const LevelsJob job{nullptr, nullptr, images.channels, images.planes, images.plane_words, 0};
  float tile[kLevelRun][kWordBits];
  for (i64 first = 0; first < images.channels; first += kWordBits) {
    const i64 channels = smaller(kWordBits, images.channels - first);
    PixelWords words(s);
    for (i64 start = 0; start < s.pixels; start += kLevelRun) {
      const i64 pixels = smaller(kLevelRun, s.pixels - start);
      for (i64 c = 0; c < channels; ++c) {
        const float* channel = x + (first + c) * images.x_channel + start;
        for (i64 i = 0; i < pixels; ++i) tile[i][c] = channel[i];
      }
      for (i64 i = 0; i < pixels; ++i) {
        pack_level_word(job, tile[i], channels, words.next() + first / kWordBits);
      }
    }
  }
}

using PackStretch = void (*)(const Stretch&);

struct PlanarJob {
  const PlanarImages* images;
  PackStretch pack;
  i64 rows;      // of an image, as stretches without gaps
  i64 pixels;    // of such a row
  i64 row_runs;  // of such a row
};

void pack_planar_task(void* context, i64 index) {
  const auto& job = *static_cast<const PlanarJob*>(context);
  const i64 run = index % job.row_runs * kRun, row = index / job.row_runs;
  job.pack({job.images, row / job.rows, row % job.rows, run, smaller(kRun, job.pixels - run)});
}

PackStretch planar_packer(const PlanarImages& images) {
  if (images.planes > 1) return pack_levels_stretch;
  if (images.affine != nullptr) return pack_stretch<float, float, Mapped>;
  switch (images.type) {
    case DType::f64:
      return pack_stretch<double, double>;
    case DType::f16:
      return pack_stretch<f16, float>;
    case DType::bf16:
      return pack_stretch<bf16, float>;
    case DType::i32:
      return pack_stretch<i32, i32>;
    default:
      return pack_stretch<float, float>;
  }
}

void pack_planar(const PlanarImages& images, int threads) {
  const bool gapless = images.x_row == images.width;  // rows of numbers follow each other
  PlanarJob job{&images, planar_packer(images), images.rows, images.width, 0};
  if (gapless) job.rows = 1, job.pixels = images.rows * images.width;
  job.row_runs = ceil_div(job.pixels, kRun);
  parallel_for(images.images * job.rows * job.row_runs, threads, pack_planar_task, &job);
}

}  // namespace
