// SPDX-License-Identifier: Apache-2.0
#include "blob.h"

#include <cstring>

namespace bittern {
namespace {

constexpr i64 kMagic = 0x006e726574746962;  // "bittern\0"
constexpr i64 kVersion = 1;
constexpr i64 kLargest = i64{1} << 40;  // of any count or size: sums of a few cannot overflow

// The next numbers of the blob; after the end, `good` is false and all numbers are 0.
class Reader {
 public:
  Reader(const void* data, std::size_t bytes) : data_(static_cast<const u8*>(data)), left_(bytes) {}

  i64 next() {
    i64 number = 0;
    if (left_ < sizeof number) return fail();
    std::memcpy(&number, data_, sizeof number);  // the bytes of a .pte need not be aligned
    data_ += sizeof number;
    left_ -= sizeof number;
    return number;
  }

  i64 count() {
    const i64 number = next();
    return number < 0 || number > kLargest ? fail() : number;
  }

  bool good() const { return good_; }
  const u8* rest() const { return data_; }
  i64 left() const { return static_cast<i64>(left_); }

 private:
  i64 fail() {
    good_ = false;
    left_ = 0;
    return 0;
  }

  const u8* data_;
  std::size_t left_;
  bool good_ = true;
};

bool fits(const Value& value, const Blob& blob, i64 constant_bytes) {
  if (value.place == Place::argument) return value.offset < blob.inputs + blob.outputs;
  if (value.place == Place::working) return value.offset + value.bytes <= blob.working_bytes;
  return value.place == Place::constant && value.offset + value.bytes <= constant_bytes;
}

}  // namespace

const char* read_blob(const void* data, std::size_t bytes, Blob& blob) {
  Reader reader(data, bytes);
  if (reader.next() != kMagic) return "these are no calls of bittern";
  if (reader.next() != kVersion)
    return "the file needs another version of the bittern kernels; build them anew";
  blob.inputs = reader.count();
  blob.outputs = reader.count();
  const i64 values = reader.count(), call_numbers = reader.count();
  blob.working_bytes = reader.count();
  const i64 constant_bytes = reader.count();
  for (i64 i = 0; i < values && reader.good(); ++i) {
    const Place place = static_cast<Place>(reader.count());
    const i64 offset = reader.count(), size = reader.count();
    blob.values.push_back({place, offset, size});
    if (!fits(blob.values.back(), blob, constant_bytes)) return "a value lies outside its memory";
  }
  for (i64 read = 0; read < call_numbers && reader.good();) {
    CallRecord call{static_cast<Code>(reader.count()), {}};
    const i64 operands = reader.count();
    for (i64 i = 0; i < operands && reader.good(); ++i) call.operands.push_back(reader.next());
    read += operands + 2;
    blob.calls.push_back(call);
  }
  blob.constants = reader.rest();
  if (!reader.good() || reader.left() < constant_bytes) return "the bytes end early";
  return nullptr;
}

}  // namespace bittern
