# SPDX-License-Identifier: Apache-2.0
"""An optimizer whose update is one of the native rules: one call per step for all tensors of a group and device."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bittern.ops.optimizer_step import SPECS, Rule, State
from bittern.optim._batch import Batch, Counts
from bittern.optim._optimizer import LowBitOptimizer
from bittern.optim._options import Group, scalar
from bittern.optim._state import alike

HOST = "cpu"
"""Type of the device whose counters need not stay there: capturable is refused on it."""

_GOLDEN = 0x9E3779B97F4A7C15
"""2^64 / golden ratio: an odd number whose multiples spread evenly, for seeds of consecutive steps."""


class RuleOptimizer(LowBitOptimizer):
    """Loops over groups; a subclass names its native rule and computes the rule's scalars."""

    @abstractmethod
    def rule(self, group: Group) -> Rule:
        """The native rule for a group's arguments."""

    @abstractmethod
    def scalars(self, group: Group, counts: Counts) -> Mapping[str, Any]:
        """The rule's scalars but grad_scale, by name; counts: the counters after `advance`.

        Written so that counts and lr may be Python numbers or float64 tensors on the device (capturable).
        """

    def advance(self, group: Group, counts: Counts) -> Counts:
        """The counters of one parameter after one more step."""
        return (counts[0] + 1, *counts[1:])

    def states(self, group: Group) -> tuple[State, ...]:
        return SPECS[self.rule(group)].states

    def update(self, key: Any, group: Group, params: Sequence[Tensor]) -> None:
        for index, some in enumerate(alike(group, params)):
            batch = self._batch((key, index), group, some)
            if batch.on_device:
                rows = self._device_rows(group, batch)
            else:
                rows = self._host_rows(group, batch)
            batch.run(rows, self._seed(group), batch.state_seeds())

    def _batch(self, key: Any, group: Group, params: Sequence[Tensor]) -> Batch:
        rule = self.rule(group)
        batch = self._batches.get(key)
        if batch is None or not batch.fits(rule, group, params, map(self.state.get, params)):
            if group.get("capturable") and params[0].device.type == HOST:
                raise RuntimeError(
                    f"{self._name}: capturable=True needs parameters on an accelerator; got cpu; leave capturable out"
                )
            if group["rounding"] == "stochastic" and any(p.dtype == torch.float16 for p in params):
                raise ValueError(f'{self._name}: rounding="stochastic" is for bfloat16; use "kahan" for float16')
            for p in params:  # from here on torch itself refuses a gradient of another shape or device
                if p.grad is not None and (p.grad.shape != p.shape or p.grad.device != p.device):
                    raise ValueError(
                        f"{self._name}: a gradient {list(p.grad.shape)} on {p.grad.device} is left over from before "
                        f"its parameter became {list(p.shape)} on {p.device}; call zero_grad() after changing it"
                    )
            fresh = [self.is_new(p, group) for p in params]
            states = [self.state_of(p, group) for p in params]
            counters, numbers = self.counters or ("step",), [self.number_of(p) for p in params]
            batch = Batch(rule, group, params, states, counters, fresh, numbers)
            self._batches[key] = batch
        return batch

    def _host_rows(self, group: Group, batch: Batch) -> Tensor:
        """The scalars in double precision, rounded once: one row if it is the same for all parameters."""
        counts = batch.advance(lambda counts: self.advance(group, counts))
        numbers = {name: scalar(value) for name, value in group.items() if name != "params"}
        numbers["betas"] = tuple(scalar(beta) for beta in group.get("betas", ()))
        rows: dict[Counts, list[float]] = {}
        for count in counts:
            if count not in rows:
                values = {**self.scalars(numbers, count), "grad_scale": -1.0 if group.get("maximize") else 1.0}
                rows[count] = [float(values[name]) for name in batch.names]
        first = next(iter(rows.values()))
        if all(row == first for row in rows.values()):
            return batch.row_of(first)
        return torch.tensor([rows[count] for count in counts], dtype=torch.float32)

    def _device_rows(self, group: Group, batch: Batch) -> Tensor:
        counts = batch.advance_on_device(lambda counts: self.advance(group, counts))
        values = {**self.scalars(group, counts), "grad_scale": -1.0 if group.get("maximize") else 1.0}
        return torch.stack([_column(values[name], counts[0]) for name in batch.names], dim=1).float()

    def _seed(self, group: Group) -> int | None:
        """A new seed per call from `torch.manual_seed`, without drawing from torch's generator."""
        if group["rounding"] != "stochastic":
            return None
        self._calls += 1
        return (torch.initial_seed() + self._calls * _GOLDEN) % 2**63


def _column(value: Any, like: Tensor) -> Tensor:
    """`value` once per parameter.

    A number becomes the argument of a kernel: to copy it from the host would wait for the device, which the capture of
    a CUDA graph forbids.
    """
    if isinstance(value, Tensor) and value.device == like.device:
        return value.to(like.dtype).expand_as(like)
    return torch.full_like(like, float(value))
