# SPDX-License-Identifier: Apache-2.0
"""Test accuracies that were published of a method, each with the place where it was read."""

from __future__ import annotations

from dataclasses import dataclass

NONE_READ = "none read"
"""What stands in the place of a figure that nobody here has read."""


@dataclass(frozen=True, slots=True)
class Published:
    """One figure, in percent, top-1.

    accuracy: as printed; up_to: the end of a range, where one is printed. data, network: the data set and the network
    there. source: arXiv id or file. twin: of the same network with real weights and inputs, where the same source
    prints it. note: what else tells it from another figure. like: the network of `bittern.models` of that kind; "":
    there is none.

    Raises: ValueError for what is no percentage, or a range that falls.
    """

    accuracy: float
    data: str
    network: str
    source: str
    twin: float | None = None
    up_to: float | None = None
    note: str = ""
    like: str = ""

    def __post_init__(self) -> None:
        numbers = [value for value in (self.accuracy, self.up_to, self.twin) if value is not None]
        if not all(0.0 < value <= 100.0 for value in numbers) or not self.accuracy <= self.most:
            raise ValueError(f"Published: accuracies are percentages, ranges rise; got {numbers}")

    @property
    def most(self) -> float:
        """The end of the range; the accuracy itself where there is none."""
        return self.accuracy if self.up_to is None else self.up_to

    @property
    def gap(self) -> float | None:
        """To the twin of the same source, in points, of the middle of a range; None where no twin is printed."""
        return None if self.twin is None else round((self.accuracy + self.most) / 2 - self.twin, 2)

    @property
    def percent(self) -> str:
        """ "85.23 %", with the digits that were printed at least to a tenth; "96.8 to 96.9 %"."""
        ends = dict.fromkeys(_digits(value) for value in (self.accuracy, self.most))
        return f"{' to '.join(ends)} %"

    @property
    def place(self) -> str:
        """Where it holds: "CIFAR-10, ResNet-20"; with the note."""
        return ", ".join(part for part in (self.data, self.network, self.note) if part)

    def __str__(self) -> str:
        beside = "" if self.twin is None else f", float {_digits(self.twin)} %"
        return f"{self.percent} ({self.place}{beside}; {self.source})"


def _digits(value: float) -> str:
    return f"{value:.1f}" if round(value, 1) == value else f"{value:.2f}"
