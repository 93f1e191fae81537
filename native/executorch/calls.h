// SPDX-License-Identifier: Apache-2.0

// One call of a kernel, made ready at load: constants copied, weight bits laid out for this CPU's kernel.
#pragma once

#include <memory>
#include <vector>

#include "blob.h"
#include "isa.h"

namespace bittern {

class Call {
 public:
  virtual ~Call() = default;
  // values: where each value of the blob lies; constants are null, a call has its own.
  virtual void run(u8* const* values, int threads) const = 0;
};

// Null, with the reason in `problem`, where the numbers of the record do not fit together.
std::unique_ptr<Call> make_call(const CallRecord& record, const Blob& blob, Isa isa, const char*& problem);

}  // namespace bittern
