# SPDX-License-Identifier: Apache-2.0
"""What `verify` found, as data and as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bittern.nn.sign_shares import SignShare


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
    """Whether they are equal bit for bit (a NaN to a NaN)."""
    max_difference: float
    """Largest absolute difference of a logit (infinity where one is NaN or the shapes differ), in the worst batch."""
    tolerance: float
    """What docs/numerics.md allows for logits of that batch."""
    given: int = 0
    """Samples compared that the caller gave."""
    noise: int = 0
    """Samples compared that were noise."""
    inputs: Mapping[str, SignShare] = field(default_factory=dict)
    """What reached each low-bit layer, in all samples."""
    logits_vary: bool = True
    """Whether any two samples had different logits (True where only one was compared)."""
    constant_layers: tuple[str, ...] = ()
    """Low-bit layers that packing computed, since nothing of the input reaches them; they are not compared alone."""
    sizes: tuple[str, ...] = ()
    """Sizes other than those given at which noise was compared, "length=7", where a call chooses sizes."""

    @property
    def exact(self) -> bool:
        """All integer accumulators are equal and all logits within the tolerance."""
        return not any(layer.different for layer in self.layers) and self.max_difference <= self.tolerance

    @property
    def constant_inputs(self) -> tuple[str, ...]:
        """Low-bit layers whose input was the same in every sample."""
        return tuple(name for name, share in self.inputs.items() if share.constant)

    def __str__(self) -> str:
        compared = sum(layer.accumulators for layer in self.layers)
        wrong = [layer for layer in self.layers if layer.different]
        lines = [
            f"exact: {'yes' if self.exact else 'NO'}, on {_samples(self.given)} given and {self.noise} of noise",
            f"accumulators: {compared} in {len(self.layers)} low-bit layers, "
            f"{sum(layer.different for layer in wrong)} different",
            f"logits: {self.logits}, {'bit-identical' if self.logits_identical else 'not bit-identical'}, "
            f"largest difference {self.max_difference:.3g} (allowed {self.tolerance:.3g})",
        ]
        lines += [f"  layer {layer.name!r}: {layer.different} of {layer.accumulators} differ" for layer in wrong]
        if self.sizes:
            lines.append(f"noise also at {'; '.join(self.sizes)}")
        if self.constant_inputs:
            lines.append(f"the same whatever the input: what reaches {len(self.constant_inputs)} low-bit layers")
            lines += [f"  layer {name!r}: {self.inputs[name]}" for name in self.constant_inputs]
        if self.constant_layers:
            lines.append(f"computed when packing, not compared by themselves: {', '.join(self.constant_layers)}")
        if not self.logits_vary:
            lines.append("the logits do not depend on the input: every sample got the same ones")
        return "\n".join(lines)


def _samples(count: int) -> str:
    return f"{count} sample{'' if count == 1 else 's'}"
