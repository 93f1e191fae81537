// SPDX-License-Identifier: Apache-2.0
#include "calls.h"

#include <initializer_list>
#include <utility>

#include "binary_conv2d/kernel.h"
#include "concatenate_bits/kernel.h"
#include "memory.h"
#include "pack_signs/kernel.h"
#include "permute.h"
#include "pool_bits/kernel.h"

namespace bittern {
namespace {

constexpr i64 kNone = -1;
constexpr i64 kElement = sizeof(float), kWord = sizeof(u64);
constexpr i64 kEpilogueRows = 4, kByteBits = 8;

// A number that no size reaches where the product would overflow.
i64 product(std::initializer_list<i64> sizes) {
  i64 result = 1;
  for (i64 size : sizes) {
    if (__builtin_mul_overflow(result, size, &result)) return kNone;
  }
  return result;
}

// The operands of a record, checked: the first wrong one leaves its reason in `problem`.
class Operands {
 public:
  Operands(const CallRecord& record, const Blob& blob) : record_(record), blob_(blob) {}

  i64 number(i64 least = 0) {
    const i64 found = next_ < record_.operands.size() ? record_.operands[next_] : kNone;
    ++next_;
    constexpr i64 kLargest = i64{1} << 31;
    if (found < least || found > kLargest) problem = "a number of a call is out of range";
    return problem == nullptr ? found : larger(least, 1);
  }

  // A value that `run` finds under this number.
  i64 value() {
    const i64 found = number();
    if (found < count() && blob_.values[static_cast<std::size_t>(found)].place != Place::constant)
      return found;
    problem = "a call names a value that does not exist";
    return 0;
  }

  void need_bytes(i64 value, std::initializer_list<i64> sizes) {
    if (problem == nullptr && blob_.values[static_cast<std::size_t>(value)].bytes != product(sizes)) {
      problem = "a value has not the size that a call gives it";
    }
  }

  // Number of a constant of `bytes` bytes, or kNone; to be looked at when the size is known.
  i64 constant() { return number(kNone); }

  const u8* constant_bytes(i64 index, i64 bytes) {
    if (index == kNone || problem != nullptr) return nullptr;
    const bool exists =
        index < count() && blob_.values[static_cast<std::size_t>(index)].place == Place::constant;
    if (exists && blob_.values[static_cast<std::size_t>(index)].bytes == bytes) {
      return blob_.constants + blob_.values[static_cast<std::size_t>(index)].offset;
    }
    problem = "a constant has not the size that a call gives it";
    return nullptr;
  }

  Memory constant_copy(i64 index, i64 bytes) {
    const u8* found = constant_bytes(index, bytes);
    return found == nullptr ? Memory() : Memory(found, bytes);
  }

  const char* problem = nullptr;

 private:
  i64 count() const { return static_cast<i64>(blob_.values.size()); }

  const CallRecord& record_;
  const Blob& blob_;
  std::size_t next_ = 0;
};

class Pack final : public Call {
 public:
  Pack(Operands& o, Isa isa) : kernels_(pack_signs_kernels(isa)), input_(o.value()) {
    const i64 threshold = o.constant();
    output_ = o.value();
    const i64 type = o.number();
    rows_ = o.number();
    columns_ = o.number(1);
    type_ = type == static_cast<i64>(DType::i32) ? DType::i32 : DType::f32;
    if (type != static_cast<i64>(type_)) o.problem = "signs are taken of float32 and int32 only";
    static_assert(kElement == sizeof(i32), "both types have the same size");
    threshold_ = o.constant_copy(threshold, columns_ * kElement);
    o.need_bytes(input_, {rows_, columns_, kElement});
    o.need_bytes(output_, {rows_, ceil_div(columns_, kWordBits), kWord});
  }

  void run(u8* const* values, int threads) const override {
    kernels_.pack(values[input_], type_, rows_, columns_, threshold_.start(),
                  reinterpret_cast<u64*>(values[output_]), threads);
  }

 private:
  const PackSignsKernels& kernels_;
  i64 input_, output_, rows_, columns_;
  DType type_;
  Memory threshold_;
};

class ExclusiveOr final : public Call {
 public:
  explicit ExclusiveOr(Operands& o) : input_(o.value()) {
    const i64 mask = o.constant();
    output_ = o.value();
    rows_ = o.number();
    words_ = o.number(1);
    mask_ = o.constant_copy(mask, words_ * kWord);
    if (mask_.start() == nullptr && o.problem == nullptr) o.problem = "an exclusive or needs its mask";
    o.need_bytes(input_, {rows_, words_, kWord});
    o.need_bytes(output_, {rows_, words_, kWord});
  }

