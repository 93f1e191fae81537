"""verify: compare a packed model with its training graph on real inputs."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bittern.deploy.packed import Packed, type_and_advice
from bittern.nn.binarize import accumulate
from bittern.nn.conv import BinaryConv1d, BinaryConv2d
from bittern.nn.linear import BinaryLinear


@dataclass(frozen=True)
class LayerReport:
    """One low-bit layer."""

    name: str
    accumulators: int
    """How many were compared."""
    different: int
    """How many differ."""


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found."""

    layers: tuple[LayerReport, ...]
    logits: int
    """How many logits were compared."""
    logits_identical: bool
    """Whether they are equal bit for bit."""
    max_difference: float
    """Largest absolute difference of a logit (infinity where one is NaN or the shapes differ)."""
    tolerance: float
    """What docs/numerics.md allows for logits."""

    @property
    def exact(self) -> bool:
        """All integer accumulators are equal and all logits within the tolerance."""
        return not any(layer.different for layer in self.layers) and self.max_difference <= self.tolerance

    def __str__(self) -> str:
        compared = sum(layer.accumulators for layer in self.layers)
        wrong = [layer for layer in self.layers if layer.different]
        lines = [
            f"exact: {'yes' if self.exact else 'NO'}",
            f"accumulators: {compared} in {len(self.layers)} low-bit layers, "
            f"{sum(layer.different for layer in wrong)} different",
            f"logits: {self.logits}, {'bit-identical' if self.logits_identical else 'not bit-identical'}, "
            f"largest difference {self.max_difference:.3g} (allowed {self.tolerance:.3g})",
        ]
        lines += [f"  layer {layer.name!r}: {layer.different} of {layer.accumulators} differ" for layer in wrong]
        return "\n".join(lines)


def verify(packed: Packed, model: nn.Module, batch: Tensor) -> VerifyReport:
    """Compare the integer accumulators of every low-bit layer and the logits of `packed` and `model` on `batch`.

    model runs as a copy in eval mode on the CPU; batch: float32 [batch, ...]. Accumulators must be equal bit for bit;
    logits may differ by at most 64 * sqrt(n) * eps * max |logit|, n the number of terms of one logit
    (docs/numerics.md), and are equal on the CPU.

    Raises: TypeError for a batch that is no tensor; ValueError when the two do not have the same low-bit layers.
    """
    if not isinstance(batch, Tensor):
        raise TypeError(f"verify: the batch must be a torch.Tensor; got {type_and_advice(batch)}")
    expected, reference = _training_graph(model, batch)
    found = packed.accumulators(batch.to(packed.device))
    got = packed(batch.to(packed.device)).cpu()
    if set(found) != set(expected):
        missing = sorted(set(found) ^ set(expected))
        raise ValueError(f"verify: the two models have different low-bit layers; {missing[0]!r} is only in one of them")
    layers = tuple(_compare(name, expected[name], found[name].cpu()) for name in expected)
    same_shape = got.shape == reference.shape
    gap = float((got - reference).abs().max()) if same_shape and got.numel() else 0.0 if same_shape else math.inf
    largest = float(reference.abs().max()) if reference.numel() else 0.0
    epsilon = torch.finfo(torch.float32).eps
    return VerifyReport(
        layers,
        reference.numel(),
        bool(same_shape and torch.equal(got, reference)),
        math.inf if math.isnan(gap) else gap,
        64 * math.sqrt(_fan_in_of_last(model)) * epsilon * largest,
    )


def _fan_in_of_last(model: nn.Module) -> int:
    """Number of terms in one logit: inputs of the last linear or convolution layer."""
    fan_in = 1
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, BinaryLinear, BinaryConv1d, BinaryConv2d)):
            assert isinstance(weight, Tensor)
            fan_in = weight[0].numel()
    return fan_in


def _training_graph(model: nn.Module, batch: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """(accumulators by layer name, logits) of the training graph in eval mode."""
    frozen = copy.deepcopy(model).cpu().eval()
    found: dict[str, Tensor] = {}

    def watch(name: str, layer: BinaryConv1d | BinaryConv2d | BinaryLinear) -> None:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = args[0] if not isinstance(layer, BinaryLinear) else args[0].reshape(-1, args[0].shape[-1])
            acc = accumulate(layer.method.input(x).values, layer.method.weight(layer.weight).values, layer.geometry)
            key, calls = name, 1
            while key in found:  # a layer that is called more than once, numbered as `trace.Builder` does
                calls += 1
                key = f"{name}#{calls}"
            found[key] = acc if acc.ndim > 2 else acc.reshape(*args[0].shape[:-1], -1)

        layer.register_forward_pre_hook(hook)

    for name, module in frozen.named_modules():
        if isinstance(module, (BinaryConv1d, BinaryConv2d, BinaryLinear)):
            watch(name or "0", module)
    with torch.no_grad():
        logits = frozen(batch.cpu())
    return found, logits


def _compare(name: str, expected: Tensor, found: Tensor) -> LayerReport:
    if expected.shape != found.shape:
        return LayerReport(name, expected.numel(), expected.numel())
    return LayerReport(name, expected.numel(), int((expected.to(torch.float64) != found.to(torch.float64)).sum()))
