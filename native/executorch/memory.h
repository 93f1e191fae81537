// SPDX-License-Identifier: Apache-2.0

// Memory that starts at a cache line, owned.
#pragma once

#include <cstdlib>
#include <cstring>

#include "types.h"

namespace bittern {

class Memory {
 public:
  Memory() = default;
  explicit Memory(i64 bytes)
      : start_(static_cast<u8*>(std::aligned_alloc(kAlignment, static_cast<std::size_t>(capacity(bytes))))),
        bytes_(bytes) {}
  Memory(const void* source, i64 bytes) : Memory(bytes) {
    if (start_ != nullptr) std::memcpy(start_, source, static_cast<std::size_t>(bytes));
  }
  ~Memory() { std::free(start_); }
  Memory(Memory&& other) noexcept : start_(other.start_), bytes_(other.bytes_) { other.start_ = nullptr; }
  Memory& operator=(Memory&& other) noexcept {
    std::free(start_);
    start_ = other.start_;
    bytes_ = other.bytes_;
    other.start_ = nullptr;
    return *this;
  }

  // Null where the system had none left.
  u8* start() const { return start_; }
  i64 bytes() const { return bytes_; }

  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(start_);
  }

 private:
  static constexpr i64 kAlignment = 64;
  static i64 capacity(i64 bytes) { return round_up(larger(bytes, 1), kAlignment); }

  u8* start_ = nullptr;
  i64 bytes_ = 0;
};

}  // namespace bittern
