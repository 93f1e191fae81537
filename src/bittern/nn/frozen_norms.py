# SPDX-License-Identifier: Apache-2.0
"""Batch norms that keep their statistics while a trained network is tuned further."""

from __future__ import annotations

from typing import Self

from torch import nn


class FrozenBatchNorm1d(nn.BatchNorm1d):
    """`nn.BatchNorm1d` that normalizes by its running statistics in training mode too, and never moves them.

    Weight and bias train as before. State dicts are those of `nn.BatchNorm1d`.
    """

    def train(self, mode: bool = True) -> Self:
        return super().train(False)


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` that normalizes by its running statistics in training mode too, and never moves them.

    Weight and bias train as before. State dicts are those of `nn.BatchNorm2d`.
    """

    def train(self, mode: bool = True) -> Self:
        return super().train(False)


FROZEN = {nn.BatchNorm1d: FrozenBatchNorm1d, nn.BatchNorm2d: FrozenBatchNorm2d}


def freeze_norms(model: nn.Module) -> int:
    """Make the batch norms of a trained model keep their statistics, in place; gives how many.

    Small batches of large images make statistics of a batch that differ from those of inference, and rounding on top
    of that is unstable (Fully Quantized Network for Object Detection, CVPR 2019). Parameters stay the same objects, so
    an optimizer may exist already.

    Raises: ValueError for a model without batch norms, and for a norm that keeps no statistics or is of another class.
    """
    norms = {name: m for name, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    frozen = tuple(FROZEN.values())
    for name, norm in norms.items():
        if norm.running_mean is None:
            raise ValueError(f"freeze_norms: {name!r} keeps no running statistics; train it with them first")
        if type(norm) not in FROZEN and not isinstance(norm, frozen):
            raise ValueError(
                f"freeze_norms: {name!r} is a {type(norm).__name__}; BatchNorm1d and BatchNorm2d are taken"
            )
    if not norms:
        raise ValueError("freeze_norms: the model has no batch norms; leave the call out")
    for norm in norms.values():
        if type(norm) in FROZEN:
            norm.__class__ = FROZEN[type(norm)]
        norm.eval()
    return len(norms)
