# SPDX-License-Identifier: Apache-2.0
"""The inputs of a program, and how they are given in a call, as the JSON of a file.

A program that takes one tensor [batch, ...] says `input`, its shape, and `input_type`; any other says `inputs`, a list
of [name, type, sizes without the batch, dimension of the batch or null], and `parameters`, a list of [name, tree, how].
One whose sizes a call chooses also says `sizes`, a list of [name, example, least, most or null], and `conditions`; the
sizes of its inputs are then numbers or names.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, NamedTuple

from bittern.deploy.errors import FormatError
from bittern.deploy.parameters import HOW, ONE, Parameter
from bittern.deploy.program import (
    MOST_DIMS,
    MOST_SIZES,
    OPEN,
    VALUE_TYPES,
    Input,
    NamedSize,
    Program,
    one_input,
)
from bittern.deploy.size_expression import BATCH, Condition
from bittern.deploy.structure import MOST_ENTRIES, MOST_LETTERS, check_tree, leaves

MOST_SIZE = 2**24
MOST_ELEMENTS = 2**31
"""Of one sample of one input."""
MOST_SIZES_OF_ONE = 4
"""Of `input`, without the batch."""
MOST_CONDITIONS = 1000


class Given(NamedTuple):
    """What a program says of its inputs."""

    inputs: tuple[Input, ...]
    parameters: tuple[Parameter, ...]
    sizes: tuple[NamedSize, ...] = ()
    conditions: tuple[Condition, ...] = ()


def inputs_to_json(program: Program) -> dict[str, Any]:
    """The part of the JSON of a program that says what it takes."""
    first = program.inputs[0]
    one = program.parameters == ONE and program.inputs == one_input(first.shape, first.type)
    if one and 1 <= len(first.shape) <= MOST_SIZES_OF_ONE:
        kind = {} if first.type == "float32" else {"input_type": first.type}
        return {"input": list(first.shape), **kind}
    inputs = [[given.name, given.type, list(given.sizes), given.batch] for given in program.inputs]
    found = {"inputs": inputs, "parameters": [list(parameter) for parameter in program.parameters]}
    if program.sizes:
        found |= {"sizes": [list(size) for size in program.sizes], "conditions": list(program.conditions)}
    return found


def inputs_from_json(data: dict[str, Any]) -> Given:
    """The inputs of a program and how they are given; data: the JSON of the program. Raises: FormatError."""
    if set(data) - {"input_type"} == {"input", "output", "nodes"}:
        return Given(_one(data["input"], data.get("input_type", "float32")), ONE)
    open_too = {"sizes", "conditions"} if "sizes" in data else set()
    if set(data) != {"inputs", "parameters", "output", "nodes", *open_too}:
        raise FormatError(
            "its program must have exactly input, output and nodes, and may have input_type, or it must have exactly "
            "inputs, parameters, output and nodes, and may have sizes with conditions"
        )
    sizes = _sizes(data["sizes"]) if open_too else ()
    inputs = _several(data["inputs"], {size.name for size in sizes})
    return Given(inputs, _parameters(data["parameters"], len(inputs)), sizes, _conditions(data.get("conditions", [])))


def _sizes(data: Any) -> tuple[NamedSize, ...]:
    if not isinstance(data, list) or not 1 <= len(data) <= MOST_SIZES:
        raise FormatError(f"its sizes must be a list of 1 to {MOST_SIZES}")
    sizes = tuple(_size(entry, index) for index, entry in enumerate(data))
    if len({size.name for size in sizes}) != len(sizes):
        raise FormatError("two sizes have the same name")
    return sizes


def _size(data: Any, index: int) -> NamedSize:
    if not isinstance(data, list) or len(data) != 4:
        raise FormatError(f"size {index} must be a list of name, example, least and most")
    name, *numbers = data
    if not is_size_name(name):
        raise FormatError(f"size {index} has no name of letters, digits and underscores, or that of the batch")
    if not is_integers([n for n in numbers if n is not None], 1, MOST_SIZE) or None in numbers[:2]:
        raise FormatError(
            f"size {name!r}: its example and limits {str(numbers)[:60]} must be positive, and not too large"
        )
    return NamedSize(name, *numbers)


def is_size_name(name: Any) -> bool:
    """Whether a size may be called so: as an argument of Python is, but not as the batch."""
    return isinstance(name, str) and name.isidentifier() and len(name) <= MOST_LETTERS and name != BATCH


def _conditions(data: Any) -> tuple[Condition, ...]:
    """`named_sizes.check_names` looks at each of them."""
    if not isinstance(data, list) or len(data) > MOST_CONDITIONS:
        raise FormatError(f"its conditions must be a list of at most {MOST_CONDITIONS}")
    return tuple(data)


def _one(shape: Any, kind: Any) -> tuple[Input, ...]:
    if not isinstance(kind, str) or kind not in VALUE_TYPES:
        raise FormatError(f"its input is of type {kind!r}; it must be one of {', '.join(VALUE_TYPES)}")
    if not is_integers(shape, 1, MOST_SIZE) or not 1 <= len(shape) <= MOST_SIZES_OF_ONE:
        raise FormatError(f"its input shape {shape!r} is not one to four positive sizes")
    if math.prod(shape) > MOST_ELEMENTS:
        raise FormatError(f"its input shape {shape!r} is too large")
    return one_input(shape, kind)


def _several(data: Any, names: Collection[str]) -> tuple[Input, ...]:
    if not isinstance(data, list) or not 1 <= len(data) <= MOST_ENTRIES:
        raise FormatError(f"its inputs must be a list of 1 to {MOST_ENTRIES}")
    inputs = tuple(_input(entry, index, names) for index, entry in enumerate(data))
    if len({given.name for given in inputs}) != len(inputs):
        raise FormatError("two inputs have the same name")
    if all(given.batch is None for given in inputs):
        raise FormatError("none of its inputs has a batch")
    return inputs


def _input(data: Any, index: int, names: Collection[str]) -> Input:
    if not isinstance(data, list) or len(data) != 4:
        raise FormatError(f"input {index} must be a list of name, type, sizes and the dimension of the batch")
    name, kind, sizes, batch = data
    if not isinstance(name, str) or not 1 <= len(name) <= MOST_LETTERS:
        raise FormatError(f"input {index} has no name")
    if not isinstance(kind, str) or kind not in VALUE_TYPES:
        raise FormatError(f"input {name!r} is of type {kind!r}; it must be one of {', '.join(VALUE_TYPES)}")
    known = sizes if isinstance(sizes, list) else [0]
    named = tuple((place, n) for place, n in enumerate(known) if isinstance(n, str) and n in names)
    shape = [OPEN if (place, n) in named else n for place, n in enumerate(known)]
    numbers = [n for place, n in enumerate(known) if (place, n) not in named]
    if not is_integers(numbers, 1, MOST_SIZE) or len(shape) >= MOST_DIMS or math.prod(numbers) > MOST_ELEMENTS:
        raise FormatError(f"input {name!r}: its sizes {str(sizes)[:60]} must be a few positive numbers, not too large")
    if batch is not None and not (type(batch) is int and 0 <= batch <= len(shape)):
        raise FormatError(f"input {name!r}: its batch must be one of its {len(shape) + 1} dimensions; got {batch!r}")
    return Input(name, tuple(shape), kind, batch, named)


def _parameters(data: Any, inputs: int) -> tuple[Parameter, ...]:
    if not isinstance(data, list) or not 1 <= len(data) <= MOST_ENTRIES:
        raise FormatError(f"its parameters must be a list of 1 to {MOST_ENTRIES}")
    found = tuple(_parameter(entry, index) for index, entry in enumerate(data))
    if len({parameter.name for parameter in found}) != len(found):
        raise FormatError("two parameters have the same name")
    if [place for parameter in found for _, place in leaves(parameter.tree)] != list(range(inputs)):
        raise FormatError(f"its parameters must hold each of its {inputs} inputs once, in their order")
    return found


def _parameter(data: Any, index: int) -> Parameter:
    if not isinstance(data, list) or len(data) != 3:
        raise FormatError(f"parameter {index} must be a list of name, tree and how it is given")
    name, tree, how = data
    if not isinstance(name, str) or len(name) > MOST_LETTERS or how not in HOW:
        raise FormatError(
            f"parameter {index} is {str([name, how])[:60]}; it must have a name and one of {', '.join(HOW)}"
        )
    try:
        check_tree(tree)
    except ValueError as error:
        raise FormatError(f"parameter {name!r}: {error}") from error
    return Parameter(name, tree, how)


def is_integers(values: Any, least: int, most: int) -> bool:
    """Whether a value of a file is a list of integers within a range."""
    return isinstance(values, list) and all(type(v) is int and least <= v <= most for v in values)
