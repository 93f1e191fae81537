# SPDX-License-Identifier: Apache-2.0
"""A recipe: everything that determines the trained weights, apart from the model, the data and the teacher."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from bittern.data.augment import Augment
from bittern.train.added.added_loss import AddedLoss
from bittern.train.loss import CrossEntropy, Distillation, Loss
from bittern.train.schedule import Cosine, Schedule

OptimizerFactory = Callable[..., torch.optim.Optimizer]
"""Called as factory(parameter_groups, lr=learning_rate): a class of torch.optim, or a partial of one."""


PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
ADDED = ("elementwise_weight_decay", "losses", "origin", "clip_norm")
"""Fields that came after the first checkpoints were written: these resume as if they had them at their defaults."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How to train. The same recipe, model, data and number of threads give the same weights, bit for bit, on a CPU.

    epochs: passes over the training set.
    batch_size: examples per optimizer step.
    accumulation_steps: the batch is run in this many equal parts, their gradients added; must divide batch_size.
    learning_rate: the highest of the schedule.
    optimizer: e.g. torch.optim.AdamW or partial(torch.optim.SGD, momentum=0.9, nesterov=True).
    weight_decay: of real weights; latent_weight_decay: of latent weights; elementwise_weight_decay: of thresholds,
        scales, PReLU, norms, biases, which only authors that decay all parameters decay.
    glorot_rates: scale the rate of each latent weight by sqrt((n_in + n_out) / 1.5), as BNN does (1602.02830).
    augment: applied to training batches before normalization.
    distillation: how a teacher counts; needs one, and a teacher needs this.
    losses: added to that of the task, each times its weight; those that compare with a teacher need one. The history
        has each by its name.
    clip_latent: clip latent weights after each step, where the method has a range for them.
    precision: "32-true", or the forward pass under autocast: "bf16-mixed", and "16-mixed" (float16), whose loss is
        scaled by torch.amp.GradScaler. Weights, their updates, losses, teachers and tests are float32, and so are
        low-bit layers, whose signs and codes autocast must not change. A step whose gradients overflow float16 is
        skipped and counted.
    clip_norm: the largest norm of all gradients together, unscaled; None clips nothing.
    seed: of shuffling, augmentation and every draw inside the model. Initial weights are the caller's.
    origin: where the recipe comes from and how far it follows it, e.g. "ReCU, epochs 10 of 600"; changes nothing, and
        is kept with what was trained.

    Raises: TypeError, ValueError.
    """

    epochs: int
    batch_size: int = 128
    accumulation_steps: int = 1
    learning_rate: float = 1e-3
    optimizer: OptimizerFactory = torch.optim.AdamW
    schedule: Schedule = field(default_factory=Cosine)
    weight_decay: float = 0.0
    latent_weight_decay: float = 0.0
    glorot_rates: bool = False
    loss: Loss = field(default_factory=CrossEntropy)
    augment: Augment | None = None
    distillation: Distillation | None = None
    losses: tuple[AddedLoss, ...] = ()
    clip_latent: bool = True
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    seed: int = 0
    elementwise_weight_decay: float = 0.0
    origin: str = ""
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("accumulation_steps", 1), ("seed", 0)):
            _check_integer(name, getattr(self, name), least)
        for name in ("learning_rate", "weight_decay", "latent_weight_decay", "elementwise_weight_decay"):
            _check_number(name, getattr(self, name))
        if self.learning_rate == 0:
            raise ValueError("Recipe: learning_rate must be above 0; with 0 nothing is learned")
        if self.batch_size % self.accumulation_steps:
            raise ValueError(
                f"Recipe: accumulation_steps must divide batch_size; got {self.accumulation_steps} and "
                f"{self.batch_size}"
            )
        for name in ("optimizer", "schedule", "loss"):
            _check_callable(name, getattr(self, name))
        if self.augment is not None:
            _check_callable("augment", self.augment)
        if self.distillation is not None and not isinstance(self.distillation, Distillation):
            raise TypeError(f"Recipe: distillation must be a Distillation or None; got {self.distillation!r}")
        _check_losses(self.losses)
        for name in ("clip_latent", "glorot_rates"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"Recipe: {name} must be True or False; got {getattr(self, name)!r}")
        if not isinstance(self.origin, str):
            raise TypeError(f"Recipe: origin must be text; got {self.origin!r}")
        if self.precision not in PRECISIONS:
            named = ", ".join(f'"{name}"' for name in PRECISIONS)
            raise ValueError(f"Recipe: precision must be one of {named}; got {self.precision!r}")
        if self.clip_norm is not None:
            _check_number("clip_norm", self.clip_norm)
            if self.clip_norm == 0:
                raise ValueError("Recipe: clip_norm must be above 0 or None; with 0 nothing is learned")

    def describe(self) -> dict[str, int | float | bool | str | None]:
        """Every field as a JSON value: functions and classes by name, partials and dataclasses with their options."""
        return {f.name: _describe(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def identity(self) -> dict[str, int | float | bool | str | None]:
        """`describe`, without the fields of `ADDED` at their defaults, which older runs do not have."""
        unset = {f.name for f in dataclasses.fields(self) if f.name in ADDED and getattr(self, f.name) == f.default}
        return {name: value for name, value in self.describe().items() if name not in unset}


def _check_integer(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"Recipe: {name} must be an integer; got {value!r}")
    if value < least:
        raise ValueError(f"Recipe: {name} must be at least {least}; got {value}")


def _check_number(name: str, value: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"Recipe: {name} must be a number; got {value!r}")
    if not 0.0 <= value < math.inf:
        raise ValueError(f"Recipe: {name} must be finite and at least 0; got {value}")


def _check_callable(name: str, value: Any) -> None:
    if not callable(value):
        raise TypeError(f"Recipe: {name} must be an object to call, not its name; got {value!r}")


def _check_losses(losses: Any) -> None:
    if not isinstance(losses, tuple) or not all(isinstance(loss, AddedLoss) for loss in losses):
        raise TypeError(f"Recipe: losses must be a tuple of added losses, e.g. (LogitsMatching(),); got {losses!r}")
    names = [loss.name for loss in losses]
    if len(set(names)) < len(names):
        raise ValueError(f"Recipe: each of losses needs a name of its own; got {names}; give name=...")


def _describe(value: Any) -> int | float | bool | str | None:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, functools.partial):
        options = [repr(a) for a in value.args] + [f"{k}={v!r}" for k, v in sorted(value.keywords.items())]
        return f"{_describe(value.func)}({', '.join(options)})"
    if isinstance(value, tuple) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return repr(value)
    kind = value if hasattr(value, "__qualname__") else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
