// SPDX-License-Identifier: Apache-2.0

// bittern_runner MODEL.pte INPUT.bin [--single-thread] [--repeat N]
//
// Runs one sample through a `.pte` of bittern and prints the logits, one a line. INPUT.bin: the float32
// numbers of the sample, little-endian, in the order of the model's input, without a header. --repeat prints
// the median time on stderr.

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/extension/threadpool/threadpool_guard.h>
#include <executorch/runtime/platform/runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

namespace et = executorch::runtime;
using executorch::extension::Module;

namespace {

[[noreturn]] void fail(const std::string& why) {
  std::fprintf(stderr, "bittern_runner: %s\n", why.c_str());
  std::exit(1);
}

std::string error_text(et::Error error) {
  return et::to_string(error);
}

struct Options {
  std::string model, input;
  bool single_thread = false;
  int repeat = 1;
};

Options parse(int argc, char** argv) {
  Options options;
  std::vector<std::string> files;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--single-thread") {
      options.single_thread = true;
    } else if (word == "--repeat") {
      options.repeat = i + 1 < argc ? std::atoi(argv[++i]) : 0;
      if (options.repeat < 1) fail("--repeat takes a number of at least 1");
    } else {
      files.push_back(word);
    }
  }
  if (files.size() != 2) fail("usage: bittern_runner MODEL.pte INPUT.bin [--single-thread] [--repeat N]");
  options.model = files[0];
  options.input = files[1];
  return options;
}

std::vector<float> read_sample(const std::string& path, std::size_t elements) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) fail("cannot read " + path);
  const auto bytes = static_cast<std::size_t>(file.tellg());
  if (bytes != elements * sizeof(float)) {
    fail(path + " holds " + std::to_string(bytes) + " bytes; the model takes " +
         std::to_string(elements * sizeof(float)));
  }
  std::vector<float> sample(elements);
  file.seekg(0);
  file.read(reinterpret_cast<char*>(sample.data()), static_cast<std::streamsize>(bytes));
  return sample;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  et::runtime_init();
  // Its lifetime is what it does: both backends ask it.
  std::optional<executorch::extension::threadpool::NoThreadPoolGuard> single;
  if (options.single_thread) single.emplace();

  Module module(options.model, Module::LoadMode::Mmap);
  const auto meta = module.method_meta("forward");
  if (!meta.ok()) fail("cannot load " + options.model + ": " + error_text(meta.error()));
  const auto input = meta->input_tensor_meta(0);
  if (!input.ok()) fail("the model takes no tensor");
  const std::vector<executorch::aten::SizesType> sizes(input->sizes().begin(), input->sizes().end());
  std::vector<float> sample = read_sample(options.input, input->nbytes() / sizeof(float));
  const auto tensor = executorch::extension::from_blob(sample.data(), sizes);

  std::vector<double> milliseconds;
  for (int i = 0; i < options.repeat; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const auto result = module.forward(tensor);
    milliseconds.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    if (!result.ok()) fail("cannot run " + options.model + ": " + error_text(result.error()));
    if (i + 1 < options.repeat) continue;
    const auto& logits = result->at(0).toTensor();
    for (ssize_t k = 0; k < logits.numel(); ++k) std::printf("%.9g\n", logits.const_data_ptr<float>()[k]);
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  if (options.repeat > 1) std::fprintf(stderr, "median %.3f ms\n", milliseconds[milliseconds.size() / 2]);
  return 0;
}