  void run(u8* const* values, int) const override {
    const u64 *in = reinterpret_cast<const u64*>(values[input_]), *mask = mask_.as<const u64>();
    u64* out = reinterpret_cast<u64*>(values[output_]);
    for (i64 row = 0; row < rows_; ++row) {
      for (i64 i = 0; i < words_; ++i) out[row * words_ + i] = in[row * words_ + i] ^ mask[i];
    }
  }

 private:
  i64 input_, output_, rows_, words_;
  Memory mask_;
};

// Weight bits without gaps -> words that start anew for every tap.
void spread_bits(const u8* bits, i64 rows, i64 channels, u64* words) {
  const i64 row_words = ceil_div(channels, kWordBits);
  i64 bit = 0;
  for (i64 row = 0; row < rows; ++row) {
    u64* out = words + row * row_words;
    for (i64 i = 0; i < row_words; ++i) out[i] = 0;
    for (i64 c = 0; c < channels; ++c, ++bit) {
      const u64 one = bits[bit / kByteBits] >> (bit % kByteBits) & 1;
      out[c / kWordBits] |= one << (c % kWordBits);
    }
  }
}

class Convolution final : public Call {
 public:
  Convolution(Operands& o, Isa isa) : kernels_(binary_conv2d_kernels(isa)), input_(o.value()) {
    const i64 weight = o.constant(), epilogue = o.constant();
    output_ = o.value();
    read_sizes(o);
    if (o.problem != nullptr) return;
    const Conv2d& c = conv_;
    const WeightShape shape{c.out_channels, c.kernel_h * c.kernel_w, c.channels, c.groups};
    const i64 per_group = c.channels / c.groups, bit_count = product({c.out_channels, shape.taps, per_group});
    const u8* bits = o.constant_bytes(weight, ceil_div(bit_count, kByteBits));
    epilogue_ = o.constant_copy(epilogue, product({kEpilogueRows, c.out_channels, kElement}));
    if (bits == nullptr && o.problem == nullptr) o.problem = "a convolution needs its weights";
    if (o.problem == nullptr) lay_out(shape, bits, per_group);
  }

  void run(u8* const* values, int threads) const override {
    Conv2d conv = conv_;
    conv.input = reinterpret_cast<const u64*>(values[input_]);
    conv.weights = weights_.start();
    conv.epilogue = epilogue_.as<const float>();
    conv.output = values[output_];
    kernels_.conv2d(conv, threads);
  }

 private:
  void read_sizes(Operands& o) {
    Conv2d& c = conv_;
    c.batch = o.number();
    c.height = o.number(1);
    c.width = o.number(1);
    c.channels = o.number(1);
    c.out_channels = o.number(1);
    c.kernel_h = o.number(1);
    c.kernel_w = o.number(1);
    c.stride_h = o.number(1);
    c.stride_w = o.number(1);
    c.pad_h = o.number();
    c.pad_w = o.number();
    c.dilation_h = o.number(1);
    c.dilation_w = o.number(1);
    c.groups = o.number(1);
    c.pad_value = o.number(-1);
    if (c.channels % c.groups != 0 || c.out_channels % c.groups != 0 || c.pad_value > 1) {
      o.problem = "groups or padding of a convolution";
    }
    if (o.problem != nullptr) return;
    o.need_bytes(input_, {c.batch, c.height, c.width, ceil_div(c.channels, kWordBits), kWord});
    const i64 out_h = extent(c.height, c.kernel_h, c.stride_h, c.pad_h, c.dilation_h);
    const i64 out_w = extent(c.width, c.kernel_w, c.stride_w, c.pad_w, c.dilation_w);
    o.need_bytes(output_, {c.batch, out_h, out_w, c.out_channels, kElement});
  }

  static i64 extent(i64 size, i64 kernel, i64 stride, i64 pad, i64 dilation) {
    const i64 travel = size + 2 * pad - dilation * (kernel - 1) - 1;
    return travel < 0 ? 0 : travel / stride + 1;
  }

  void lay_out(const WeightShape& shape, const u8* bits, i64 per_group) {
    const i64 rows = shape.out_channels * shape.taps;
    const Memory words(rows * ceil_div(per_group, kWordBits) * kWord);
    spread_bits(bits, rows, per_group, words.as<u64>());
    weights_ = Memory(kernels_.prepared_bytes(shape));
    kernels_.prepare_weights(shape, words.as<const u64>(), weights_.start());
  }

