// SPDX-License-Identifier: Apache-2.0

// The layout of a record that Python fills: its fields by name, as the compiler has placed them.
#pragma once

#include <array>
#include <cstddef>

namespace bittern {

struct Field {
  const char* name;
  std::size_t offset, bytes;
};

#define BITTERN_FIELD(Record, name)                     \
  Field {                                               \
    #name, offsetof(Record, name), sizeof(Record::name) \
  }

// Whether the fields, in order, are the whole record.
template <std::size_t n>
constexpr bool is_whole(const std::array<Field, n>& fields, std::size_t bytes) {
  std::size_t end = 0;
  for (const Field& field : fields) {
    if (field.offset != end) return false;
    end += field.bytes;
  }
  return end == bytes;
}

}  // namespace bittern
