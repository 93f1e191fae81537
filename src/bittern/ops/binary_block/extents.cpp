// SPDX-License-Identifier: Apache-2.0
#include "binary_block/extents.h"

#include <initializer_list>

#include "real_linear/order.h"

namespace bittern {
namespace {

constexpr i64 kMostPlanes = 8;
constexpr i64 kMostFactor = (i64{1} << kMostPlanes) - 1;

// Elements from the first to behind the last of a grid; negative where a number is unsound or too large.
class Extent {
 public:
  explicit Extent(i64 innermost) : elements_(innermost) { sound_ = innermost >= 0; }

  // The grid repeated: so many times, so many elements apart.
  Extent& along(i64 count, i64 step) {
    i64 way = 0;
    sound_ = sound_ && count >= 0 && step >= 0 && !__builtin_mul_overflow(larger(count - 1, 0), step, &way) &&
             !__builtin_add_overflow(elements_, way, &elements_);
    if (count == 0) empty_ = true;
    return *this;
  }

  // The grid repeated without gaps.
  Extent& times(i64 count) {
    sound_ = sound_ && count >= 0 && !__builtin_mul_overflow(elements_, count, &elements_);
    return *this;
  }

  i64 bytes(i64 element) const {
    i64 total = 0;
    if (!sound_ || __builtin_mul_overflow(elements_, element, &total)) return -1;
    return empty_ ? 0 : total;
  }

 private:
  i64 elements_;
  bool sound_ = true, empty_ = false;
};

Extent dense(i64 a, i64 b, i64 c, i64 d = 1) {
  return Extent(a).times(b).times(c).times(d);
}

// Collects the first misfit.
struct Findings {
  Misfit found;

  void need(bool holds_true, const char* what) {
    if (!holds_true && found.what == nullptr) found.what = what;
  }

  template <class T>
  void holds(const T* memory, const Extent& extent, i64 given, const char* what) {
    const i64 needed = extent.bytes(static_cast<i64>(sizeof(T)));
    const bool fits = needed >= 0 && needed <= given && (needed == 0 || memory != nullptr);
    if (!fits && found.what == nullptr) found = {what, needed, given};
  }

