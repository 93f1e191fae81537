# SPDX-License-Identifier: Apache-2.0
"""How many integers another runtime has otherwise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class IntegerLayer:
    """One node, on the very inputs that the runtime gave it."""

    name: str
    integers: int
    different: int
    largest: int
    """Difference, in steps."""


@dataclass(frozen=True)
class IntegerReport:
    """How a network of integers, run by ONNX Runtime, compares with the packed model."""

    layers: tuple[IntegerLayer, ...]
    samples: int
    numbers: int
    """Of all answers, end to end."""
    different: int
    """How many of them differ, as the runtime rearranges the network for itself."""
    largest: float
    """Difference of an answer: in steps, or in its own units where answers are real."""
    answers_different: int
    """Samples whose largest answer is another one."""

    @property
    def agrees(self) -> bool:
        """Whether every integer is the same."""
        return not self.different and not any(layer.different for layer in self.layers)

    def __str__(self) -> str:
        wrong = [layer for layer in self.layers if layer.different]
        integers, apart = (sum(counts) for counts in ([x.integers for x in self.layers], [x.different for x in wrong]))
        return "\n".join(
            [
                f"every integer is the same: {'yes' if self.agrees else 'NO'}",
                f"node by node: {apart:,} of {integers:,} integers differ",
                *(f"  {x.name!r}: {x.different:,} of {x.integers:,}, by at most {x.largest}" for x in wrong),
                f"end to end: {self.different:,} of {self.numbers:,} answers differ, by at most {self.largest:g}; "
                f"{self.answers_different} of {self.samples} samples have another largest one",
            ]
        )
