// SPDX-License-Identifier: Apache-2.0

// Reads what `bittern.deploy.executorch.blob` writes: values, and calls of kernels over them. Everything is
// checked against the length of the blob before it is used.
#pragma once

#include <vector>

#include "types.h"

namespace bittern {

enum class Place : i64 { argument = 0, working = 1, constant = 2 };
enum class Code : i64 {
  pack = 0,
  exclusive_or = 1,
  conv2d = 2,
  permute = 3,
  pool_bits = 4,
  concatenate_bits = 5
};

struct Value {
  Place place;
  i64 offset;  // an argument: its position
  i64 bytes;
};

struct CallRecord {
  Code code;
  std::vector<i64> operands;
};

struct Blob {
  i64 inputs, outputs, working_bytes;
  std::vector<Value> values;
  std::vector<CallRecord> calls;
  const u8* constants;
};

// Null, or what is wrong with the bytes. `blob` points into `data`.
const char* read_blob(const void* data, std::size_t bytes, Blob& blob);

}  // namespace bittern
