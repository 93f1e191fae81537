// SPDX-License-Identifier: Apache-2.0

// What the bindings of all ops share: checked codes, and pointers from the integers that Python passes.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

#include "isa.h"
#include "record.h"
#include "types.h"

namespace bittern {

namespace nb = nanobind;

inline Isa checked_isa(int code) {
  for (const InstructionSet& set : kInstructionSets) {
    if (static_cast<int>(set.isa) != code) continue;
    if (isa_available(set.isa)) return set.isa;
    throw nb::value_error(
        (std::string("isa: '") + set.name + "' cannot run here; see available_isas()").c_str());
  }
  std::string known;
  for (const InstructionSet& set : kInstructionSets) {
    known += (known.empty() ? "" : ", ") + std::to_string(static_cast<int>(set.isa)) + " (" + set.name + ")";
  }
  throw nb::value_error(("isa: expected one of " + known + "; got " + std::to_string(code)).c_str());
}

inline DType checked_dtype(int code) {
  if (code >= 0 && code <= static_cast<int>(DType::i32)) return static_cast<DType>(code);
  throw nb::value_error(
      ("dtype: expected 0 (f32), 1 (f64), 2 (f16), 3 (bf16) or 4 (int32); got " + std::to_string(code))
          .c_str());
}

inline DType checked_float(const char* op, int code) {
  const DType type = checked_dtype(code);
  if (type == DType::f32 || type == DType::bf16 || type == DType::f16) return type;
  throw nb::value_error((std::string(op) + ": dtype must be 0 (f32), 2 (f16) or 3 (bf16)").c_str());
}

// (name, offset, bytes) of each field of a record.
template <std::size_t n>
nb::list layout_of(const std::array<Field, n>& fields) {
  nb::list found;
  for (const Field& field : fields) found.append(nb::make_tuple(field.name, field.offset, field.bytes));
  return found;
}

template <class T>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

}  // namespace bittern
