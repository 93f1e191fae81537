# SPDX-License-Identifier: Apache-2.0
"""The trained model as `verify` runs it: a copy in eval mode that notes the accumulators of its low-bit layers."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from bittern.deploy.parameters import Parameter, called
from bittern.deploy.structure import named
from bittern.deploy.unseen import describe_failure
from bittern.nn.binarize import LowBitLayer
from bittern.nn.geometry import accumulate
from bittern.nn.linear import BinaryLinear
from bittern.nn.sign_shares import ShareCounter, SignShare, watched_inputs
from bittern.quantizer import (
    OnesCode,
    Quantized,
    Quantizer,
    input_codes,
    product_names,
    weight_codes,
    weight_terms,
)

Tensors = dict[str, Tensor]


class TrainingGraph:
    """A model, which is changed, so that each product of a low-bit layer is noted while it runs.

    without: names of layers of which nothing is noted.
    """

    def __init__(self, model: nn.Module, without: Container[str]) -> None:
        self.model = model
        self._without = without
        self._shares, self._counted = ShareCounter(), True
        self._found: Tensors = {}
        self._awaited: dict[LowBitLayer, _Call] = {}
        """What each layer that is being called is about to multiply."""
        for layer in _low_bit_layers(model):
            vars(layer)["accumulate"] = partial(self._accumulate, layer)

    @property
    def shares(self) -> Mapping[str, SignShare]:
        """What reached each low-bit layer, over all runs."""
        return self._shares.shares()

    def run(
        self, parameters: Sequence[Parameter], inputs: Sequence[Tensor], *, counted: bool
    ) -> tuple[Tensors, Tensors]:
        """(accumulators by layer name, results by name); counted: among `shares`.

        Raises: ValueError where the model fails.
        """
        self._counted = counted
        self._found, self._awaited = {}, {}
        copies = [x.detach().cpu().clone(memory_format=torch.contiguous_format) for x in inputs]
        args, kwargs = called(parameters, copies)
        try:
            with watched_inputs(self.model, self._see):
                answer = self.model(*args, **kwargs)
        except Exception as error:
            shapes = ", ".join(str(list(x.shape)) for x in inputs)
            raise ValueError(
                f"verify: the model fails on an input {shapes}: {describe_failure(error)}; it must take batches of any "
                "size"
            ) from error
        for layer in list(self._awaited):
            self._work_out(layer)
        results = named(answer)
        if results is None:
            raise ValueError(
                "verify: the model must return a tensor, or a tuple or dict of tensors; it returns "
                f"{type(answer).__name__}"
            )
        return self._found, results

    def _see(self, name: str, layer: LowBitLayer, x: Tensor, values: tuple[Tensor, ...]) -> None:
        name = name or "0"  # a layer by itself, which `trace` calls so
        if self._counted:
            self._shares.see(name, layer, x, values)
        self._work_out(layer)
        if name not in self._without:
            self._awaited[layer] = _Call(counted_names(name, layer.method), values, x.shape)

    def _accumulate(self, layer: LowBitLayer, x: Tensor, w: Tensor) -> Tensor:
        product = type(layer).accumulate(layer, x, w)
        call = self._awaited.get(layer)
        if call is not None:
            found = call.names[call.made]
            if found is not None:
                self._found[found] = call.shaped(product).clone()  # what follows may write into it
            call.made += 1
            if call.made == len(call.names):
                del self._awaited[layer]
        return product

    def _work_out(self, layer: LowBitLayer) -> None:
        """The products of a layer of a class of its own, whose call has made none."""
        call = self._awaited.pop(layer, None)
        if call is None:
            return
        names = iter(call.names)
        weights = weight_terms(layer.method, layer.weight)
        for values in call.values:
            x = values.reshape(-1, values.shape[-1]) if isinstance(layer, BinaryLinear) else values
            for term in weights:
                name = next(names)
                if name is not None:
                    self._found[name] = call.shaped(accumulate(x, term.values, layer.geometry))


def counted_names(layer: str, method: Quantizer) -> tuple[str | None, ...]:
    """`product_names`, with None for products that no packed program counts: those of ones of the input."""
    ones = [isinstance(code, OnesCode) for code in input_codes(method) for _ in weight_codes(method)]
    return tuple(None if one else name for one, name in zip(ones, product_names(layer, method), strict=True))


class _Call:
    """Of a layer: names of its products, the values of the terms of its input, and the shape of that."""

    def __init__(self, names: Sequence[str | None], values: tuple[Tensor, ...], shape: Sequence[int]) -> None:
        self.names, self.values, self._shape = names, values, shape
        self.made = 0

    def shaped(self, product: Tensor) -> Tensor:
        """Rows of a linear layer in the dimensions that its input has."""
        return product if product.ndim > 2 else product.reshape(*self._shape[:-1], -1)


def remember_weights(model: nn.Module) -> None:
    """Let each low-bit layer of a copy compute its quantized weight once, for forwards that write into none of them.

    A weight that is no parameter, as behind a parametrization, is computed at every call as before.
    """
    for layer in _low_bit_layers(model):
        if isinstance(layer.weight, nn.Parameter):
            vars(layer.method)["weight"] = _Remembered(layer)


class _Remembered:
    """The `weight` of the method of one layer, computed at the first call with the layer's own weight."""

    def __init__(self, layer: LowBitLayer) -> None:
        self._own = layer.weight
        self._compute = layer.method.weight
        self._found: Quantized | tuple[Quantized, ...] | None = None

    def __call__(self, w: Tensor) -> Quantized | tuple[Quantized, ...]:
        if w is not self._own:
            return self._compute(w)
        if self._found is None:
            self._found = self._compute(w)
        return self._found


def _low_bit_layers(model: nn.Module) -> list[LowBitLayer]:
    return [layer for layer in model.modules() if isinstance(layer, LowBitLayer)]
