// SPDX-License-Identifier: Apache-2.0

// Checks the kernels of every instruction set that this CPU can run against naive code. Exits with 1 on a
// failure, and on a CPU that could have run a set which was never tried.
//
// Arguments: names of CPU features that must be there, so that a path which needs one cannot go untried in
// silence; --no-fork leaves out forked children, in which an emulator may be unable to start threads;
// --only=NAME, once or several times, tries these instruction sets alone, which must be there.

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "binary_conv2d/kernel.h"

#include "harness.h"

namespace bittern::test {
namespace {

bool has_feature(const std::string& name) {
  for (const CpuFeature& feature : cpu_features()) {
    if (name == feature.name) return feature.present;
  }
  return false;
}

void test_isa(Isa isa, Results& results) {
  if (!isa_available(isa)) {
    std::printf("%s: not available here\n", isa_name(isa));
    return;
  }
  const int before = results.passed() + results.failed();
  test_elementwise(isa, results);
  test_conv2d(isa, results);
  test_codes(isa, results);
  test_blockwise(isa, results);
  test_step_types(isa, results);
  test_linear(isa, results);
  test_real(isa, results);
  test_bits(isa, results);
#if defined(BITTERN_EMULATE_AMX)
  if (isa == Isa::amx) results.record(amx::emulated_products() > 0, "binary_conv2d amx: no tile was used");
#endif
  const int cases = results.passed() + results.failed() - before;
  std::printf("%s: %d cases\n", isa_name(isa), cases);
  if (cases == 0) results.record(false, std::string(isa_name(isa)) + ": available, but nothing was run");
}

}  // namespace
}  // namespace bittern::test

int main(int count, char** arguments) {
  using namespace bittern;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  test::Results results;
  std::vector<std::string> only;
  bool with_fork = true;
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    if (argument == "--no-fork") {
      with_fork = false;
      std::printf("threads: no forked children are tried\n");
    } else if (argument.rfind("--only=", 0) == 0) {
      only.push_back(argument.substr(7));
    } else {
      results.record(test::has_feature(argument), "this CPU has the feature " + argument);
    }
  }
  for (const std::string& name : only) {
    const bool there =
        std::any_of(std::begin(kInstructionSets), std::end(kInstructionSets),
                    [&](const InstructionSet& set) { return name == set.name && isa_available(set.isa); });
    results.record(there, "--only=" + name + ": such an instruction set is here");
  }
  for (const InstructionSet& set : kInstructionSets) {
    if (only.empty() || std::find(only.begin(), only.end(), set.name) != only.end())
      test::test_isa(set.isa, results);
  }
  test::test_threads(with_fork, results);
  std::printf("%d passed, %d failed\n", results.passed(), results.failed());
  return results.failed() == 0 ? 0 : 1;
}