  const BinaryConv2dKernels& kernels_;
  i64 input_, output_;
  Conv2d conv_{};
  Memory weights_, epilogue_;
};

class Permute final : public Call {
 public:
  explicit Permute(Operands& o) : input_(o.value()), output_(o.value()) {
    plan_.element_bytes = o.number(1);
    for (i64& size : plan_.sizes) size = o.number();
    for (i64& from : plan_.order) from = o.number();
    if (!is_permutation(plan_)) o.problem = "an order is no permutation";
    const i64* s = plan_.sizes;
    o.need_bytes(input_, {s[0], s[1], s[2], s[3], plan_.element_bytes});
    o.need_bytes(output_, {s[0], s[1], s[2], s[3], plan_.element_bytes});
  }

  void run(u8* const* values, int threads) const override {
    permute(plan_, values[input_], values[output_], threads);
  }

 private:
  i64 input_, output_;
  Permutation plan_{};
};

class PoolBitsCall final : public Call {
 public:
  explicit PoolBitsCall(Operands& o) : input_(o.value()) {
    const i64 flip = o.constant();
    output_ = o.value();
    PoolBits& p = pool_;
    p.batch = o.number();
    p.height = o.number(1);
    p.width = o.number(1);
    p.words = o.number(1);
    p.out_height = o.number(1);
    p.out_width = o.number(1);
    p.kernel_h = o.number(1);
    p.kernel_w = o.number(1);
    p.stride_h = o.number(1);
    p.stride_w = o.number(1);
    p.pad_h = o.number();
    p.pad_w = o.number();
    flip_ = o.constant_copy(flip, p.words * kWord);
    o.need_bytes(input_, {p.batch, p.height, p.width, p.words, kWord});
    o.need_bytes(output_, {p.batch, p.out_height, p.out_width, p.words, kWord});
    p.x_row = product({p.width, p.words});
    p.x_image = product({p.height, p.width, p.words});
    p.out_row = product({p.out_width, p.words});
    p.out_image = product({p.out_height, p.out_width, p.words});
  }

  void run(u8* const* values, int threads) const override {
    PoolBits pool = pool_;
    pool.x = reinterpret_cast<const u64*>(values[input_]);
    pool.flip = flip_.as<const u64>();
    pool.out = reinterpret_cast<u64*>(values[output_]);
    pool_bits(pool, threads);
  }

 private:
  i64 input_, output_;
  PoolBits pool_{};
  Memory flip_;
};

class ConcatenateBitsCall final : public Call {
 public:
  explicit ConcatenateBitsCall(Operands& o) : input_(o.value()), output_(o.value()) {
    ConcatenateBits& c = part_;
    c.batch = c.height = 1;
    c.width = o.number();
    c.channels = o.number(1);
    c.offset = o.number();
    c.out_words = o.number(1);
    const i64 words = ceil_div(c.channels, kWordBits);
    if (ceil_div(c.offset + c.channels, kWordBits) > c.out_words) o.problem = "bits do not fit side by side";
    o.need_bytes(input_, {c.width, words, kWord});
    o.need_bytes(output_, {c.width, c.out_words, kWord});
  }

  void run(u8* const* values, int threads) const override {
    ConcatenateBits part = part_;
    part.x = reinterpret_cast<const u64*>(values[input_]);
    part.out = reinterpret_cast<u64*>(values[output_]);
    part.x_row = part.x_image = part.out_row = part.out_image = 0;  // one row of one image
    concatenate_bits(part, threads);
  }

 private:
  i64 input_, output_;
  ConcatenateBits part_{};
};

std::unique_ptr<Call> make(Operands& operands, Code code, Isa isa) {
  if (code == Code::pack) return std::make_unique<Pack>(operands, isa);
  if (code == Code::exclusive_or) return std::make_unique<ExclusiveOr>(operands);
  if (code == Code::conv2d) return std::make_unique<Convolution>(operands, isa);
  if (code == Code::permute) return std::make_unique<Permute>(operands);
  if (code == Code::pool_bits) return std::make_unique<PoolBitsCall>(operands);
  if (code == Code::concatenate_bits) return std::make_unique<ConcatenateBitsCall>(operands);
  operands.problem = "a call that these kernels do not know; build them anew";
  return nullptr;
}

}  // namespace

std::unique_ptr<Call> make_call(const CallRecord& record, const Blob& blob, Isa isa, const char*& problem) {
  Operands operands(record, blob);
  std::unique_ptr<Call> call = make(operands, record.code, isa);
  problem = operands.problem;
  return problem == nullptr ? std::move(call) : nullptr;
}

}  // namespace bittern
