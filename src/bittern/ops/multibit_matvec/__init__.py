# SPDX-License-Identifier: Apache-2.0
"""multibit_matvec(x, x_scale, w, w_scale, in_features, bias=None): weights and inputs of several scaled signs.

x: int64 [k_h, *batch, ceil(n / 64)], packed signs D_j, x_scale: float32 [*batch, k_h], c_j
w: int64 [k_w, rows, ceil(n / 64)], packed signs B_i, w_scale: float32 [rows, k_w], a_i; n = in_features
as `multibit_quantize` gives both; 1 to 8 planes each; surplus bits 0. bias: float32 [rows].
-> float32 [*batch, rows]: y = W x + bias of W = sum_i a_i B_i and x = sum_j c_j D_j.

    acc_ij = n - 2 popcount(B_i xor D_j), an integer
    y = (acc_00 * a_0) * c_0 + (acc_10 * a_1) * c_0 + ... + (acc_01 * a_0) * c_1 + ... + bias

Each product and each sum is rounded to float32: over the planes of x, within them those of w, then bias. That is the
order of `nn.binarize.low_bit_forward` for a method that gives several terms, so trained and packed layers agree to the
bit, and it is the same on every instruction set, with any number of threads, in any batch.
All k_w * k_h binary products come from one pass over the weights. `PreparedMultibitMatvec` keeps these in the order in
which this CPU reads them, one bit a sign, and its `quantized` takes real inputs in the same native call.
Errors: TypeError / ValueError for wrong dtypes, shapes and devices, n = 0 or n > 2^24.
Not differentiable. Source: Xu et al., arXiv:1802.00150, section on the binary products of a recurrent step.
"""

from __future__ import annotations

from torch import Tensor

from bittern.ops._op import Op, lazily
from bittern.ops.multibit_matvec.arguments import MultibitMatvecArguments
from bittern.ops.multibit_matvec.check import check
from bittern.ops.multibit_matvec.cpu import PreparedMultibitMatvec, multibit_matvec_cpu
from bittern.ops.multibit_matvec.reference import multibit_matvec_reference

__all__ = ["PreparedMultibitMatvec", "multibit_matvec"]


def _fake(a: MultibitMatvecArguments) -> Tensor:
    return a.x_scale.new_empty((*a.x.shape[1:-1], a.w.shape[1]))


multibit_matvec: Op[Tensor] = Op(
    "multibit_matvec(Tensor x, Tensor x_scale, Tensor w, Tensor w_scale, int in_features, Tensor? bias=None) -> Tensor",
    record=MultibitMatvecArguments,
    check=check,
    reference=multibit_matvec_reference,
    fake=_fake,
    cpu=multibit_matvec_cpu,
    cuda=lazily("bittern.ops.multibit_matvec.cuda", "multibit_matvec_cuda"),
)
