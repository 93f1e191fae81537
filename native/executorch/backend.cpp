// SPDX-License-Identifier: Apache-2.0

// The backend of ExecuTorch's runtime that runs the low-bit parts of a `.pte`. Loading this library, or
// linking it whole, registers it under the name that the file asks for.

#include <executorch/extension/threadpool/threadpool_guard.h>
#include <executorch/runtime/backend/interface.h>
#include <executorch/runtime/core/exec_aten/exec_aten.h>
#include <executorch/runtime/platform/log.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <thread>
#include <utility>
#include <variant>

#include "calls.h"
#include "memory.h"

namespace bittern {
namespace {

namespace et = ::executorch::runtime;

constexpr const char* kName = "BitternBackend";
constexpr const char* kThreads = "threads";  // the one option

// One partition of a loaded method.
struct Delegate {
  std::vector<Value> values;
  std::vector<std::unique_ptr<Call>> calls;
  std::vector<u8*> addresses;  // of the values; those of arguments change with each execution
  std::size_t arguments;
  Memory working;
};

et::Error invalid(const char* problem) {
  ET_LOG(Error, "bittern: %s", problem);
  return et::Error::DelegateInvalidCompatibility;
}

// As Python chooses: the default, or the set that BITTERN_ISA names; false when that cannot run here.
bool choose_isa(Isa& isa) {
  const char* forced = std::getenv("BITTERN_ISA");
  isa = default_isa();
  if (forced == nullptr || *forced == '\0') return true;
  for (const InstructionSet& set : kInstructionSets) {
    if (std::strcmp(forced, set.name) != 0) continue;
    isa = set.isa;
    return isa_available(isa);
  }
  return false;
}

const char* prepare(const Blob& blob, Isa isa, Delegate& delegate) {
  delegate.values = blob.values;
  delegate.arguments = static_cast<std::size_t>(blob.inputs + blob.outputs);
  delegate.working = Memory(blob.working_bytes);
  if (delegate.working.start() == nullptr) return "there is no memory for the values between calls";
  for (const Value& value : blob.values) {
    delegate.addresses.push_back(value.place == Place::working ? delegate.working.start() + value.offset
                                                               : nullptr);
  }
  for (const CallRecord& record : blob.calls) {
    const char* problem = nullptr;
    delegate.calls.push_back(make_call(record, blob, isa, problem));
    if (problem != nullptr) return problem;
  }
  return nullptr;
}

class Backend final : public et::BackendInterface {
 public:
  bool is_available() const override { return true; }

  et::Result<et::DelegateHandle*> init(et::BackendInitContext&, et::FreeableBuffer* processed,
                                       et::ArrayRef<et::CompileSpec>) const override {
    Isa isa = Isa::scalar;
    if (!choose_isa(isa)) return invalid("BITTERN_ISA names an instruction set that this CPU lacks");
    Blob blob{};
    const char* problem = read_blob(processed->data(), processed->size(), blob);
    if (problem != nullptr) return invalid(problem);
    auto delegate = std::make_unique<Delegate>();
    problem = prepare(blob, isa, *delegate);
    if (problem != nullptr) return invalid(problem);
    processed->Free();  // every call has its constants by now
    return static_cast<et::DelegateHandle*>(delegate.release());
  }

  et::Error execute(et::BackendExecutionContext&, et::DelegateHandle* handle,
                    et::Span<et::EValue*> args) const override {
    Delegate& delegate = *static_cast<Delegate*>(handle);
    if (args.size() != delegate.arguments) return et::Error::InvalidArgument;
    for (std::size_t i = 0; i < delegate.values.size(); ++i) {
      const Value& value = delegate.values[i];
      if (value.place != Place::argument) continue;
      const et::EValue& argument = *args[static_cast<std::size_t>(value.offset)];
      if (!argument.isTensor() || static_cast<i64>(argument.toTensor().nbytes()) != value.bytes) {
        ET_LOG(Error, "bittern: argument %lld has another size than the file says",
               static_cast<long long>(value.offset));
        return et::Error::InvalidArgument;
      }
      delegate.addresses[i] = static_cast<u8*>(argument.toTensor().mutable_data_ptr());
    }
    const int threads =
        executorch::extension::threadpool::NoThreadPoolGuard::is_enabled() ? 1 : threads_.load();
    for (const auto& call : delegate.calls) call->run(delegate.addresses.data(), threads);
    return et::Error::Ok;
  }

  void destroy(et::DelegateHandle* handle) const override { delete static_cast<Delegate*>(handle); }

  et::Error set_option(et::BackendOptionContext&, const et::Span<et::BackendOption>& options) override {
    for (const et::BackendOption& option : options) {
      const int* threads = std::get_if<int>(&option.value);
      if (std::strcmp(option.key, kThreads) != 0 || threads == nullptr || *threads < 1) {
        ET_LOG(Error, "bittern: the only option is '%s', a number of at least 1; got '%s'", kThreads,
               option.key);
        return et::Error::InvalidArgument;
      }
      threads_ = *threads;
    }
    return et::Error::Ok;
  }

 private:
  // By default all cores, as ExecuTorch's own thread pool.
  std::atomic<int> threads_{static_cast<int>(larger(std::thread::hardware_concurrency(), 1))};
};

Backend backend;
const et::Error registered = et::register_backend({kName, &backend});

}  // namespace
}  // namespace bittern
