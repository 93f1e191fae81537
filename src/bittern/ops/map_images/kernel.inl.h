// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after its simd header. One task is one tile: some
// channels of some pixels of an image, which one operation after another changes where they lie.

namespace {

constexpr i64 kTileChannels = 256;  // at most
constexpr i64 kTileNumbers = 2048;

// What one task works on.
struct MapTile {
  i64 image, first_pixel, pixels, first_channel, channels;
  i64 pitch;       // numbers from one pixel to the next
  float* numbers;  // [pixels, pitch]
};

struct MapJob {
  MapImages images;
  i64 pixels_at_once, tiles, channel_tiles;  // tiles of an image along its pixels, and along its channels
};

// Channels of an image's pixel, where fewer than a vector may be left.
inline F32 load_some(const float* x, i64 count) {
  if (count >= kLanes) return load(x);
  float lanes[kLanes] = {};
  std::memcpy(lanes, x, static_cast<std::size_t>(count) * sizeof(float));
  return load(lanes);
}

// function(y, channel): what becomes of numbers y, whose first channel is `channel` of the tile.
template <class Function>
inline void each(const MapTile& t, Function function) {
  for (i64 c = 0; c < t.channels; c += kLanes) {
    const auto of_channels = function(c);
    float* y = t.numbers + c;
    for (i64 pixel = 0; pixel < t.pixels; ++pixel, y += t.pitch) store(y, of_channels(load(y)));
  }
}

// function(y, o): what becomes of y beside an operand o [batch, pixels, channels].
template <class Function>
inline void with_operand(const MapImages& p, const MapTile& t, const float* operand, i64 pixels,
                         Function function) {
  const i64 step = pixels == p.pixels ? p.channels : 0;
  const float* first = operand + (t.image * pixels * p.channels) + t.first_pixel * step + t.first_channel;
  for (i64 pixel = 0; pixel < t.pixels; ++pixel, first += step) {
    float* y = t.numbers + pixel * t.pitch;
    for (i64 c = 0; c < t.channels; c += kLanes) {
      store(y + c, function(load(y + c), load_some(first + c, t.channels - c), c));
    }
  }
}

void apply(const MapImages& p, const MapTile& t, const MapStep& step) {
  const i64 pitch = round_up(p.channels, kMapUnit);
  const float* rows = p.rows + step.row * pitch + t.first_channel;
  const F32 zero = splat(0.0f);
  switch (static_cast<MapOperation>(step.operation)) {
    case MapOperation::affine:
      return each(t, [=](i64 c) {
        const F32 alpha = load(rows + c), beta = load(rows + pitch + c);
        return [=](F32 y) { return multiply_add(y, alpha, beta); };
      });
    case MapOperation::relu:
      return each(t, [=](i64) { return [=](F32 y) { return maximum(zero, y); }; });
    case MapOperation::clamp:
      return each(t, [=](i64 c) {
        const F32 least = load(rows + c), most = load(rows + pitch + c);
        return [=](F32 y) { return minimum(most, maximum(least, y)); };
      });
    case MapOperation::prelu:
      return each(t, [=](i64 c) {
        const F32 slope = load(rows + c);
        return [=](F32 y) { return select(greater(y, zero), y, multiply(slope, y)); };
      });
    case MapOperation::rprelu:
      return each(t, [=](i64 c) {
        const F32 before = load(rows + c), slope = load(rows + pitch + c), after = load(rows + 2 * pitch + c);
        return [=](F32 y) {
          const F32 x = subtract(y, before);
          return add(select(greater(x, zero), x, multiply(slope, x)), after);
        };
      });
    case MapOperation::dprelu:
      return each(t, [=](i64 c) {
        const F32 before = load(rows + c), rise = load(rows + pitch + c), fall = load(rows + 2 * pitch + c),
                  after = load(rows + 3 * pitch + c);
        return [=](F32 y) {
          const F32 x = subtract(y, before);
          // below 0, or NaN: whichever slope, NaN stays NaN
          return subtract(multiply(select(greater(zero, x), fall, rise), x), after);
        };
      });
    case MapOperation::hard_sigmoid:
      return each(t, [=](i64) {
        const F32 three = splat(3.0f), six = splat(6.0f);
        return [=](F32 y) { return divide(minimum(six, maximum(zero, add(y, three))), six); };
      });
    case MapOperation::add_residual:
      return with_operand(p, t, p.residual, p.residual_pixels, [](F32 y, F32 o, i64) { return add(y, o); });
    case MapOperation::add_mapped:
      return with_operand(p, t, p.residual, p.residual_pixels, [=](F32 y, F32 o, i64 c) {
        return add(y, multiply_add(o, load(rows + c), load(rows + pitch + c)));
      });
    case MapOperation::multiply_residual:
      return with_operand(p, t, p.residual, p.residual_pixels,
                          [](F32 y, F32 o, i64) { return multiply(y, o); });
    case MapOperation::add_factor:
      return with_operand(p, t, p.factor, p.factor_pixels, [](F32 y, F32 o, i64) { return add(y, o); });
    case MapOperation::multiply_factor:
      return with_operand(p, t, p.factor, p.factor_pixels, [](F32 y, F32 o, i64) { return multiply(y, o); });
    case MapOperation::count:
      return;
  }
}

void map_tile(void* context, i64 task) {
  const auto& job = *static_cast<const MapJob*>(context);
  const MapImages& p = job.images;
  const i64 image = task / (job.tiles * job.channel_tiles), at = task / job.channel_tiles % job.tiles;
  const i64 first_channel = task % job.channel_tiles * kTileChannels;
  float numbers[kTileNumbers];
  MapTile t{image, at * job.pixels_at_once, 0, first_channel, 0, 0, numbers};
  t.pixels = smaller(job.pixels_at_once, p.pixels - t.first_pixel);
  t.channels = smaller(kTileChannels, p.channels - first_channel);
  t.pitch = round_up(t.channels, kMapUnit);
  const i64 place = (image * p.pixels + t.first_pixel) * p.channels + first_channel;
  for (i64 pixel = 0; pixel < t.pixels; ++pixel) {
    const float* x = p.x + place + pixel * p.channels;
    float* y = numbers + pixel * t.pitch;
    for (i64 c = 0; c < t.channels; c += kLanes) store(y + c, load_some(x + c, t.channels - c));
  }
  for (i64 i = 0; i < p.count; ++i) apply(p, t, p.operations[i]);
  for (i64 pixel = 0; pixel < t.pixels; ++pixel) {
    std::memcpy(p.out + place + pixel * p.channels, numbers + pixel * t.pitch,
                static_cast<std::size_t>(t.channels) * sizeof(float));
  }
}

void map_images(const MapImages& p, int threads) {
  constexpr i64 kWorthThreads = i64{1} << 15;  // elements
  MapJob job{p, 0, 0, ceil_div(p.channels, kTileChannels)};
  job.pixels_at_once = kTileNumbers / round_up(smaller(p.channels, kTileChannels), kMapUnit);
  job.tiles = ceil_div(p.pixels, job.pixels_at_once);
  const bool large = p.batch * p.pixels * p.channels > kWorthThreads;
  parallel_for(p.batch * job.tiles * job.channel_tiles, large ? threads : 1, map_tile, &job);
}

}  // namespace

const MapImagesKernels map_images_kernels = {map_images};
