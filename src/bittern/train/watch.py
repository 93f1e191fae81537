# SPDX-License-Identifier: Apache-2.0
"""Which low-bit weights flip while a network trains, and which are dead; nothing of it changes the training.

    flips        share of weights whose quantized value, most often a sign, differs behind a step from before it;
                 the mean over the epoch's steps, as Larq's FlipRatio
    epoch_flips  share whose value at the epoch's end differs from that at its start
    dead         share that a step has no way to move: its gradient is exactly 0 (behind a saturated estimator), or the
                 latent weight lies at its clip limit and the gradient pushes it outward; the mean over the steps.
                 A running mean of older gradients or weight decay may still move a weight whose gradient is 0.

Shares are of all watched weights, and of each layer under "<share>/<layer>". Values are those of eval mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bittern.codes import Reals
from bittern.nn.binarize import LowBitLayer
from bittern.quantizer import weight_codes, weight_terms

FLIPS, EPOCH_FLIPS, DEAD = "flips", "epoch_flips", "dead"
STORED = torch.int16
"""Of values in a checkpoint: whole numbers of at most 8 bits."""

Values = dict[str, Tensor]


class WeightWatch:
    """Watches the trainable weights of low-bit layers of `model` through its steps.

    Raises: ValueError for a model without such layers.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers = {
            name: layer
            for name, layer in model.named_modules()
            if isinstance(layer, LowBitLayer)
            and layer.weight.requires_grad
            and not any(isinstance(code, Reals) for code in weight_codes(layer.method))
        }
        if not self.layers:
            raise ValueError("train: watch_weights needs weights of few bits that train; the model has none")
        self.steps = 0
        self.sums: dict[str, float] = {}
        self.last: dict[str, float] = {}
        """Shares of the last step."""
        self._before: Values = {}
        self._at_start: Values = {}

    def begin(self) -> None:
        """Before a step, with the weights to judge in place."""
        self._before = self._values()
        if not self.steps and not self._at_start:
            self._at_start = self._before

    @torch.no_grad()
    def gradients(self) -> None:
        """Where the gradients of a step have been computed; of several samples the last counts."""
        self.last = _shares(DEAD, {name: _dead(layer) for name, layer in self.layers.items()})

    def end(self) -> None:
        """Behind a step."""
        now = self._values()
        self.last |= _shares(FLIPS, {name: (now[name] != before) for name, before in self._before.items()})
        for name, value in self.last.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self._before = {}
        self.steps += 1

    def epoch(self) -> tuple[tuple[str, float], ...]:
        """The shares of the epoch that has ended, by name; the next one begins."""
        now = self._values()
        moved = _shares(EPOCH_FLIPS, {name: (now[name] != start) for name, start in self._at_start.items()})
        found = {name: total / max(1, self.steps) for name, total in self.sums.items()} | moved
        self.steps, self.sums, self._at_start = 0, {}, {}
        order = [share for share in (FLIPS, EPOCH_FLIPS, DEAD) if share in found]
        names = order + [f"{share}/{layer}" for layer in self.layers for share in order]
        return tuple((name, found[name]) for name in names)

    def describe(self) -> dict[str, Any]:
        """What a checkpoint keeps beside `tensors`."""
        return {"steps": self.steps, "sums": self.sums}

    def tensors(self) -> Values:
        """The values at the start of an epoch that has begun."""
        return {name: value.to(STORED) for name, value in self._at_start.items()}

    def restore(self, described: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go on within an epoch. Raises: KeyError, ValueError, TypeError for what another model left."""
        values = {name: tensors[name].to(layer.weight) for name, layer in self.layers.items() if tensors}
        now = self._values()
        for name, value in values.items():
            if value.shape != now[name].shape:
                raise ValueError(f"watched values of {name} are {list(value.shape)}")
        self.steps, self._at_start = int(described["steps"]), values
        self.sums = {str(name): float(total) for name, total in described["sums"].items()}

    @torch.no_grad()
    def _values(self) -> Values:
        """The quantized values of every layer, all terms behind each other, copied."""
        found: Values = {}
        for name, layer in self.layers.items():
            training = layer.method.training
            layer.method.eval()
            terms = weight_terms(layer.method, layer.weight)
            layer.method.train(training)
            found[name] = torch.cat([term.values.detach().flatten() for term in terms])
        return found


def _shares(share: str, found: Mapping[str, Tensor]) -> dict[str, float]:
    """Of each layer, and of all."""
    counts = {name: (int(hit.sum()), hit.numel()) for name, hit in found.items()}
    total = sum(n for _, n in counts.values())
    return {share: sum(hits for hits, _ in counts.values()) / max(1, total)} | {
        f"{share}/{name}": hits / max(1, n) for name, (hits, n) in counts.items()
    }


def _dead(layer: LowBitLayer) -> Tensor:
    """Which weights the gradient that has been computed cannot move."""
    w, limit = layer.weight, layer.method.clip_latent
    if w.grad is None:
        return torch.ones_like(w, dtype=torch.bool)
    dead = w.grad == 0.0
    return dead if limit is None else dead | ((w.abs() >= limit) & (w.grad * w < 0.0))