  bool ok() const { return found.what == nullptr; }
};

constexpr i64 kMostSize =
    i64{1} << 31;  // of one number: sums of two or three and their multiples by words fit 64 bits

bool sound(i64 least, std::initializer_list<i64> sizes) {
  for (i64 size : sizes) {
    if (size < least || size > kMostSize) return false;
  }
  return true;
}

// Out of a tail's buffers: [batch, height, width, out_channels] is what it ends.
void check_tail(Findings& f, const Tail& t, const Sizes& sizes, i64 batch, i64 height, i64 width,
                const Conv2d& c) {
  const i64 reach = round_up(c.out_channels, kTailUnit) + (c.groups > 1 ? kTailUnit : 0);
  f.need(t.activation >= 0 && t.activation < static_cast<i64>(Activation::count), "its activation");
  f.need(t.pitch >= reach && t.pitch < kMostSize, "the pitch of its rows");
  f.holds(t.rows, Extent(t.pitch).times(kTailRows), sizes.rows, "its rows");
  f.holds(t.input_scale, t.input_scale == nullptr ? Extent(0) : dense(batch, height, width, 1),
          sizes.input_scale, "the scale of its input");
  f.holds(t.factor,
          Extent(t.factor == nullptr ? 0 : reach).along(width, t.factor_pitch).along(height, t.factor_row),
          sizes.factor, "its factor");
  if (t.residual != nullptr) {
    const i64 shift =
        t.residual_shift;  // of either sign; none where channels repeat, for it would be taken modulo
    const bool shifted = shift == 0 || (t.residual_repeats == 0 && shift > -kMostSize && shift < kMostSize);
    const bool covered = t.residual_pool >= 1 && t.residual_channels >= 1 && shifted &&
                         sound(0, {t.residual_height, t.residual_width, t.residual_channels}) &&
                         ceil_div(t.residual_height, t.residual_pool) == height &&
                         ceil_div(t.residual_width, t.residual_pool) == width;
    f.need(covered, "the sizes of its residual");
    f.holds(t.residual, dense(batch, t.residual_height, t.residual_width, t.residual_channels),
            sizes.residual, "its residual");
  }
  if (t.real != nullptr)
    f.holds(t.real, dense(batch, height, width, c.out_channels), sizes.real, "its real result");
  if (t.bits == nullptr) return;
  const i64 words = ceil_div(c.out_channels, kWordBits);
  f.holds(t.bits, Extent(words).along(width, words).along(height, t.bits_row).along(batch, t.bits_image),
          sizes.bits, "its bits");
}

void check_convolve(Findings& f, Isa isa, const ProgramStep& step) {
  const Conv2d& c = step.conv;
  const Planes& planes = step.planes;
  f.need(sound(0, {c.batch, c.height, c.width}) && sound(1, {c.channels, c.out_channels, c.groups}),
         "its sizes");
  f.need(sound(1, {c.kernel_h, c.kernel_w, c.stride_h, c.stride_w}) && sound(1, {c.dilation_h, c.dilation_w}),
         "its windows");
  f.need(sound(0, {c.pad_h, c.pad_w, c.input_border}) && c.pad_value >= -1 && c.pad_value <= 1,
         "its padding");
  f.need(planes.input >= 1 && planes.input <= kMostPlanes && planes.weight >= 1 &&
             planes.weight <= kMostPlanes + 1 && planes.last_factor >= -kMostFactor &&
             planes.last_factor <= kMostFactor && planes.raised >= 0 &&
             planes.raised < i64{1} << planes.input && (planes.raised == 0 || c.input_border == 0),
         "its planes");
  if (!f.ok()) return;
  f.need(c.channels % c.groups == 0 && c.out_channels % c.groups == 0, "its groups");
  if (!f.ok()) return;
  const i64 words = ceil_div(c.channels, kWordBits), border = c.input_border;
  const i64 row = c.input_row != 0 ? c.input_row : c.width * words;
  const i64 image = c.input_image != 0 ? c.input_image : c.height * row;
  // The border at the left of and above the first pixel, and that behind the last.
  const Extent before = Extent(border == 0 ? 0 : words).along(border, words).along(border + 1, row);
  const Extent behind = Extent(words)
                            .along(c.width + border, words)
                            .along(c.height + border, row)
                            .along(c.batch, image)
                            .along(planes.input, planes.input_words);
  if (c.batch * c.height * c.width != 0) {
    f.holds(c.input, behind, step.sizes.input, "its input");
    f.holds(c.input, before, step.sizes.input_before, "the border of its input");
  }
  const WeightShape shape{c.out_channels, c.kernel_h * c.kernel_w, c.channels, c.groups};
  const i64 prepared = binary_conv2d_kernels(isa).prepared_bytes(shape);
  f.holds(c.weights, Extent(prepared).along(planes.weight, planes.weight_bytes), step.sizes.weights,
          "its weights");
  check_tail(f, step.tail, step.sizes, c.batch,
             out_extent(c.height, c.kernel_h, c.stride_h, c.pad_h, c.dilation_h),
             out_extent(c.width, c.kernel_w, c.stride_w, c.pad_w, c.dilation_w), c);
}

// What a step reads of images as they lie.
template <class Step>
Extent lying(const Step& s) {
  return Extent(1)
      .along(s.channels, s.x_channel)
      .along(s.width, s.x_pixel)
      .along(s.height, s.x_row)
      .along(s.batch, s.x_image);
}

void check_encode(Findings& f, const EncodeImage& e, const Sizes& sizes) {
  f.need(sound(0, {e.batch, e.height, e.width}) && sound(1, {e.channels}), "its sizes");
  f.need(e.planes >= 1 && e.planes <= kMostPlanes, "its planes");
  if (!f.ok()) return;
  f.need(e.planes > 1 || (e.first_bit >= 0 && e.first_bit < kWordBits), "where its bits begin");
  if (!f.ok()) return;
  const i64 words = ceil_div(e.channels + (e.planes == 1 ? e.first_bit : 0), kWordBits);
  f.need(e.planes > 1 || e.pixel_words >= words, "the words of a pixel");
  f.need(has_channels_last(e) || e.x_pixel == 1 || e.width == 1, "the strides of its input");
  f.holds(e.x, lying(e), sizes.input, "its input");
  if (e.threshold != nullptr) f.holds(e.threshold, Extent(e.channels), sizes.mask, "its threshold");
  f.need(e.affine == nullptr || e.planes == 1, "its affine map in front of levels");
  if (e.affine != nullptr) f.holds(e.affine, dense(2, e.channels, 1), sizes.rows, "its affine map");
  f.holds(e.bits,
          Extent(words)
              .along(e.width, e.planes == 1 ? e.pixel_words : words)
              .along(e.height, e.bits_row)
              .along(e.batch, e.bits_image)
              .along(e.planes, e.plane_words),
          sizes.bits, "its bits");
}

// Windows along one dimension: each begins in front of the end, and none lies in the padding alone.
bool sound_windows(i64 size, i64 out, i64 kernel, i64 stride, i64 pad) {
  if (!sound(0, {size, out, pad}) || !sound(1, {kernel, stride}) || pad >= kernel) return false;
  i64 last = 0;
  return out == 0 || (!__builtin_mul_overflow(out - 1, stride, &last) && last - pad < size);
}

void check_windows(Findings& f, const PoolImages& p) {
  f.need(sound_windows(p.height, p.out_height, p.kernel_h, p.stride_h, p.pad_h) &&
             sound_windows(p.width, p.out_width, p.kernel_w, p.stride_w, p.pad_w),
         "its windows");
  f.need(sound(0, {p.batch, p.channels, p.lanes}), "its sizes");
  f.need(p.lanes <= kMostMeanLanes && (p.lanes == 0 || (p.out_height == 1 && p.out_width == 1)), "its lanes");
}

void check_pool(Findings& f, const PoolImages& p, const Sizes& sizes) {
  check_windows(f, p);
  f.holds(p.x, dense(p.batch, p.height, p.width, p.channels), sizes.input, "its input");
  if (p.affine != nullptr) f.holds(p.affine, dense(2, p.channels, 1), sizes.rows, "its affine map");
  f.holds(p.out, dense(p.batch, p.out_height, p.out_width, p.channels), sizes.real, "its result");
}

void check_real(Findings& f, const ProgramStep& step, bool pooled) {
  const RealConv& c = step.real;
  f.need(sound(0, {c.batch, c.height, c.width, c.in_turn}) &&
             sound(1, {c.channels, c.out_channels, c.chain, c.groups}) && c.channels % c.groups == 0 &&
             c.out_channels % c.groups == 0,
         "its sizes");
  f.need(sound(1, {c.kernel_h, c.kernel_w, c.stride_h, c.stride_w}) &&
             sound(1, {c.dilation_h, c.dilation_w}) && sound(0, {c.pad_h, c.pad_w}),
         "its windows");
  if (!f.ok()) return;
  f.need(c.out_height == out_extent(c.height, c.kernel_h, c.stride_h, c.pad_h, c.dilation_h) &&
             c.out_width == out_extent(c.width, c.kernel_w, c.stride_w, c.pad_w, c.dilation_w),
         "the size of its result");
  f.holds(c.x, lying(c), step.sizes.input, "its input");
  f.holds(c.weights,
          dense(c.groups * padded_outputs(c.out_channels / c.groups), c.channels / c.groups, c.kernel_h,
                c.kernel_w),
          step.sizes.weights, "its weights");
  if (c.affine != nullptr)
    f.holds(c.affine, dense(2, affine_row(c.out_channels), 1), step.sizes.rows, "its affine map");
  if (c.limits != nullptr) f.holds(c.limits, Extent(2), step.sizes.mask, "its limits");
  if (!pooled) {
    f.holds(c.out, dense(c.batch, c.out_height, c.out_width, c.out_channels), step.sizes.real, "its result");
    return;
  }
  const PoolImages& p = step.pool;
  check_windows(f, p);
  f.need(p.batch == c.batch && p.height == c.out_height && p.width == c.out_width &&
             p.channels == c.out_channels && p.affine == nullptr && p.lanes == 0,
         "its pool");
  f.holds(p.out, dense(p.batch, p.out_height, p.out_width, p.channels), step.sizes.real, "its result");
}

void check_input_scale(Findings& f, const InputScale& s, const Sizes& sizes) {
  f.need(sound(0, {s.batch, s.height, s.width, s.out_height, s.out_width}) && sound(1, {s.channels}),
         "its sizes");
  f.need(sound(1, {s.kernel_h, s.kernel_w, s.stride_h, s.stride_w}) &&
             sound(1, {s.dilation_h, s.dilation_w}) && sound(0, {s.pad_h, s.pad_w}),
         "its windows");
  if (!f.ok()) return;
  f.need(s.per_sample == 1 ||
             (s.per_sample == 0 &&
              s.out_height == out_extent(s.height, s.kernel_h, s.stride_h, s.pad_h, s.dilation_h) &&
              s.out_width == out_extent(s.width, s.kernel_w, s.stride_w, s.pad_w, s.dilation_w)),
         "the size of its result");
  const bool one_tap = s.kernel_h * s.kernel_w == 1 && s.stride_h * s.stride_w == 1 && s.pad_h + s.pad_w == 0;
  const bool empty = s.batch == 0 || s.height == 0 || s.width == 0;
  f.need(empty || s.means != s.out || (one_tap && s.per_sample == 0), "its working memory");
  f.holds(s.x, lying(s), sizes.input, "its input");
  f.holds(s.means, dense(s.batch, s.height, s.width), sizes.input_scale, "its working memory");
  f.holds(s.out, dense(s.batch, s.out_height, s.out_width), sizes.real, "its result");
}

void check_pool_bits(Findings& f, const PoolBits& p, const Sizes& sizes) {
  f.need(sound_windows(p.height, p.out_height, p.kernel_h, p.stride_h, p.pad_h) &&
             sound_windows(p.width, p.out_width, p.kernel_w, p.stride_w, p.pad_w),
         "its windows");
  f.need(sound(0, {p.batch}) && sound(1, {p.words}), "its sizes");
  f.holds(p.x, Extent(p.words).along(p.width, p.words).along(p.height, p.x_row).along(p.batch, p.x_image),
          sizes.input, "its input");
  if (p.flip != nullptr) f.holds(p.flip, Extent(p.words), sizes.mask, "its flips");
  f.holds(
      p.out,
      Extent(p.words).along(p.out_width, p.words).along(p.out_height, p.out_row).along(p.batch, p.out_image),
      sizes.bits, "its bits");
}

void check_concatenate(Findings& f, const ConcatenateBits& c, const Sizes& sizes) {
  f.need(sound(0, {c.batch, c.height, c.width}) && sound(1, {c.channels, c.out_words}), "its sizes");
  f.need(sound(0, {c.offset}) && ceil_div(c.offset + c.channels, kWordBits) <= c.out_words,
         "the place of its part");
  if (!f.ok()) return;
  const i64 words = ceil_div(c.channels, kWordBits);
  f.holds(c.x, Extent(words).along(c.width, words).along(c.height, c.x_row).along(c.batch, c.x_image),
          sizes.input, "its input");
  f.holds(
      c.out,
      Extent(c.out_words).along(c.width, c.out_words).along(c.height, c.out_row).along(c.batch, c.out_image),
      sizes.bits, "its bits");
}

void check_linear(Findings& f, const RealLinear& c, const Sizes& sizes) {
  f.need(sound(0, {c.rows}) && sound(1, {c.features, c.out_features, c.parts}), "its sizes");
  if (!f.ok()) return;
  const i64 outputs = round_up(c.out_features, kRealUnit);
  f.holds(c.x, dense(c.rows, c.features, 1), sizes.input, "its input");
  f.holds(c.weights, dense(outputs, c.features, 1), sizes.weights, "its weights");
  if (c.bias != nullptr) f.holds(c.bias, Extent(outputs), sizes.rows, "its bias");
  if (c.products != nullptr) f.holds(c.products, Extent(c.features), sizes.mask, "the order of its products");
  f.holds(c.tree, dense(c.parts, 2, 1), sizes.tree, "its tree");
  f.holds(c.out, Extent(c.out_features).along(c.rows, c.out_row), sizes.real, "its result");
  if (!f.ok()) return;
  f.need(has_sound_tree(c), "its tree");
  f.need(has_sound_products(c), "the order of its products");
}

void check_operation(Findings& f, const MapImages& p, const MapStep& step) {
  const auto operation = static_cast<MapOperation>(step.operation);
  f.need(step.operation >= 0 && operation < MapOperation::count, "an operation");
  f.need(sound(0, {step.row}) && step.row + rows_of(operation) <= p.row_count, "the rows of an operation");
  const bool residual = operation == MapOperation::add_residual || operation == MapOperation::add_mapped ||
                        operation == MapOperation::multiply_residual;
  const bool factor = operation == MapOperation::add_factor || operation == MapOperation::multiply_factor;
  f.need(!residual || p.residual_pixels != 0, "its residual");
  f.need(!factor || p.factor_pixels != 0, "its factor");
}

void check_map(Findings& f, const MapImages& p, const Sizes& sizes) {
  f.need(sound(0, {p.batch, p.pixels, p.count, p.row_count}) && sound(1, {p.channels}), "its sizes");
  for (i64 pixels : {p.residual_pixels, p.factor_pixels}) {
    f.need(pixels == 0 || pixels == 1 || pixels == p.pixels, "the sizes of its operands");
  }
  if (!f.ok()) return;
  f.holds(p.x, dense(p.batch, p.pixels, p.channels), sizes.input, "its input");
  f.holds(p.residual, dense(p.batch, p.residual_pixels, p.channels), sizes.residual, "its residual");
  f.holds(p.factor, dense(p.batch, p.factor_pixels, p.channels), sizes.factor, "its factor");
  f.holds(p.operations, Extent(p.count), sizes.tree, "its operations");
  f.holds(p.rows, dense(p.row_count, round_up(p.channels, kMapUnit), 1), sizes.rows, "its rows");
  f.holds(p.out, dense(p.batch, p.pixels, p.channels), sizes.real, "its result");
  for (i64 i = 0; i < p.count && f.ok(); ++i) check_operation(f, p, p.operations[i]);
}

// Zero points, or limits, of int8.
bool are_int8(std::initializer_list<i64> numbers) {
  for (i64 number : numbers) {
    if (number < -128 || number > 127) return false;
  }
  return true;
}

bool is_factor(i64 multiplier, i64 shift) {
  return multiplier >= 0 && multiplier < i64{1} << 31 && shift >= -31 && shift <= 30;
}

// The numbers of images with their border, as far as windows reach; also whether all of that is sound.
bool sound_frame(const IntegerConv& c) {
  i64 height = 0, width = 0;
  const bool sound_sizes = !__builtin_mul_overflow(c.out_height - 1, c.stride_h, &height) &&
                           !__builtin_mul_overflow(c.out_width - 1, c.stride_w, &width) &&
                           height < kMostSize && width < kMostSize;
  if (!sound_sizes) return false;
  const i64 most = i64{1} << 40;  // numbers of one image
  const Extent image = dense(height + (c.kernel_h - 1) * c.dilation_h + 1,
                             width + (c.kernel_w - 1) * c.dilation_w + 1, c.channels);
  return image.bytes(1) >= 0 && image.bytes(1) < most;
}

void check_integer_conv(Findings& f, Isa isa, const IntegerConv& c, const Sizes& sizes) {
  f.need(sound(0, {c.batch, c.height, c.width, c.out_height, c.out_width, c.pad_top, c.pad_left}) &&
             sound(1, {c.channels, c.out_channels, c.groups}) && c.channels % larger(c.groups, 1) == 0 &&
             c.out_channels % larger(c.groups, 1) == 0,
         "its sizes");
  f.need(sound(1, {c.kernel_h, c.kernel_w, c.stride_h, c.stride_w}) &&
             sound(1, {c.dilation_h, c.dilation_w}) && c.kernel_h < 1 << 15 && c.kernel_w < 1 << 15 &&
             c.dilation_h < 1 << 15 && c.dilation_w < 1 << 15,
         "its windows");
  if (!f.ok()) return;
  f.need(c.batch == 0 || c.out_height == 0 || c.out_width == 0 || sound_frame(c), "its windows");
  f.need(are_int8({c.zero, c.out_zero, c.low, c.high}), "its zero points and limits");
  f.need(c.ending >= 0 && c.ending < static_cast<i64>(IntegerEnding::count), "its ending");
  f.need(c.weight_bits == 8 || (c.weight_bits == 4 && !is_depthwise(c)), "the bits of its weights");
  if (!f.ok()) return;
  f.holds(c.x, dense(c.batch, c.height, c.width, c.channels), sizes.input, "its input");
  f.holds(static_cast<const std::int8_t*>(c.weights), Extent(integer_conv_kernels(isa).prepared_bytes(c)),
          sizes.weights, "its weights");
  f.holds(c.rows, dense(kIntegerRows, integer_outputs(c), 1), sizes.rows, "its rows");
  f.holds(c.out, dense(c.batch, c.out_height, c.out_width, c.out_channels), sizes.real, "its result");
}

void check_integer_add(Findings& f, const IntegerAdd& s, const Sizes& sizes) {
  f.need(are_int8({s.zero_a, s.zero_b, s.out_zero, s.low, s.high}), "its zero points and limits");
  f.need(is_factor(s.a_multiplier, s.a_shift) && is_factor(s.b_multiplier, s.b_shift) &&
             is_factor(s.multiplier, s.shift),
         "its factors");
  f.holds(s.x, Extent(s.count), sizes.input, "its input");
  f.holds(s.residual, Extent(s.count), sizes.residual, "its residual");
  f.holds(s.out, Extent(s.count), sizes.real, "its result");
}

void check_integer_pool(Findings& f, const IntegerPool& p, const Sizes& sizes) {
  f.need(sound_windows(p.height, p.out_height, p.kernel_h, p.stride_h, p.pad_top) &&
             sound_windows(p.width, p.out_width, p.kernel_w, p.stride_w, p.pad_left),
         "its windows");
  if (!f.ok()) return;
  f.need(sound(0, {p.batch, p.channels}) && p.kernel_h * p.kernel_w < i64{1} << 23, "its sizes");
  f.need(are_int8({p.low, p.high}), "its limits");
  f.holds(p.x, dense(p.batch, p.height, p.width, p.channels), sizes.input, "its input");
  f.holds(p.out, dense(p.batch, p.out_height, p.out_width, p.channels), sizes.real, "its result");
}

void check_integer_table(Findings& f, const IntegerTable& t, const Sizes& sizes) {
  f.holds(t.x, Extent(t.count), sizes.input, "its input");
  f.holds(t.table, Extent(256), sizes.rows, "its table");
  f.holds(t.out, Extent(t.count), sizes.real, "its result");
}

void check_integer_softmax(Findings& f, const IntegerSoftmax& s, const Sizes& sizes) {
  f.need(sound(0, {s.rows, s.answers}) && s.answers < i64{1} << kSoftmaxSumBits && s.least >= -255 &&
             s.least <= 0,
         "its sizes");
  f.holds(s.exps, Extent(256), sizes.rows, "its exponentials");
  f.holds(s.x, dense(s.rows, s.answers, 1), sizes.input, "its input");
  f.holds(s.out, dense(s.rows, s.answers, 1), sizes.real, "its result");
}

void check_integer_mean(Findings& f, const IntegerMean& m, const Sizes& sizes) {
  f.need(sound(0, {m.batch}) && sound(1, {m.channels, m.pixels}) && m.pixels <= i64{1} << 23, "its sizes");
  f.need(are_int8({m.zero, m.out_zero, m.low, m.high}), "its zero points and limits");
  f.need(is_factor(m.multiplier, m.shift), "its factor");
  f.holds(m.x, dense(m.batch, m.pixels, m.channels), sizes.input, "its input");
  f.holds(m.out, dense(m.batch, m.channels, 1), sizes.real, "its result");
}

void check_integer_quantize(Findings& f, const IntegerQuantize& q, const Sizes& sizes) {
  f.need(sound(0, {q.batch, q.height, q.width}) && sound(1, {q.channels}), "its sizes");
  f.need(are_int8({q.zero}), "its zero point");
  if (!f.ok()) return;
  f.holds(q.scale, Extent(1), sizes.rows, "its scale");
  f.holds(q.x, lying(q), sizes.input, "its input");
  f.holds(q.out, dense(q.batch, q.height, q.width, q.channels), sizes.real, "its result");
}

void check_integer_dequantize(Findings& f, const IntegerDequantize& d, const Sizes& sizes) {
  f.holds(d.x, Extent(d.count), sizes.input, "its input");
  f.holds(d.table, Extent(256), sizes.rows, "its table");
  f.holds(d.out, Extent(d.count), sizes.real, "its result");
}

}  // namespace

Misfit misfit_of(Isa isa, const ProgramStep& step) {
  Findings f;
  switch (step.kind) {
    case StepKind::convolve:
      check_convolve(f, isa, step);
      break;
    case StepKind::encode:
      check_encode(f, step.encode, step.sizes);
      break;
    case StepKind::pool:
      check_pool(f, step.pool, step.sizes);
      break;
    case StepKind::real:
      check_real(f, step, false);
      break;
    case StepKind::real_pool:
      check_real(f, step, true);
      break;
    case StepKind::linear:
      check_linear(f, step.linear, step.sizes);
      break;
    case StepKind::input_scale:
      check_input_scale(f, step.input_scale, step.sizes);
      break;
    case StepKind::map:
      check_map(f, step.map, step.sizes);
      break;
    case StepKind::pool_bits:
      check_pool_bits(f, step.pool_bits, step.sizes);
      break;
    case StepKind::concatenate_bits:
      check_concatenate(f, step.concatenate_bits, step.sizes);
      break;
    case StepKind::integer_conv:
      check_integer_conv(f, isa, step.integer_conv, step.sizes);
      break;
    case StepKind::integer_add:
      check_integer_add(f, step.integer_add, step.sizes);
      break;
    case StepKind::integer_pool:
      check_integer_pool(f, step.integer_pool, step.sizes);
      break;
    case StepKind::integer_table:
      check_integer_table(f, step.integer_table, step.sizes);
      break;
    case StepKind::integer_softmax:
      check_integer_softmax(f, step.integer_softmax, step.sizes);
      break;
    case StepKind::integer_mean:
      check_integer_mean(f, step.integer_mean, step.sizes);
      break;
    case StepKind::integer_quantize:
      check_integer_quantize(f, step.integer_quantize, step.sizes);
      break;
    case StepKind::integer_dequantize:
      check_integer_dequantize(f, step.integer_dequantize, step.sizes);
      break;
    default:
      f.need(false, "its kind");
  }
  return f.found;
}

}  // namespace bittern
