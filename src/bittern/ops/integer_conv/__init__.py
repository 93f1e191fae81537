# SPDX-License-Identifier: Apache-2.0
"""integer_conv: convolution of int8 images by int8 weights, int32 sums, a fixed-point factor a channel, int8 again.

x: int8 [batch, channels, height, width], w: int8 [out, channels / groups, kernel_h, kernel_w]. With zero_x outside,

    y = clamp(zero_y + M_o (sum w (x - zero_x) + bias_o), low, high),   M_o a factor of `ops.fixed_point`,

rounded twice (`scaled`) or once (`scaled_once`). Not called by itself: a step of a native program over images with
channels last, made by `PreparedIntegerConv`, which also runs it alone; a linear layer is one over images of one pixel.
Every instruction set gives the integers of `reference.py`.
Source: Jacob et al., arXiv:1712.05877, eq. 7.
"""

from bittern.ops.integer_conv.arguments import IntegerEnds, IntegerGeometry
from bittern.ops.integer_conv.cpu import PreparedIntegerConv
from bittern.ops.integer_conv.reference import integer_conv_reference

__all__ = ["IntegerEnds", "IntegerGeometry", "PreparedIntegerConv", "integer_conv_reference"]
