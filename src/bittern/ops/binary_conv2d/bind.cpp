// SPDX-License-Identifier: Apache-2.0
#include "binding.h"
#include "kernel.h"

namespace bittern {

static i64 prepared_bytes(int isa, i64 out_channels, i64 taps, i64 channels, i64 groups) {
  return binary_conv2d_kernels(checked_isa(isa)).prepared_bytes({out_channels, taps, channels, groups});
}

static void prepare_weights(int isa, std::uintptr_t w, i64 out_channels, i64 taps, i64 channels, i64 groups,
                            std::uintptr_t out) {
  const BinaryConv2dKernels& kernels = binary_conv2d_kernels(checked_isa(isa));
  nb::gil_scoped_release without_gil;
  kernels.prepare_weights({out_channels, taps, channels, groups}, pointer<const u64>(w), pointer<u8>(out));
}

static void binary_conv2d(int isa, int threads, std::uintptr_t x, i64 n, i64 h, i64 w, i64 channels,
                          std::uintptr_t prepared, i64 out_channels, i64 kh, i64 kw, i64 stride_h,
                          i64 stride_w, i64 pad_h, i64 pad_w, i64 dil_h, i64 dil_w, i64 groups, i64 pad_value,
                          std::uintptr_t epilogue, std::uintptr_t out) {
  const BinaryConv2dKernels& kernels = binary_conv2d_kernels(checked_isa(isa));
  if (pad_value < -1 || pad_value > 1) throw nb::value_error("binary_conv2d: pad_value must be -1, 0 or +1");
  Conv2d conv{n,        h,       w,      channels, out_channels, kh,     kw,        stride_h,
              stride_w, pad_h,   pad_w,  dil_h,    dil_w,        groups, pad_value, pointer<const u64>(x),
              nullptr,  nullptr, nullptr};
  conv.weights = pointer<const u8>(prepared);
  conv.epilogue = pointer<const float>(epilogue);
  conv.output = pointer<void>(out);
  nb::gil_scoped_release without_gil;
  kernels.conv2d(conv, threads);
}

static i64 count_in_cache(int isa, i64 repeats) {
  const BinaryConv2dKernels& kernels = binary_conv2d_kernels(checked_isa(isa));
  if (repeats < 1) throw nb::value_error("count_in_cache: repeats must be at least 1");
  nb::gil_scoped_release without_gil;
  return kernels.count_in_cache(repeats);
}

void bind_binary_conv2d(nb::module_& m) {
  m.def("count_in_cache", &count_in_cache, nb::arg("isa"), nb::arg("repeats"));
  m.def("prepared_bytes", &prepared_bytes, nb::arg("isa"), nb::arg("out_channels"), nb::arg("taps"),
        nb::arg("channels"), nb::arg("groups"));
  m.def("prepare_weights", &prepare_weights, nb::arg("isa"), nb::arg("w"), nb::arg("out_channels"),
        nb::arg("taps"), nb::arg("channels"), nb::arg("groups"), nb::arg("out"));
  m.def("binary_conv2d", &binary_conv2d, nb::arg("isa"), nb::arg("threads"), nb::arg("x"), nb::arg("n"),
        nb::arg("h"), nb::arg("w"), nb::arg("channels"), nb::arg("prepared"), nb::arg("out_channels"),
        nb::arg("kh"), nb::arg("kw"), nb::arg("stride_h"), nb::arg("stride_w"), nb::arg("pad_h"),
        nb::arg("pad_w"), nb::arg("dil_h"), nb::arg("dil_w"), nb::arg("groups"), nb::arg("pad_value"),
        nb::arg("epilogue"), nb::arg("out"));
}

}  // namespace bittern
