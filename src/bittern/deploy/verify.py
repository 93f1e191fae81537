# SPDX-License-Identifier: Apache-2.0
"""verify: compare a packed model with its training graph, on inputs that are given and on noise like them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bittern.deploy.input_check import type_and_advice
from bittern.deploy.named_sizes import in_short, inputs_of_other_sizes, sizes_of
from bittern.deploy.packed import Packed
from bittern.deploy.parameters import arguments_of, bound, called
from bittern.deploy.plain import plain_cpu
from bittern.deploy.structure import named
from bittern.deploy.training_graph import TrainingGraph, remember_weights
from bittern.deploy.unseen import cpu_copy, describe_failure
from bittern.deploy.unwrap import unwrapped
from bittern.deploy.verify_report import LayerReport, VerifyReport
from bittern.nn._noise import noise_batches
from bittern.nn.binarize import LowBitLayer

ROWS_OF_SAMPLES = 3
"""Dimensions of the accumulators of a linear layer that a program runs over several rows a sample."""


Batches = Any
"""What a model is called with: a tensor, a tuple of all arguments or a dict of them by name; or several of these."""


def verify(packed: Packed, model: nn.Module, batches: Batches, *, noise: bool = True) -> VerifyReport:
    """Compare the integer accumulators of every low-bit layer and the logits of `packed` and `model`.

    model runs as a copy in eval mode on the CPU, in contiguous memory; batches: what it is called with, as `pack` takes
    it ([batch, ...], a tuple or a dict), or several of them; they are copied first. With `noise`, batches of noise of
    their shape, at several scales and batch sizes, are compared too (`nn._noise`); where a call chooses sizes, also of
    other ones, some smaller and some larger (`named_sizes.inputs_of_other_sizes`). Accumulators must be equal bit for
    bit; logits may differ by at most 64 * sqrt(n) * eps * max |logit|, n the number of terms of one logit
    (docs/numerics.md), and are equal on the CPU.

    Raises: TypeError for a batch that is none; ValueError when there is nothing to compare, when the two do not
    have the same low-bit layers, and when `model` cannot be copied or fails on an input.
    """
    return _compared(packed, model, batches, noise, cpu_copy)


def verify_frozen(packed: Packed, model: nn.Module, batches: Batches) -> VerifyReport:
    """The same of a model whose forward writes into none of its parameters, as `pack` has made sure.

    Its copy shares their memory, and the quantized weight of each layer is computed once for all batches.
    """

    def copy(model: nn.Module) -> nn.Module:
        frozen = cpu_copy(model, frozen=True)
        remember_weights(frozen)
        return frozen

    return _compared(packed, model, batches, True, copy)


def _compared(
    packed: Packed, model: nn.Module, batches: Batches, noise: bool, copy: Callable[[nn.Module], nn.Module]
) -> VerifyReport:
    given = _inputs(packed, batches)
    with plain_cpu():
        comparison = _Comparison(packed, model, copy)
        for inputs in given:
            comparison.add(inputs)
        samples = comparison.samples
        if noise:
            dims = tuple(entry.batch for entry in packed.inputs)
            for inputs in noise_batches(tuple(x.cpu() for x in given[0]), dims):
                comparison.add(inputs)
            for example in inputs_of_other_sizes(packed.program, given[0]):
                comparison.add_other_sizes(noise_batches(example, dims))
    return comparison.report(samples, comparison.samples - samples)


Inputs = Sequence[Tensor]
"""Those of a program, in its order."""


def _inputs(packed: Packed, batches: Batches) -> list[Inputs]:
    given: list[Inputs] = []
    for batch in _several(packed, batches):
        inputs = bound(packed.program.parameters, *arguments_of(batch))
        for x in inputs:
            if not isinstance(x, Tensor):
                raise TypeError(f"verify: the batch must be a torch.Tensor; got {type_and_advice(x)}")
        given.append(inputs)
    if not given:
        raise ValueError("verify: got no batch; give a tensor [batch, ...], or several")
    return given


def _several(packed: Packed, batches: Batches) -> list[Any]:
    """One batch, or each of several; a tuple is one batch of a model that is called with more than one tensor."""
    one = not isinstance(batches, Iterable) or hasattr(batches, "dtype")  # an array of numpy is one batch
    one |= isinstance(batches, Mapping) or (isinstance(batches, tuple) and not packed.takes_one_tensor)
    return [batches] if one else list(batches)


class _Comparison:
    """Runs both models on one batch after another."""

    def __init__(self, packed: Packed, model: nn.Module, copy: Callable[[nn.Module], nn.Module]) -> None:
        self.packed, model = packed, unwrapped(model)
        try:
            self._trained = TrainingGraph(copy(model), self.packed.constant_layers)
        except Exception as error:
            raise ValueError(f"verify: the model cannot be copied to the CPU: {describe_failure(error)}") from error
        self.samples = self.logits = 0
        self.sizes: dict[str, None] = {}
        self._other_sizes = False
        """Whether inputs have sizes that cannot be compared place by place with those before (`ShareCounter`)."""
        self._layers: dict[str, LayerReport] = {}
        self._identical, self._vary = True, False
        self._worst = 0.0, math.inf
        self._first: dict[str, Tensor] = {}
        self._factor = 64 * math.sqrt(_fan_in_of_last(model)) * torch.finfo(torch.float32).eps

    def add(self, inputs: Inputs) -> None:
        expected, reference = self._trained.run(self.packed.program.parameters, inputs, counted=not self._other_sizes)
        args, kwargs = called(self.packed.program.parameters, [x.detach().to(self.packed.device) for x in inputs])
        found = self.packed.accumulators(*args, **kwargs)
        got = named(self.packed(*args, **kwargs))
        if set(found) != set(expected):
            names = ", ".join(map(repr, sorted(set(found) ^ set(expected))))
            raise ValueError(f"verify: the two models have different low-bit layers; only one of them calls {names}")
        for name in expected:
            self._add_layer(name, expected[name], found[name].cpu())
        if got is None or set(got) != set(reference):
            raise ValueError(f"verify: the packed model returns {list(got or ())}, the model {list(reference)}")
        for name, values in reference.items():
            self._add_logits(name, got[name].cpu(), values)
        self.samples += self.packed.program.batch_of(inputs)

    def add_other_sizes(self, batches: Iterable[Inputs]) -> None:
        """Compare inputs of other sizes than those that were given. Raises: ValueError, with what to do about them."""
        self._other_sizes = True
        for inputs in batches:
            sizes = in_short(sizes_of(self.packed.program, inputs))
            self.sizes[sizes] = None
            try:
                self.add(inputs)
            except ValueError as error:
                said = str(error).removeprefix("verify: ").removeprefix("packed model: ")
                raise ValueError(
                    f"verify: at other sizes, {sizes}: {said}; if the model is not meant for such sizes, give limits "
                    "when packing, as in torch.export.Dim('length', min=4, max=512)"
                ) from error

    def report(self, given: int, noise: int) -> VerifyReport:
        vary = self._vary or self.samples < 2
        layers, shares = tuple(self._layers.values()), self._trained.shares
        return VerifyReport(
            layers,
            self.logits,
            self._identical,
            *self._worst,
            given,
            noise,
            shares,
            vary,
            self.packed.constant_layers,
            tuple(self.sizes),
        )

    def _add_layer(self, name: str, expected: Tensor, found: Tensor) -> None:
        if found.ndim == ROWS_OF_SAMPLES and found.numel() == expected.numel():
            found = found.reshape(expected.shape)  # a linear layer's rows, which in a model may lie in any dimensions
        if expected.shape == found.shape:
            different = int((expected.to(torch.float64) != found.to(torch.float64)).sum())
        else:
            different = max(expected.numel(), found.numel())
        before = self._layers.get(name, LayerReport(name, 0, 0))
        self._layers[name] = LayerReport(name, before.accumulators + expected.numel(), before.different + different)

    def _add_logits(self, name: str, got: Tensor, reference: Tensor) -> None:
        self.logits += reference.numel()
        gap, same = _gap(got, reference)
        finite = reference[reference.isfinite()]
        largest = float(finite.abs().max()) if finite.numel() and finite.is_floating_point() else 0.0
        allowed = self._factor * largest
        self._identical &= same
        if gap - allowed > self._worst[0] - self._worst[1]:
            self._worst = gap, allowed
        if name not in self._first and len(reference):
            self._first[name] = reference[:1].clone()
        first = self._first.get(name)
        if first is not None and first.shape[1:] == reference.shape[1:]:
            # sums of other batch sizes may round otherwise: that is no dependence on the input
            alike = _equal(reference, first)
            if reference.is_floating_point():
                alike |= (reference - first).abs() <= allowed
            self._vary |= not bool(alike.all())


def _equal(a: Tensor, b: Tensor) -> Tensor:
    """Where two tensors are equal, a NaN to a NaN."""
    return (a == b) | (a.isnan() & b.isnan())


def _gap(got: Tensor, reference: Tensor) -> tuple[float, bool]:
    """(largest difference, infinity where one is NaN or the shapes differ; whether the two are equal bit for bit)."""
    if got.shape != reference.shape or got.dtype != reference.dtype:
        return math.inf, False
    equal = _equal(got, reference)
    if bool(equal.all()):
        return 0.0, True
    if not reference.is_floating_point():
        return math.inf, False
    gap = float((got - reference)[~equal].abs().max())
    return math.inf if math.isnan(gap) else gap, False


def _fan_in_of_last(model: nn.Module) -> int:
    """Number of terms in one logit: inputs of the last linear or convolution layer."""
    fan_in = 1
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, LowBitLayer)):
            assert isinstance(weight, Tensor)
            fan_in = weight[0].numel()
    return fan_in
