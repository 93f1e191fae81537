// SPDX-License-Identifier: Apache-2.0

// A matrix product of signs is the 1x1 convolution of an image of m pixels with k channels.

#include "../binary_conv2d/kernel.h"

#include "binding.h"

namespace bittern {

static void binary_matmul(int isa, int threads, std::uintptr_t a, i64 m, i64 k, std::uintptr_t prepared,
                          i64 n_out, std::uintptr_t epilogue, std::uintptr_t out) {
  const BinaryConv2dKernels& kernels = binary_conv2d_kernels(checked_isa(isa));
  Conv2d conv{};
  conv.batch = conv.height = 1;
  conv.width = m;
  conv.channels = k;
  conv.out_channels = n_out;
  conv.kernel_h = conv.kernel_w = conv.stride_h = conv.stride_w = conv.dilation_h = conv.dilation_w = 1;
  conv.groups = 1;
  conv.input = pointer<const u64>(a);
  conv.weights = pointer<const u8>(prepared);
  conv.epilogue = pointer<const float>(epilogue);
  conv.output = pointer<void>(out);
  nb::gil_scoped_release without_gil;
  kernels.conv2d(conv, threads);
}

void bind_binary_matmul(nb::module_& m) {
  m.def("binary_matmul", &binary_matmul, nb::arg("isa"), nb::arg("threads"), nb::arg("a"), nb::arg("m"),
        nb::arg("k"), nb::arg("prepared"), nb::arg("n_out"), nb::arg("epilogue"), nb::arg("out"));
}

}  // namespace bittern
