# SPDX-License-Identifier: Apache-2.0
"""What runs as one: fused blocks, steps by native code, and nodes by torch.

An item names the nodes of a program that it stands for, and the numbers of the values that it reads and writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bittern.deploy.program import Node
from bittern.ops import Activation, ResidualRule

NO_RULE = ResidualRule()


@dataclass(frozen=True)
class Block:
    """A product and what it takes in. Values are numbers of the program."""

    node: Node
    """The product."""
    last: int
    """Output number of the node at whose place the block runs."""
    taken: tuple[int, ...] = ()
    """Output numbers of all nodes that it replaces, its own included."""
    value: int = -1
    """What the chain has reached so far."""
    residual: int | None = None
    rule: ResidualRule = NO_RULE
    residual_map: Node | None = None
    """The affine node that the residual goes through last."""
    factors: Node | None = None
    """A factors node, whose numbers multiply the product."""
    norm: Node | None = None
    """An affine node that becomes part of the epilogue."""
    activation: Activation = Activation.NONE
    shape: Node | None = None
    """The node of the activation."""
    sign: Node | None = None
    """The encode or threshold node whose bits the block writes."""
    real: bool = False
    """Whether anything reads the real result."""

    @property
    def bits(self) -> int | None:
        """Value number of the bits."""
        return None if self.sign is None else self.sign.output


@dataclass(frozen=True)
class Encode:
    """An encode node that native code runs."""

    node: Node


@dataclass(frozen=True)
class Pool:
    """A pool that native code runs, with an affine node in front of it if there is one."""

    node: Node
    before: Node | None

    @property
    def source(self) -> int:
        """Value number of what it reads."""
        return (self.before or self.node).inputs[0]


@dataclass(frozen=True)
class RealProduct:
    """A real convolution that native code runs where it can give torch's own bits, else torch."""

    node: Node
    affine: Node | None = None
    clamp: Node | None = None
    """A relu, relu6 or hardtanh."""
    pool: Node | None = None
    """Maxima over windows; what they are taken of is then never written as a whole."""

    @property
    def after(self) -> tuple[Node, ...]:
        """The nodes behind the product that it takes in, in order."""
        return tuple(node for node in (self.affine, self.clamp, self.pool) if node is not None)

    @property
    def value(self) -> int:
        """Value number of the result."""
        return (self.node, *self.after)[-1].output


@dataclass(frozen=True)
class WholeMean:
    """A mean of whole images that native code takes where it can give torch's own bits, else torch."""

    node: Node


@dataclass(frozen=True)
class BitStep:
    """A pool or concatenation of bits, by native code."""

    node: Node


Item = Block | Encode | Pool | RealProduct | WholeMean | BitStep | Node
"""What runs as one: fused, native, or a node by torch or by its own native call."""


def number_of(item: Item) -> int:
    """Output number of the node at whose place an item runs."""
    if isinstance(item, Block):
        return item.last
    if isinstance(item, RealProduct):
        return item.value
    return item.output if isinstance(item, Node) else item.node.output


def real_of(item: Item) -> int | None:
    """Number of the real value that native code writes for an item."""
    if isinstance(item, Block):
        return item.value if item.real else None
    return number_of(item) if isinstance(item, Pool | RealProduct | WholeMean) else None


def by_torch(item: Item) -> tuple[Item, ...]:
    """An item; a real convolution as the nodes that it stands for, whose pool is native nevertheless."""
    if not isinstance(item, RealProduct):
        return (item,)
    if item.pool is None:
        return (item.node, *item.after)
    if item.clamp is None:
        return (item.node, Pool(item.pool, item.affine))
    return (item.node, *replace(item, pool=None).after, Pool(item.pool, None))


def bits_of(item: Item) -> int | None:
    """Number of the bits that native code writes for an item."""
    if isinstance(item, Block):
        return item.bits
    return item.node.output if isinstance(item, Encode | BitStep) else None


def writes_of(item: Item) -> tuple[int, ...]:
    """Numbers of the values that an item writes."""
    written = (real_of(item), bits_of(item)) if not isinstance(item, Node) else (item.output,)
    return tuple(value for value in written if value is not None)


def nodes_of(item: Item) -> tuple[int, ...]:
    """Output numbers of the nodes that an item stands for."""
    if isinstance(item, Block):
        return item.taken
    if isinstance(item, RealProduct):
        return tuple(node.output for node in (item.node, *item.after))
    if isinstance(item, Pool) and item.before is not None:
        return item.before.output, item.node.output
    return (number_of(item),)


def reads_of(item: Item) -> tuple[int, ...]:
    """Numbers of the values that an item reads."""
    if isinstance(item, Block):
        return (*item.node.inputs, *(() if item.residual is None else (item.residual,)))
    if isinstance(item, Pool):
        return (item.source,)
    return item.inputs if isinstance(item, Node) else item.node.inputs


def released_after(items: Sequence[Item], result: int) -> list[tuple[int, ...]]:
    """For each item, the values that nothing reads any more after it, the input (0) among them; never the result."""
    last = {0: 0}
    for index, item in enumerate(items):
        last.update(dict.fromkeys((*writes_of(item), *reads_of(item)), index))
    released: list[list[int]] = [[] for _ in items]
    for value, index in last.items():
        if value != result and items:
            released[index].append(value)
    return [tuple(values) for values in released]
