# SPDX-License-Identifier: Apache-2.0
"""What reaches the low-bit layers of a network: how many of its signs are +1, and whether they ever change.

sign(x) is +1 where x >= 0, so behind a ReLU every sign is +1: the layer multiplies the same numbers whatever the
network is shown, and nothing of the input is left. Such a network trains, converts and packs without complaint, which
is why it is measured here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bittern.nn._probe import eval_mode
from bittern.nn.binarize import LowBitLayer
from bittern.nn.linear import BinaryLinear
from bittern.quantizer import MultibitCode, OnesCode, SignCode, input_codes, input_terms, multiplies_floats

LEAST_SAMPLES = 8
"""Samples among which no input differs before it counts as one that never does."""

LEAST_VALUES = 64
"""Values that are all the same before a few samples suffice."""


class ConstantInputWarning(UserWarning):
    """The input of a low-bit layer is the same whatever the network is shown."""


@dataclass(frozen=True)
class SignShare:
    """The quantized input of one low-bit layer, over all samples that it saw."""

    plus: float
    """Share of the values that are +1 (of values with levels: above 0)."""
    least: float
    most: float
    """The smallest and the largest of the values."""
    constant_channels: int
    """Channels that had the same values in every sample."""
    channels: int
    samples: int
    values: int
    """How many were looked at."""
    levels: bool = False
    """The values are levels (`LevelsCode`, `RowCode`), not signs."""

    @property
    def constant(self) -> bool:
        """Nothing in this input changes with the sample, among enough samples or values to say so."""
        if self.samples >= LEAST_SAMPLES and self.constant_channels == self.channels:
            return True
        return self.values >= LEAST_VALUES and self.least == self.most

    def __str__(self) -> str:
        share = f"{self.plus:.1%} are {'above 0' if self.levels else '+1'}"
        return f"{share}, {self.constant_channels} of {self.channels} channels never change"


See = Callable[[str, LowBitLayer, Tensor, tuple[Tensor, ...]], None]
"""Called with a layer's name ("name#2" at its second call), the layer, its input, and the values of its terms."""


