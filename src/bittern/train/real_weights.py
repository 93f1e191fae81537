# SPDX-License-Identifier: Apache-2.0
"""The first of two stages: a method's binary inputs with real weights."""

from __future__ import annotations

from typing import Self

from torch import Tensor, nn

from bittern.attention_method import AttentionMethod
from bittern.quantizer import REAL_BITS, InputCode, Method, Quantized, Quantizer, RealCode


class RealWeights(Quantizer):
    """A method with its inputs and outputs as they are, and its weights left real: w_q = w, no scale.

    Forward: weight(w) = w; input(x), output(y), gate(x) as `method`. Backward: dL/dw = dL/dw_q. Latent weights are not
    clipped. A parameter that only the quantized weight uses gets no gradient.

    Its parameters and buffers are those of `method` itself, under the same names, so that the state of one stage
    loads into the other strictly. (The authors of ReActNet load with strict=False, which drops renamed weights.)

    Source: stage 1 of ReActNet's training (2003.03488, section 5), after 1904.05868.
    """

    weight_bits = REAL_BITS

    def __init__(self, method: Quantizer) -> None:
        super().__init__(method.shape)
        self.input_bits = method.input_bits
        self.start = method.start
        # in __dict__, not as a submodule, which would put its name before every parameter's
        self.__dict__["wrapped"] = method
        self._parameters = method._parameters
        self._buffers = method._buffers
        self._modules = method._modules
        self._non_persistent_buffers_set = method._non_persistent_buffers_set
        self.train(method.training)

    def weight(self, w: Tensor) -> Quantized:
        return Quantized(w)

    def input(self, x: Tensor) -> Quantized | tuple[Quantized, ...]:
        return self._method.input(x)

    def input_code(self) -> InputCode | tuple[InputCode, ...]:
        return self._method.input_code()

    def output(self, y: Tensor) -> Tensor:
        return self._method.output(y)

    def output_factors(self) -> tuple[Tensor, ...]:
        return self._method.output_factors()

    def gate(self, x: Tensor) -> Tensor | None:
        return self._method.gate(x)

    @property
    def unwrapped(self) -> Quantizer:
        return self._method.unwrapped

    def set_progress(self, t: float) -> None:
        self._method.set_progress(t)

    def was_loaded(self) -> None:
        self._method.was_loaded()

    def train(self, mode: bool = True) -> Self:
        """Set the mode here and in `method`, which is no submodule."""
        self._method.training = mode
        return super().train(mode)

    @property
    def _method(self) -> Quantizer:
        method: Quantizer = self.__dict__["wrapped"]
        return method


class TanhOperands(RealWeights):
    """A method with real weights and tanh of its inputs in place of their values; output and gate as `method`.

    Forward: weight(w) = w, input(x) = tanh(x). Backward: theirs. Parameters and buffers as in `RealWeights`; those that
    only the quantized input uses get no gradient.

    Source: the teacher of Real-to-Binary's second stage (2003.11535), as Larq has it.
    """

    def input(self, x: Tensor) -> Quantized:
        return Quantized(x.tanh())

    def input_code(self) -> InputCode:
        return RealCode()


def tanh_operands(method: Method) -> Method:
    """The method whose layers have real weights and tanh in place of signs: the network without its quantization."""
    return lambda shape: TanhOperands(method(shape))


def real_weights(method: Method) -> Method:
    """The method whose layers have real weights: `BinaryConv2d(..., method=real_weights(ReActNet))`."""
    return lambda shape: RealWeights(method(shape))


def use_real_weights(model: nn.Module) -> nn.Module:
    """Give every low-bit layer of `model` real weights, in place; returns `model`.

    Raises: ValueError when it has no low-bit layer.
    """
    return _wrapped(model, RealWeights, "use_real_weights")


def use_tanh_operands(model: nn.Module) -> nn.Module:
    """Give every low-bit layer of `model` real weights and tanh in place of signs, in place; returns `model`.

    Raises: ValueError when it has no low-bit layer.
    """
    return _wrapped(model, TanhOperands, "use_tanh_operands")


def _wrapped(model: nn.Module, kind: type[RealWeights], owner: str) -> nn.Module:
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, Quantizer) and not isinstance(child, RealWeights)
    ]
    if not found:
        raise ValueError(f"{owner}: the model has no low-bit layer; convert it first")
    for parent, name, child in found:
        setattr(parent, name, kind(child))
    return model


def start_from(model: nn.Module, other: nn.Module) -> nn.Module:
    """Give `model` the weights of the same network with real layers, in place; returns `model`.

    Every parameter and buffer of `other` must be in `model`, of the same shape. What `model` has beyond them stays; it
    must belong to its methods, or to modules that hold a method of attention, which may have norms of their own.

    Raises: ValueError.
    """
    mine, theirs = model.state_dict(), other.state_dict()
    own = tuple(f"{place}." for place in _places_of_methods(model))
    beyond = [name for name in mine if name not in theirs and not name.startswith(own)]
    unlike = [name for name, value in theirs.items() if name not in mine or mine[name].shape != value.shape]
    if beyond or unlike:
        raise ValueError(
            f"start_from: {type(other).__name__} is not the same network with real layers: {(unlike + beyond)[0]!r} is "
            f"not in both, or of another shape ({len(unlike + beyond)} such names); build both with the same sizes"
        )
    model.load_state_dict({**mine, **theirs}, strict=True)
    return model


def _places_of_methods(model: nn.Module) -> list[str]:
    places = [name for name, child in model.named_modules() if isinstance(child, Quantizer)]
    attends = [name for name, child in model.named_modules() if isinstance(child, AttentionMethod)]
    return [*places, *(name.rpartition(".")[0] or name for name in attends)]
