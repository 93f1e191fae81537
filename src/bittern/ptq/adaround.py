# SPDX-License-Identifier: Apache-2.0
"""AdaRound: a layer's weights rounded up or down, each as its output wants it (`soft_rounding` has the formulas).

    loss    |f(W x) - f(W_soft x_q)|^2 + strength * penalty, f the activation behind the layer, x the float network's
            input and x_q that of the network quantized so far

It is `reconstruct` of a block that is one layer.
Source: Nagel et al., arXiv:2004.10568.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from bittern.ptq.reconstruct import Progress, Reconstructed, Schedule, reconstruct
from bittern.ptq.soft_rounding import Weight

NAME = "weight"


def adaround(
    layer: Callable[[Tensor, Tensor], Tensor],
    weight: Weight,
    inputs: Tensor,
    targets: Tensor,
    *,
    schedule: Schedule = Schedule(),  # noqa: B008  # frozen
    seed: int = 0,
    progress: Progress | None = None,
) -> Reconstructed:
    """The integers of one weight, under "weight" in `codes`.

    layer: (weight, inputs) -> output, with its bias and activation. inputs: [N, ...]. targets: the float layer's output
    for the float inputs.
    Raises: as `reconstruct`.
    """

    def block(weights: Mapping[str, Tensor], at: Callable[[str, Tensor], Tensor], *batch: Tensor) -> Tensor:
        del at  # no value within the layer is quantized
        return layer(weights[NAME], *batch)

    return reconstruct(block, {NAME: weight}, [inputs], targets, schedule=schedule, seed=seed, progress=progress)
