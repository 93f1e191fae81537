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
from bittern.nn.sign_shares import ShareCounter, SignShare, watched_inputs
from bittern.quantizer import Quantized, term_names, weight_codes

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
        self._awaited: dict[LowBitLayer, list[tuple[str, Sequence[int]]]] = {}
        """Of each layer, the names of the products that its call makes next, and the shape of its input."""
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
        results = named(answer)
        if results is None:
            raise ValueError(
                "verify: the model must return a tensor, or a tuple or dict of tensors; it returns "
                f"{type(answer).__name__}"
            )
        return self._found, results

    def _see(self, name: str, layer: LowBitLayer, x: Tensor, values: Tensor) -> None:
        name = name or "0"  # a layer by itself, which `trace` calls so
        if self._counted:
            self._shares.see(name, layer, x, values)
        noted = name not in self._without
        names = term_names(name, len(weight_codes(layer.method))) if noted else ()
        self._awaited[layer] = [(term, x.shape) for term in reversed(names)]
        # a layer of a class of its own may make no such product: it is named, and has no numbers
        self._found |= dict.fromkeys(names, torch.empty(0))

    def _accumulate(self, layer: LowBitLayer, x: Tensor, w: Tensor) -> Tensor:
        product = LowBitLayer.accumulate(layer, x, w)
        if self._awaited.get(layer):
            name, shape = self._awaited[layer].pop()
            rows = product if product.ndim > 2 else product.reshape(*shape[:-1], -1)
            self._found[name] = rows.clone()  # what follows may write into it
        return product


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
