# SPDX-License-Identifier: Apache-2.0
"""real_conv: convolution of real images with channels last, summed in an order that the caller chooses.

x: float32 [batch, height, width, channels] in any layout; w: float32 [out, channels / groups, kernel_h, kernel_w].
Every output is a chain of fused multiply-adds, or a few chains that are added up (`SumOrder`); then may follow an
affine map, rounded once, limits, and maxima over windows. Not called by itself: a step of a native program, made by
`PreparedRealConv`; every instruction set gives the bits of `reference.py`.
"""

from bittern.ops.real_conv.cpu import PreparedRealConv
from bittern.ops.real_conv.order import SumOrder

__all__ = ["PreparedRealConv", "SumOrder"]
