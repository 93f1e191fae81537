# SPDX-License-Identifier: Apache-2.0
"""The one interface that every low-bit method implements.

A method turns real tensors into values on a grid plus a scale. It never sees "conv" or "linear": a layer hands
it a `LayerShape` and tensors whose channel dimension is always dimension 1. Because bits and scale are
returned apart, packing a trained layer is a call of `weight`, `input_code` and `output_factors`, not pattern
recognition.

The arithmetic of a layer (docs/numerics.md, "Order of operations"), with x_q = input(x), w_q = weight(w):

    acc = conv(x_q.values, w_q.values)              an exact integer; a rounded number where the input stays real
    y   = acc * static_scale                        static_scale = w_q.scale * x_q.scale where x_q.scale has 0 dims
    y   = y * spread(x_q.scale)                     only for a scale that depends on the input
    y   = output(y)
    y   = y * gate(x) + bias                        the gate only where the method has one

Where `input` or `weight` gives several terms, they stand for their sum: the first three lines make one y of each pair,
and these are added in their order, for each term of the input those of the weight. An offset on an operand is a term
whose values are all +1 (`Ones`): a weight a * sign + b is the terms (sign, a) and (ones, b). Outside a padded image a
term of ones is 0 like any other, which is what an offset that was added before the padding is there.

Which numbers the values may be is data, too: `weight_code` and `input_code().grid` give a code of `bittern.codes`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bittern.codes import Code, Reals, odd_integers
from bittern.input_codes import InputCode as InputCode
from bittern.input_codes import InputScale as InputScale
from bittern.input_codes import LevelsCode as LevelsCode
from bittern.input_codes import MultibitCode as MultibitCode
from bittern.input_codes import OnesCode as OnesCode
from bittern.input_codes import RealCode as RealCode
from bittern.input_codes import RowCode as RowCode
from bittern.input_codes import SignCode as SignCode
from bittern.input_codes import StepsCode as StepsCode
from bittern.input_codes import WholeCode as WholeCode
from bittern.start import Start

REAL_BITS = Reals().bits
"""`weight_bits` of a method that leaves its weights real."""


class Quantized(NamedTuple):
    """Values on a grid and their scale: real value = values * scale."""

    values: Tensor
    """{-1, +1} or integers, or an input that stays real; in the dtype of the real tensor."""
    scale: Tensor | None = None
    """Broadcastable to `values`; None means 1. 0 dims: a constant."""


class LayerShape(NamedTuple):
    """What a method may know of the layer it serves."""

    weight: tuple[int, ...]
    """[out_channels, in_channels / groups, *kernel]."""
    groups: int = 1

    @property
    def out_channels(self) -> int:
        return self.weight[0]

    @property
    def in_channels(self) -> int:
        return self.weight[1] * self.groups

    @property
    def fan_in(self) -> int:
        """Number of weights that one output sees: the K of the integer accumulator."""
        fan = 1
        for size in self.weight[1:]:
            fan *= size
        return fan

    @property
    def space_dims(self) -> int:
        return len(self.weight) - 2

    def input_view(self, per_channel: Tensor) -> Tensor:
        """[in_channels] -> broadcastable to an input [batch, in_channels, *space]."""
        return per_channel.view(1, -1, *(1,) * self.space_dims)

    def output_view(self, per_channel: Tensor) -> Tensor:
        """[out_channels] -> broadcastable to an output [batch, out_channels, *space]."""
        return per_channel.view(1, -1, *(1,) * self.space_dims)

    def weight_view(self, per_channel: Tensor) -> Tensor:
        """[out_channels] -> broadcastable to a weight [out_channels, in_channels / groups, *kernel]."""
        return per_channel.view(-1, 1, *(1,) * self.space_dims)


WeightCode = Code | Reals | tuple[Code, ...]
"""Of a weight: one code, none, or those of several terms that are added."""


class _BitsOfCode:
    """`Quantizer.weight_bits` where no subclass sets it: 1, or with a `weight_code` of its own what that says."""

    def __get__(self, method: Quantizer | None, owner: type[Quantizer]) -> int:
        if method is None or owner.weight_code is Quantizer.weight_code:
            return 1
        return sum(code.bits for code in weight_codes(method))


class Quantizer(nn.Module, ABC):
    """A low-bit method for one layer: how its weight, its input and its output are quantized.

    Subclasses take the `LayerShape` as first argument and their own options as keywords:
    `BinaryConv2d(..., method=ReActNet)`, or with options `method=partial(XNORNet, input_scale=InputScale.NONE)`.
    """

    weight_bits: int = _BitsOfCode()  # type: ignore[assignment]
    """int: bits a weight takes. To set it is the short form of a `weight_code` of 2^weight_bits odd integers."""
    input_bits: int = 1
    """Bits an input takes, for a reader; what counts is `input_code`."""
    clip_latent: float | None = None
    """Latent weights are clipped to [-clip_latent, clip_latent] after each step; None: never."""
    latent_free: bool = False
    """Whether the weight is its own quantized value, which only an optimizer that flips signs may move."""
    follows_loss_scale: bool = True
    """Whether gradients are proportional to those of the output, as training with a scaled loss in float16 needs."""
    gate_macs: int = 0
    """Multiply-accumulates of real numbers that `gate` takes for one sample, or one row of a linear layer."""
    terms_of_ones: tuple[bool, ...] = ()
    """Which terms of the weight are `Ones`, told by its layer: torch.compile cannot trace every code; (): none."""
    start: Start | None = None
    """How latent weights start; None: as the network starts its real weights (alone: `bittern.start.TorchUniform`)."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        self.shape = shape

    @abstractmethod
    def weight(self, w: Tensor) -> Quantized | tuple[Quantized, ...]:
        """Quantize the latent weight w [out, in / groups, *kernel]; scale is [out, 1, ...] or 0-dim.

        Several terms, each with a scale of its own, stand for their sum.
        """

    def weight_code(self) -> WeightCode:
        """Which numbers the values of `weight` are; a tuple where it gives several terms.

        The default is signs with a scale per output channel, or 2^weight_bits odd integers where those are set.
        """
        return Reals() if self.weight_bits == REAL_BITS else odd_integers(self.weight_bits)

    @abstractmethod
    def input(self, x: Tensor) -> Quantized | tuple[Quantized, ...]:
        """Quantize x [batch, channels, *space]; scale is [batch, 1, *space], [batch, 1, ...] or 0-dim.

        Several terms, each with a scale of its own, stand for their sum.
        """

    @abstractmethod
    def input_code(self) -> InputCode | tuple[InputCode, ...]:
        """What `input` computes in eval mode, as data that a packed file can hold; a tuple for several terms."""

    def output(self, y: Tensor) -> Tensor:
        """Scales and gradient rules that live on the output; the default changes nothing."""
        return y

    def output_factors(self) -> tuple[Tensor, ...]:
        """Factors whose product `output` multiplies y by in eval mode, each broadcastable to y; () means 1."""
        return ()

    def gate(self, x: Tensor) -> Tensor | None:
        """A factor of the output that is computed from x, the layer's own input; the default is none.

        x: [batch, channels, *space], before any padding, or of a linear layer [..., features]. -> broadcastable to the
        output. It is made of operators of torch: a packed program holds those, and no part of the low-bit product.
        """
        return None

    def settle(self, w: Tensor) -> None:
        """Change the latent weight in place after an optimizer step; the default clips it to +-`clip_latent`."""
        if self.clip_latent is not None:
            w.clamp_(-self.clip_latent, self.clip_latent)

    def was_loaded(self) -> None:
        """Called where parameters and buffers have been loaded from a state; the default does nothing."""

    def _load_from_state_dict(self, *arguments: Any, **named: Any) -> None:
        super()._load_from_state_dict(*arguments, **named)
        self.was_loaded()

    @property
    def unwrapped(self) -> Quantizer:
        """The method that this one stands in for; itself, unless it wraps another."""
        return self

    def rate_factor(self) -> float:
        """What the learning rate of the weight is multiplied by at the next step, where `optim.LayerRates` does it."""
        return 1.0

    def set_progress(self, t: float) -> None:
        """Tell the schedule how much of the training is done: 0 at the first step, 1 at the last."""


