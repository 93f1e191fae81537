# SPDX-License-Identifier: Apache-2.0
"""Programs some of whose sizes have names, such as the length of a sequence, and are chosen by each call.

Such a program is data only. Its inputs name their sizes, and its attributes hold {"size": expression} in place of a
number that depends on them (`size_expression`). `fixed` puts numbers in their place: what comes out is a program like
any other, of which all shapes are known but for the batch, with the same tensors. Everything else in `deploy` (shapes,
budget, engine, exports) is about such programs. An expression that the batch is part of stands among the arguments of
an operator of torch, {"size": expression, "dim": d}, where the node's last input has the batch in dimension d.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import Any

from torch import Tensor

from bittern.deploy.errors import FormatError
from bittern.deploy.program import Input, NamedSize, Node, Program
from bittern.deploy.size_expression import (
    BATCH,
    SizeError,
    along_batch,
    check_condition,
    check_expression,
    holds,
    in_words,
    names_in,
    value_of,
)
from bittern.nn._noise import repeated

Sizes = Mapping[str, int]
"""A number for each name."""

SPANS = 9, 65
"""How far from a wanted size another one is looked for that meets the conditions."""
MOST_TRIALS = 5000


def in_short(sizes: Sizes) -> str:
    """ "length=5, width=3"."""
    return ", ".join(f"{name}={size}" for name, size in sizes.items())


def limits_in_words(size: NamedSize) -> str:
    """ "at least 4", "1 ... 512"."""
    return f"at least {size.least}" if size.most is None else f"{size.least} ... {size.most}"


def check_names(program: Program) -> None:
    """Refuse conditions and examples that do not fit the named sizes of a program. Raises: FormatError."""
    names = [size.name for size in program.sizes]
    unused = set(names) - {name for given in program.inputs for _, name in given.named}
    if unused:
        raise FormatError(f"no input has the size {min(unused)!r}")
    try:
        for condition in program.conditions:
            check_condition(condition, names)
        check_sizes(program, example_of(program))
    except ValueError as error:
        raise FormatError(f"its sizes are not sound: {error}") from error


def example_of(program: Program) -> dict[str, int]:
    """The sizes that the example had when the model was packed."""
    return {size.name: size.example for size in program.sizes}


def check_sizes(program: Program, sizes: Sizes) -> None:
    """Refuse sizes that are beyond their limits, or that do not meet the conditions. Raises: ValueError."""
    for size in program.sizes:
        if not _within(size, sizes[size.name]):
            raise ValueError(f"size {size.name!r} must be {limits_in_words(size)}; got {sizes[size.name]}")
    for condition in program.conditions:
        if not holds(condition, sizes):
            raise ValueError(f"the model takes no sizes but those with {in_words(condition)}; got {in_short(sizes)}")


def _within(size: NamedSize, value: int) -> bool:
    return size.least <= value and (size.most is None or value <= size.most)


def fits(program: Program, sizes: Sizes) -> bool:
    """Whether a program can be called with these sizes, as far as it says."""
    try:
        check_sizes(program, sizes)
    except ValueError:
        return False
    return True


def sizes_of(program: Program, inputs: Sequence[Tensor]) -> dict[str, int]:
    """The named sizes of these inputs, whose dimensions are right. Raises: ValueError where two disagree."""
    found: dict[str, int] = {}
    first: dict[str, str] = {}
    for given, x in zip(program.inputs, inputs, strict=True):
        for place, name in given.named:
            size = x.shape[dimension(given, place)]
            if found.setdefault(name, size) != size:
                raise ValueError(
                    f"size {name!r} is {found[name]} in input {first[name]!r} and {size} in {given.name!r}; it must be "
                    "the same"
                )
            first.setdefault(name, given.name)
    return {size.name: found[size.name] for size in program.sizes}


def dimension(given: Input, place: int) -> int:
    """The dimension of an input that stands at a place of its shape, which leaves the batch out."""
    return place + (given.batch is not None and given.batch <= place)


# -- numbers in place of names -----------------------------------------------------------------------------


def at_example(program: Program) -> Program:
    """A program at the sizes of its example; one without named sizes as it is. Raises: FormatError."""
    return fixed(program, example_of(program)) if program.sizes else program


def fixed(program: Program, sizes: Sizes) -> Program:
    """The program at these sizes, which fit it: the batch alone is left open. Raises: FormatError."""
    inputs = tuple(_fixed_input(given, sizes) for given in program.inputs)
    nodes = tuple(_fixed_node(node, sizes) for node in program.nodes)
    return replace(program, nodes=nodes, inputs=inputs, sizes=(), conditions=())


def _fixed_input(given: Input, sizes: Sizes) -> Input:
    return replace(given, shape=tuple(sizes[n] if isinstance(n, str) else n for n in given.sizes), named=())


def _fixed_node(node: Node, sizes: Sizes) -> Node:
    try:
        attrs = {key: _fixed(value, sizes) for key, value in node.attrs.items()}
    except SizeError as error:
        raise FormatError(f"node {node.name!r} ({node.kind}): {error}, at {in_short(sizes)}") from error
    return replace(node, attrs=attrs)


def _fixed(value: Any, sizes: Sizes) -> Any:
    """An attribute, or a part of one, with numbers in place of expressions."""
    if isinstance(value, list):
        return [_fixed(entry, sizes) for entry in value]
    if not isinstance(value, dict) or "size" not in value:
        return value
    expression = value["size"]
    check_expression(expression, sizes)
    if BATCH not in names_in(expression):
        if set(value) != {"size"}:
            raise SizeError(f"a size is {str(value)[:60]!r}, which names nothing known")
        return value_of(expression, sizes)
    times, plus = along_batch(expression, sizes)
    if not times and set(value) == {"size", "dim"}:
        return plus
    rest = {key: entry for key, entry in value.items() if key != "size"}
    return {"batch": times, **({"plus": plus} if plus else {}), **rest}


# -- other sizes than the example's ------------------------------------------------------------------------


def other_sizes(program: Program, sizes: Sizes) -> list[dict[str, int]]:
    """Some sizes that fit, with which a program is compared beside those that are given.

    The least that fit; a little more than those given, which turns even into odd; about twice as much. Of several names
    each grows by another number, so that no two stay equal or swap. Raises: ValueError for a name that has no other
    size.
    """
    names = [size.name for size in program.sizes]
    wanted = [
        [size.least for size in program.sizes],
        [sizes[name] + 1 + index for index, name in enumerate(names)],
        [2 * sizes[name] + 1 + 2 * index for index, name in enumerate(names)],
    ]
    found = [nearest for targets in wanted if (nearest := _nearest(program, sizes, targets)) is not None]
    for name in names:
        if all(other[name] == sizes[name] for other in found):
            raise ValueError(f"size {name!r} can be nothing but {sizes[name]}, so it is not dynamic; leave it out")
    return [dict(entry) for entry in dict.fromkeys(tuple(other.items()) for other in found)]


def inputs_of_other_sizes(program: Program, inputs: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Inputs like these of `other_sizes`, all their numbers repeated; none where no size has a name.

    Raises: ValueError for a name that has no other size.
    """
    for sizes in other_sizes(program, sizes_of(program, inputs)) if program.sizes else ():
        found = []
        for given, x in zip(program.inputs, inputs, strict=True):
            for place, name in given.named:
                x = repeated(x.cpu(), dimension(given, place), sizes[name])
            found.append(x)
        yield tuple(found)


def _nearest(program: Program, sizes: Sizes, targets: Sequence[int]) -> dict[str, int] | None:
    """Sizes that fit, as near above the wanted ones as can be, all unlike those given if there are such."""
    names = [size.name for size in program.sizes]
    for unlike in (True, False):
        for span in SPANS:
            for values in islice(
                product(*(_near(*entry, span) for entry in zip(program.sizes, targets, strict=True))), MOST_TRIALS
            ):
                found = dict(zip(names, values, strict=True))
                changed = sum(found[name] != sizes[name] for name in names)
                if changed >= (len(names) if unlike else 1) and fits(program, found):
                    return found
    return None


def _near(size: NamedSize, target: int, span: int) -> Iterator[int]:
    """Sizes within the limits: the wanted one and those above it, then those below the largest."""
    above = [value for value in range(target, target + span) if _within(size, value)]
    most = size.most
    below = [] if most is None else [value for value in range(most, most - span, -1) if _within(size, value)]
    return iter(dict.fromkeys([*above, *below]))
