# SPDX-License-Identifier: Apache-2.0
"""What runs as one: a group of nodes, and what the engine asks of it.

A group stands for some nodes of a program. It says which values it reads and writes (their numbers in the program), so
that memory can be planned, and prepares itself once: what it needs at every batch size, such as weights in the order
of a kernel. At each batch size it then makes its run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from bittern.deploy.engine.layout import Layout
from bittern.deploy.engine.native_run import Run
from bittern.deploy.form import Form
from bittern.deploy.program import Node

CPU = torch.device("cpu")


class Material(NamedTuple):
    """What groups are prepared from."""

    tensors: Mapping[str, Tensor]
    """Those of the file, by name."""
    forms: Mapping[int, Form]
    """What every value is."""
    real: torch.dtype
    """Type in which real convolutions and linear layers compute."""


class Group(ABC):
    """Nodes that run as one."""

    node: Node
    """The node that it is named after: the product, if there is one."""

    @property
    @abstractmethod
    def how(self) -> str:
        """Who runs it: "block", "native", "own call" or "torch"."""

    @property
    @abstractmethod
    def output(self) -> int:
        """Output number of the node at whose place it runs."""

    @property
    @abstractmethod
    def nodes(self) -> tuple[int, ...]:
        """Output numbers of the nodes that it stands for."""

    @property
    @abstractmethod
    def reads(self) -> tuple[int, ...]:
        """Numbers of the values that it reads."""

    @property
    @abstractmethod
    def real(self) -> int | None:
        """Number of the real value that native code writes."""

    @property
    @abstractmethod
    def bits(self) -> int | None:
        """Number of the bits that native code writes."""

    @property
    def integers(self) -> int | None:
        """Number of the int8 value that native code writes."""
        return None

    @property
    @abstractmethod
    def view(self) -> bool:
        """Whether its result may lie in the memory of what it reads."""

    @property
    @abstractmethod
    def in_place(self) -> int | None:
        """A value into whose memory it writes, if nothing reads that any more and the sizes agree."""

    @abstractmethod
    def passes_on(self, forms: Mapping[int, Form]) -> int:
        """Floats a sample that one of its steps writes for the next alone."""

    @property
    @abstractmethod
    def borders(self) -> Mapping[int, int | None]:
        """Pixels around images of bits that it reads, which memory may hold for it; None: memory must not."""

    @property
    @abstractmethod
    def product(self) -> Node | None:
        """The product of bits in it."""

    @abstractmethod
    def does(self) -> str:
        """What it takes in, in the order in which it does it; else what it computes."""

    @abstractmethod
    def prepare(self, material: Material) -> AtBatch:
        """What it needs at every batch size, as a function from the batch size to how it runs there."""

    @property
    def name(self) -> str:
        """Path of the module that it came from."""
        return self.node.name

    @property
    def writes(self) -> tuple[int, ...]:
        """Numbers of the values that it writes."""
        return self.planned or (self.output,)

    @property
    def planned(self) -> tuple[int, ...]:
        """Numbers of the values that native code writes, into planned memory."""
        return tuple(value for value in (self.real, self.bits, self.integers) if value is not None)


class OneNode(Group):
    """A group of its node alone."""

    @property
    def output(self) -> int:
        return self.node.output

    @property
    def nodes(self) -> tuple[int, ...]:
        return (self.node.output,)

    @property
    def reads(self) -> tuple[int, ...]:
        return self.node.inputs


class OwnMemory(Group):
    """A group that writes into no other value's memory and wants no border around what it reads, nor memory between."""

    def passes_on(self, forms: Mapping[int, Form]) -> int:
        return 0

    @property
    def in_place(self) -> int | None:
        return None

    @property
    def borders(self) -> Mapping[int, int | None]:
        return {}


class Prepared(NamedTuple):
    """A group, and how it runs at one batch size."""

    group: Group
    run: Callable[[Layout], Run]


AtBatch = Callable[[int], tuple[Prepared, ...]]
"""From a batch size: the group itself, or groups of its parts where native code has not torch's bits.

Batch sizes at which a group runs alike get the very same tuple."""


def always(group: Group, run: Callable[[Layout], Run]) -> AtBatch:
    """A group that runs alike at every batch size."""
    prepared = (Prepared(group, run),)
    return lambda batch: prepared