def has_gate(method: Quantizer) -> bool:
    """Whether a method multiplies its output by a factor that it computes from the input."""
    return type(method.unwrapped).gate is not Quantizer.gate


def reads_reals(method: Quantizer) -> bool:
    """Whether the input of a method stays real, so that its products are sums of real numbers."""
    return isinstance(method.input_code(), RealCode)


def multiplies_floats(method: Quantizer) -> bool:
    """Whether the products of a method are those of floats: of inputs that stay real, or of whole numbers of steps."""
    return isinstance(method.input_code(), RealCode | WholeCode)


def weight_codes(method: Quantizer) -> tuple[Code | Reals, ...]:
    """The code of each term of a method's weight."""
    codes = method.weight_code()
    return codes if isinstance(codes, tuple) else (codes,)


def weight_terms(method: Quantizer, w: Tensor) -> tuple[Quantized, ...]:
    """The terms of a method's quantized weight.

    Raises: ValueError where they are not as many as `weight_code` names.
    """
    found = method.weight(w)
    terms = (found,) if isinstance(found, Quantized) else found
    if not torch.compiler.is_compiling():  # torch.compile cannot trace every way to make a frozen dataclass
        _check_terms(method, len(terms))
    return terms


def input_codes(method: Quantizer) -> tuple[InputCode, ...]:
    """The code of each term of a method's input."""
    codes = method.input_code()
    return codes if type(codes) is tuple else (codes,)  # type: ignore[return-value]  # a code is a named tuple