@contextmanager
def watched_inputs(model: nn.Module, see: See) -> Iterator[None]:
    """Inside, one forward of `model` shows `see` the input of every call of a low-bit layer, in their order.

    An input that is padded by values of its own is shown padded. The values have its shape; the forward itself is not
    changed. Not shown are layers whose products are those of floats, as of an input that stays real.
    """
    calls: dict[str, int] = {}

    def watch(name: str, layer: LowBitLayer) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            x = layer.operand(args[0] if args else kwargs["x"])
            rows = x.reshape(-1, x.shape[-1]) if isinstance(layer, BinaryLinear) else x
            values = tuple(term.values.reshape(x.shape) for term in input_terms(layer.method, rows))
            calls[name] = calls.get(name, 0) + 1
            see(name if calls[name] == 1 else f"{name}#{calls[name]}", layer, x, values)

        return hook

    handles = [
        module.register_forward_pre_hook(watch(name, module), with_kwargs=True)
        for name, module in model.named_modules()
        if isinstance(module, LowBitLayer) and not multiplies_floats(module.method)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class ShareCounter:
    """Adds up what `watched_inputs` shows, over any number of forwards."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def see(self, name: str, layer: LowBitLayer, x: Tensor, values: tuple[Tensor, ...]) -> None:
        """Ones are left out, which no input changes; the planes of several terms count together."""
        codes, linear = input_codes(layer.method), isinstance(layer, BinaryLinear)
        planes = [v for code, v in zip(codes, values, strict=True) if not isinstance(code, OnesCode)]
        seen = self._seen.get(name)
        if seen is None:
            levels = any(not isinstance(code, (SignCode, MultibitCode, OnesCode)) for code in codes)
            seen = self._seen[name] = _Seen(-1 if linear else 1, levels)
        if len(planes) > 1:
            samples = [v if v.ndim > 1 else v.unsqueeze(0) for v in planes]
            seen.add(torch.stack(samples, -2 if linear else -1))
        else:
            seen.add(planes[0])

    def shares(self) -> dict[str, SignShare]:
        return {name: seen.share() for name, seen in self._seen.items()}


class _Seen:
    """One layer's quantized inputs: what the first sample was, and where any other differed from it."""

    def __init__(self, channel_dim: int, levels: bool) -> None:
        self.channel_dim = channel_dim
        self.levels = levels
        self.plus = self.values = self.samples = 0
        self.least, self.most = math.inf, -math.inf
        self.first: Tensor | None = None
        self.changed: Tensor | None = None

    def add(self, values: Tensor) -> None:
        values = values.detach() if values.ndim > 1 else values.detach().unsqueeze(0)
        if values.numel() == 0:
            return
        self.plus += int((values > 0).sum())
        self.least = min(self.least, float(values.min()))
        self.most = max(self.most, float(values.max()))
        self.values += values.numel()
        self.samples += values.shape[0]
        if self.first is None or self.changed is None:
            self.first = values[:1].clone()
            self.changed = torch.zeros_like(self.first, dtype=torch.bool)
        same_size = values.shape[1:] == self.first.shape[1:]
        # inputs of several sizes cannot be compared place by place: they count as changing
        self.changed |= (values != self.first).any(0, keepdim=True) if same_size else True

    def share(self) -> SignShare:
        if self.changed is None:
            return SignShare(0.0, self.least, self.most, 0, 0, 0, 0, self.levels)
        by_channel = self.changed.movedim(self.channel_dim, 0).flatten(1)
        constant = int((~by_channel.any(1)).sum())
        seen = (constant, by_channel.shape[0], self.samples, self.values, self.levels)
        return SignShare(self.plus / self.values, self.least, self.most, *seen)


@torch.no_grad()
def sign_shares(model: nn.Module, batches: Iterable[tuple[Tensor, ...]]) -> dict[str, SignShare]:
    """Run `model` on batches of positional arguments and measure the input of every low-bit layer that it calls.

    Layers whose inputs stay real (`RealCode`) have none to measure.

    The model runs in eval mode and without gradients, and is left as it was; the arguments are copied first, since a
    model may write into them. A layer's second call in one forward goes under "name#2". One example may be too plain
    to tell a constant network from any other: measure on `[args, *noise_batches(args)]`.
    -> the shares by layer name, in the order of the forward pass.
    """
    counter = ShareCounter()
    with eval_mode(model):
        for args in batches:
            with watched_inputs(model, counter.see):
                model(*(arg.clone() for arg in args))
    return counter.shares()


_OF_SIGNS = (
    "sign(x) is +1 for every x >= 0, so nothing passes a sign behind a ReLU; put a batch norm in front of the sign and "
    "no ReLU between the two, or replace the ReLU by Hardtanh or PReLU, as convert(..., activation=nn.Hardtanh) does"
)
_OF_LEVELS = (
    "Levels, of 0 ... 1 or their own range, tell apart only what lies between: "
    "numbers below are all 0, numbers above all 1, and small "
    "differences are rounded away; put a batch norm in front of the layer, and scale its input so that it spreads "
    "over 0 ... 1"
)


def warn_of_constant_inputs(owner: str, shares: Mapping[str, SignShare], stacklevel: int = 3) -> None:
    """Warn (`ConstantInputWarning`) by name of every layer whose input never changes, and say what to do.

    A first call is not named where another call of its layer sees inputs that change: recurrent states start at 0.
    """
    varied = {name.partition("#")[0] for name, share in shares.items() if not share.constant}
    constant = {name: share for name, share in shares.items() if share.constant and name not in varied}
    if constant:
        named = ", ".join(f"{name!r} ({_what(share)})" for name, share in constant.items())
        kinds = {share.levels for share in constant.values()}
        advice = " ".join(text for levels, text in ((False, _OF_SIGNS), (True, _OF_LEVELS)) if levels in kinds)
        warnings.warn(
            f"{owner}: the input of {len(constant)} of {len(shares)} low-bit layers is the same whatever the network "
            f"is shown: {named}. {advice}",
            ConstantInputWarning,
            stacklevel=stacklevel,
        )


def _what(share: SignShare) -> str:
    if share.levels:
        if share.least == share.most:
            return "all 0" if share.most == 0.0 else "all at one level"
        return f"{share.plus:.0%} above 0"
    if share.plus == 1.0:
        return "all +1"
    return "none +1" if share.plus == 0.0 else f"{share.plus:.0%} +1"
