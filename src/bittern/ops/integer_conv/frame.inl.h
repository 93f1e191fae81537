// SPDX-License-Identifier: Apache-2.0

// Images with their border, as numbers that products take. Included inside the namespace of one instruction
// set.

namespace {

constexpr i64 kImageNumbers = i64{1} << 19;  // of images that are laid out at once, unless one is larger
constexpr i64 kBeyond = 64;                  // numbers behind an image that a tile may read

// Images with their border, as far as windows reach.
struct Framed {
  i64 height, width, row, image;  // row, image: numbers
};

Framed framed(const IntegerConv& c) {
  const i64 height = (c.out_height - 1) * c.stride_h + (c.kernel_h - 1) * c.dilation_h + 1;
  const i64 width = (c.out_width - 1) * c.stride_w + (c.kernel_w - 1) * c.dilation_w + 1;
  return {height, width, width * c.channels, height * width * c.channels};
}

template <class T>
void fill(T* out, i64 count, T value) {
  if constexpr (sizeof(T) == 1) {
    std::memset(out, static_cast<u8>(value), static_cast<std::size_t>(larger(count, 0)));
  } else {
    for (i64 i = 0; i < count; ++i) out[i] = value;
  }
}

// Row `index` of an image with its border; centre: what is added to each number.
template <class T>
void frame_row(const IntegerConv& c, const Framed& size, i64 image, i64 index, i32 centre, T* out) {
  const T outside = static_cast<T>(c.zero + centre), added = static_cast<T>(centre);
  const i64 y = index - c.pad_top;
  if (y < 0 || y >= c.height) {
    return fill(out, size.row, outside);
  }
  const i64 left = smaller(c.pad_left, size.width) * c.channels;
  const i64 inside = clamped(c.width, 0, size.width - left / c.channels) * c.channels;
  const i8* x = c.x + (image * c.height + y) * c.width * c.channels;
  fill(out, left, outside);
  T* to = out + left;
  for (i64 i = 0; i < inside; ++i) to[i] = static_cast<T>(static_cast<T>(x[i]) + added);
  fill(to + inside, size.row - left - inside, outside);
}

template <class T>
struct FrameJob {
  const IntegerConv* c;
  Framed size;
  i64 first;  // image
  i32 centre;
  T* out;
};

template <class T>
void frame_task(void* context, i64 index) {
  const auto& job = *static_cast<const FrameJob<T>*>(context);
  const i64 image = index / job.size.height, row = index % job.size.height;
  frame_row(*job.c, job.size, job.first + image, row, job.centre, job.out + index * job.size.row);
}

template <class T>
T* frame(const IntegerConv& c, const Framed& size, i64 first, i64 images, i32 centre, int threads) {
  T* out = scratch_array<T>(Scratch::padded_input, images * size.image + kBeyond);
  FrameJob<T> job{&c, size, first, centre, out};
  parallel_for(images * size.height, threads, frame_task<T>, &job);
  for (i64 i = 0; i < kBeyond; ++i) out[images * size.image + i] = 0;
  return out;
}

}  // namespace
