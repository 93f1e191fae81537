// SPDX-License-Identifier: Apache-2.0

// Checks the kernels of every instruction set that this CPU can run against naive code. Exits with 1 on a
// failure, and on a CPU that could have run a set which was never tried.
//
// Arguments: names of CPU features that must be there, so that a path which needs one cannot go untried in
// silence; --no-fork leaves out forked children, in which an emulator may be unable to start threads;
// --only=NAME, once or several times, tries these instruction sets alone, which must be there; --tests=NAME,
// once or several times, these groups of tests alone.

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

struct Group {
  const char* name;
  void (*test)(Isa isa, Results& results);
};

constexpr Group kGroups[] = {{"elementwise", test_elementwise},
                             {"estimators", test_estimators},
                             {"conv2d", test_conv2d},
                             {"codes", test_codes},
                             {"blockwise", test_blockwise},
                             {"steps", test_step_types},
                             {"linear", test_linear},
                             {"groups", test_groups},
                             {"integers", test_integers},
                             {"real", test_real},
                             {"rows", test_rows},
                             {"bits", test_bits},
                             {"multibit", test_multibit}};

bool among(const std::vector<std::string>& names, const char* name) {
  return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
}

void test_isa(Isa isa, const std::vector<std::string>& groups, Results& results) {
  if (!isa_available(isa)) {
    std::printf("%s: not available here\n", isa_name(isa));
    return;
  }
  const int before = results.passed() + results.failed();
  for (const Group& group : kGroups) {
    if (among(groups, group.name)) group.test(isa, results);
  }
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
  std::vector<std::string> only, groups;
  bool with_fork = true;
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    if (argument == "--no-fork") {
      with_fork = false;
      std::printf("threads: no forked children are tried\n");
    } else if (argument.rfind("--only=", 0) == 0) {
      only.push_back(argument.substr(7));
    } else if (argument.rfind("--tests=", 0) == 0) {
      groups.push_back(argument.substr(8));
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
  for (const std::string& name : groups) {
    const bool there = std::any_of(std::begin(test::kGroups), std::end(test::kGroups),
                                   [&](const test::Group& group) { return name == group.name; });
    results.record(there, "--tests=" + name + ": there is such a group of tests");
  }
  for (const InstructionSet& set : kInstructionSets) {
    if (test::among(only, set.name)) test::test_isa(set.isa, groups, results);
  }
  if (groups.empty()) test::test_threads(with_fork, results);
  std::printf("%d passed, %d failed\n", results.passed(), results.failed());
  return results.failed() == 0 ? 0 : 1;
}
