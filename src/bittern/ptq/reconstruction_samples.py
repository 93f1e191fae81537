# SPDX-License-Identifier: Apache-2.0
"""What a block is reconstructed from: its inputs, the outputs wanted, and how much each output matters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Samples:
    """Tensors of N samples each, checked; `reconstruct` says what they mean."""

    def __init__(
        self,
        inputs: Sequence[Tensor],
        targets: Tensor,
        float_inputs: Sequence[Tensor] | None,
        gradients: Tensor | None,
    ) -> None:
        """Raises: ValueError for shapes that do not fit each other, no samples, and NaN or infinity."""
        if not inputs or targets.ndim == 0 or targets.numel() == 0:
            raise ValueError(f"reconstruct: must have inputs and targets that are not empty; got {list(targets.shape)}")
        for x in inputs:
            _check("inputs", x, targets)
        for x in float_inputs or ():
            _check("float_inputs", x, targets)
        _check("targets", targets, targets)
        if float_inputs is not None and [x.shape for x in float_inputs] != [x.shape for x in inputs]:
            shapes = [list(x.shape) for x in float_inputs]
            raise ValueError(f"reconstruct: float_inputs must have the shapes of inputs; got {shapes}")
        if gradients is not None:
            _check("gradients", gradients, targets)
            if gradients.shape != targets.shape:
                both = f"{list(targets.shape)}; got {list(gradients.shape)}"
                raise ValueError(f"reconstruct: gradients must have the shape of targets, {both}")
        self.inputs = [x.detach() for x in inputs]
        self.targets = targets.detach()
        self.float_inputs = None if float_inputs is None else [x.detach() for x in float_inputs]
        self.factors = None if gradients is None else gradients.detach().square()
        self.count = targets.shape[0]

    def error(self, y: Tensor, chosen: Tensor) -> Tensor:
        """(y - target)^2 of each number of the chosen samples, times its factor.

        Raises: ValueError for a y of another shape.
        """
        targets = self.targets[chosen]
        if y.shape != targets.shape:
            got = f"got {list(y.shape)} for targets {list(targets.shape)}"
            raise ValueError(f"reconstruct: the block must give outputs in the shape of targets; {got}")
        error = (y - targets).square()
        return error if self.factors is None else error * self.factors[chosen]


def _check(what: str, x: Tensor, targets: Tensor) -> None:
    if x.ndim == 0 or x.shape[0] != targets.shape[0]:
        raise ValueError(f"reconstruct: {what} must have {targets.shape[0]} samples; got {list(x.shape)}")
    if not bool(torch.isfinite(x).all()):
        wrong = int((~x.isfinite()).sum())
        raise ValueError(f"reconstruct: {what} must be finite; {wrong} of {x.numel()} are not")
