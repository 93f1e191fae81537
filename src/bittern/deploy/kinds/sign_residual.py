# SPDX-License-Identifier: Apache-2.0
"""The node kind `sign_residual`: what scaled signs leave of a real input, x - mean |x| * sign(x).

The signs of what it writes are the next plane of an input of several (`SignCode.order`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.deploy.form import Form, Tensors, need, need_real
from bittern.deploy.kinds.kind import Kind, Step, choice, count, integer
from bittern.deploy.program import Node
from bittern.quantizer import InputScale

SCALES = (InputScale.PER_SAMPLE.value, InputScale.SPATIAL.value)


def _build(node: Node, tensors: Tensors, device: torch.device) -> Step:
    scale = InputScale(node.attrs["scale"])
    if integer(node, "dims"):
        return scale.residual

    def of_rows(x: Tensor) -> Tensor:
        return scale.residual(x.reshape(-1, x.shape[-1])).view(x.shape)

    return of_rows


def _form(node: Node, tensors: Tensors, x: Form) -> Form:
    dims = integer(node, "dims")
    need_real(node, x)
    need(node, dims == 0 or len(x.shape) == 2 + dims, f"it takes {2 + dims} dimensions; got {list(x.shape)}")
    need(node, x.shape[1 if dims else -1] > 0, f"a mean over no channel of {list(x.shape)}")
    return x


SIGN_RESIDUAL = Kind(
    name="sign_residual",
    attrs={"dims": count(0, 2, default=2), "scale": choice(*SCALES)},
    shape=_form,
    build=_build,
)
