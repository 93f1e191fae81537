# SPDX-License-Identifier: Apache-2.0
"""real_linear: products of real rows with a weight, summed in an order that the caller chooses.

y = x W^T + b. x: float32 [rows, features]; w: float32 [out, features]; b: float32 [out], if there is one. Every output
is the sum of a tree (`SumTree`): chains of products, added one by one (by fma, or each rounded before), and their
sums added in pairs, the bias at one place.
Not called by itself: a step of a native program, made by `PreparedRealLinear`; every instruction set gives the bits of
`reference.py`.
"""

from bittern.ops.real_linear.cpu import PreparedRealLinear
from bittern.ops.real_linear.order import SumTree, TreePart

__all__ = ["PreparedRealLinear", "SumTree", "TreePart"]
