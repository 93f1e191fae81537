// Checks the kernels of every instruction set that this CPU can run against naive code. Exits with 1 on a
// failure, and on a CPU that could have run a set which was never tried.

#include "harness.h"

int main() {
  using namespace bittern;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  test::Results results;
  for (Isa isa : kIsas) {
    if (!isa_available(isa)) {
      std::printf("%s: not available here\n", isa_name(isa));
      continue;
    }
    const int before = results.passed() + results.failed();
    test_elementwise(isa, results);
    test_conv2d(isa, results);
    test_codes(isa, results);
    test_linear(isa, results);
    const int cases = results.passed() + results.failed() - before;
    std::printf("%s: %d cases\n", isa_name(isa), cases);
    if (cases == 0) results.record(false, std::string(isa_name(isa)) + ": available, but nothing was run");
  }
  test_threads(results);
  std::printf("%d passed, %d failed\n", results.passed(), results.failed());
  return results.failed() == 0 ? 0 : 1;
}
