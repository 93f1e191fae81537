# SPDX-License-Identifier: Apache-2.0
"""What both schedule-free rules (arXiv 2405.15682) share: three sequences of weights in the memory of two.

z takes the whole steps; x is their weighted average, by which the network is judged; gradients are taken at
y = (1 - beta) z + beta x. The parameter is y while training and x while evaluating. z is a state in float32; x follows
from both. Eight bits for z - y were tried: a step changes it by lr beta u while it is as long as many steps, and a
quadratic ended higher (docs/optimizers.md).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bittern.optim import _loaded as check
from bittern.optim._batch import Counts
from bittern.optim._layout import local_tensor
from bittern.optim._options import Group, check_not_negative, scalar
from bittern.optim._rule_optimizer import RuleOptimizer
from bittern.optim._state import StateDict


class ScheduleFree(RuleOptimizer):
    """Two modes: `train()`, in which it is made and can step, and `eval()`, in which the parameters are x."""

    counters = ("step", "weight_sum", "lr_max")
    foreign_options = ("k", "weight_sum", "lr_max", "scheduled_lr")
    """Of the authors' package, whose counters belong to groups."""

    @abstractmethod
    def beta(self, group: Group) -> float:
        """The share of x in y."""

    def check_sequences(self, group: Group, *names: str) -> None:
        """ValueError for bad arguments that both rules have, and for any of `names` below 0."""
        check_not_negative(self._name, group, "lr", "weight_decay", "warmup_steps", "weight_lr_power", *names)
        if not 0.0 < self.beta(group) < 1.0:
            raise ValueError(
                f"{self._name}: the share of x in y (momentum, betas[0]) must be in (0, 1), for x comes back from y; "
                f"got {self.beta(group)}"
            )
        if group["offload"] is not None:
            raise ValueError(f"{self._name}: offload must be None, for eval() reads z; got {group['offload']!r}")

    @torch.no_grad()
    def eval(self) -> None:
        """Puts x in place of y, which is kept beside, so that `train` gives the same bits back. Idempotent."""
        for group in self.param_groups:
            for p, state in self._stepped(group) if group["train_mode"] else ():
                state["y"] = p.detach().clone()
                local_tensor(p).copy_(self._average(group, p, state["z"]))
            group["train_mode"] = False

    @torch.no_grad()
    def train(self) -> None:
        """Puts y back; the y of the present x where that has changed since `eval`, or y was not kept. Idempotent."""
        for group in self.param_groups:
            for p, state in () if group["train_mode"] else self._stepped(group):
                y, here, z = state.pop("y", None), local_tensor(p), local_tensor(state["z"])
                if y is not None and torch.equal(here, self._average(group, y, z).to(p.dtype)):
                    here.copy_(local_tensor(y))
                else:
                    here.copy_(torch.lerp(here.float(), z, 1 - self.beta(group)))
            group["train_mode"] = True

    def update(self, key: Any, group: Group, params: Sequence[Tensor]) -> None:
        if not group["train_mode"]:
            raise RuntimeError(f"{self._name}: steps start from y, and the parameters are x now; call train() first")
        super().update(key, group, params)

    def initial(self, name: str, p: Tensor, group: Group) -> float | Tensor:
        return local_tensor(p.detach()).float() if name == "z" else 0.0

    def advance(self, group: Group, counts: Counts) -> Counts:
        step, total, largest = counts
        step += 1
        largest = max(float(scalar(group["lr"])) * _warm(group, step), largest)
        return step, total + _weight(group, step, largest), largest

    def most_count(self, name: str) -> float:
        return check.MOST_STEPS if name == "step" else torch.finfo(torch.float32).max

    def sequences(self, group: Group, counts: Counts) -> dict[str, float]:
        """The scalars that both rules have."""
        step, total, largest = counts
        mix = min(1.0, _weight(group, step, largest) / total) if total > 0 else 0.0
        lr = group["lr"] * _warm(group, step)
        y_step = lr * (1 - self.beta(group) * (1 - mix))
        return {"weight_decay": group["weight_decay"], "lr": lr, "y_step": y_step, "mix": mix}

    def adjust_loaded_state(self, group: Group, found: dict[str, Any]) -> None:
        names = {"step": "k", "weight_sum": "weight_sum", "lr_max": "lr_max"}
        for name, theirs in names.items():
            if name not in found and theirs in group:
                found[name] = max(0, group[theirs]) if name == "lr_max" else group[theirs]

    def take_others(self, subject: str, p: Tensor, group: Group, found: dict[str, Any]) -> StateDict:
        if group["train_mode"] or "y" not in found:
            return {}
        y = check.check_floats(f"{subject}.y", found.pop("y"), p, p.shape, signed=True)
        return {"y": torch.empty_like(p, memory_format=torch.preserve_format).copy_(y)}

    def _stepped(self, group: Group) -> Iterator[tuple[Tensor, StateDict]]:
        """Parameters with a z."""
        for p in group["params"]:
            state = self.state.get(p, {})
            if "z" in state:
                yield p, state

    def _average(self, group: Group, y: Tensor, z: Tensor) -> Tensor:
        """x in float32, of what this process has."""
        return torch.lerp(local_tensor(y.detach()).float(), local_tensor(z), 1 - 1 / self.beta(group))


def _warm(group: Group, step: float) -> float:
    return min(1.0, step / group["warmup_steps"]) if group["warmup_steps"] else 1.0


def _weight(group: Group, step: float, largest: float) -> float:
    """Of z in the average: t^r lr_max^weight_lr_power."""
    return float(step ** group["r"] * largest ** group["weight_lr_power"])