def input_terms(method: Quantizer, x: Tensor) -> tuple[Quantized, ...]:
    """The terms of a method's quantized input.

    Raises: ValueError where they are not as many as `input_code` names.
    """
    found = method.input(x)
    terms = (found,) if isinstance(found, Quantized) else found
    if len(terms) > 1 or not torch.compiler.is_compiling():
        _check_count(method, "input", len(terms), len(input_codes(method)))
    return terms


def _check_terms(method: Quantizer, terms: int) -> None:
    _check_count(method, "weight", terms, len(weight_codes(method)))


def _check_count(method: Quantizer, what: str, terms: int, codes: int) -> None:
    if terms != codes:
        name = type(method).__name__
        raise ValueError(
            f"{name}: its {what} has {terms} terms, and its {what}_code names {codes}; name one code a term"
        )


def product_names(layer: str, method: Quantizer) -> tuple[str, ...]:
    """What the products of a layer's terms are called, in their order: as the layer where there is one.

    layer: its name, with "#2" and so on behind it at its second call.
    """
    return term_names(layer, len(input_codes(method)) * len(weight_codes(method)))


def term_names(layer: str, count: int) -> tuple[str, ...]:
    """What so many products of one layer are called."""
    name, mark, call = layer.partition("#")
    return (layer,) if count == 1 else tuple(f"{name}.term{i}{mark}{call}" for i in range(count))


Method = Callable[[LayerShape], Quantizer]
"""A `Quantizer` class, or a partial of one with its options."""


def set_progress(module: nn.Module, t: float) -> None:
    """Set the progress t in [0, 1] of every method inside `module`.

    Raises: ValueError when t lies outside [0, 1].
    """
    if not 0.0 <= t <= 1.0:
        raise ValueError(f"set_progress: t must lie in [0, 1]; got {t}; pass step / (total_steps - 1)")
    for child in module.modules():
        if isinstance(child, Quantizer):
            child.set_progress(t)
