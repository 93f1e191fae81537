# SPDX-License-Identifier: Apache-2.0
"""How a node of the kind `aten` calls its operator of torch, and which arguments it may carry.

They stand in the order of the operator's schema, as plain data: numbers, texts, lists of them, and

* {"input": i} the node's input number i, as it lies in memory; {"input": i, "order": [...]} laid out with its
  dimensions in this order, the outermost first, as in the training graph;
* {"tensor": role} a tensor of the file; {"batch": n, "plus": m, "dim": d} the size n * batch + m, the batch being size
  d of the last input of the node;
* {"dtype": name}, {"memory_format": name}, {"device": "own"}, {"number": "inf" | "-inf"}.

torch itself checks them against the schema, on meta tensors, when the shape of the result is asked for (`aten`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.errors import FormatError
from bittern.deploy.kinds.aten_operators import ALLOWED
from bittern.deploy.kinds.kind import laid_out
from bittern.deploy.program import MOST_DIMS, VALUE_TYPES, Node

MOST_ARGUMENTS = 64
"""Entries of one list, and arguments of one operator."""
MOST_DEPTH = 3

MEMORY_FORMATS = {
    str(f).removeprefix("torch."): f for f in (torch.contiguous_format, torch.preserve_format, torch.channels_last)
}
INFINITE = {"inf": math.inf, "-inf": -math.inf}

OFF = ("training", "train", "dropout_p", "dropout", "pin_memory", "layout")
"""Arguments that must be off: by them an operator would draw random numbers, keep statistics, or leave dense memory."""

NAMED = {"ScalarType": "dtype", "MemoryFormat": "memory_format"}
"""Types of a schema that only a name may stand for: torch takes any whole number there, and crashes on most."""

CHOICES = {"interpolation_mode": 3, "padding_mode": 3}
"""How many there are of what an operator chooses by a whole number, and looks for no others."""

MAKERS = ("zeros", "ones", "full", "arange", "eye", "linspace", "scalar_tensor")
"""Operators that read no tensor, and so must be told the device."""


class OperatorError(ValueError):
    """An operator of torch that refuses, when it computes, what it took on tensors without memory."""


def overload_of(node: Node) -> Any:
    """The operator of a node. Raises: FormatError for one that is not on the list."""
    name = node.attrs["operator"]
    if name not in ALLOWED:
        raise FormatError(f"node {node.name!r} (aten): operator {name!r} is not one that a program may hold")
    library, _, rest = str(name).rpartition("::")
    packet, overload = rest.split(".")
    return getattr(getattr(getattr(torch.ops, library or "aten"), packet), overload)


Read = Callable[[tuple[Any, ...]], Any]
"""What an argument stands for, given the inputs of a call."""


def _reader(argument: Any, tensors: Mapping[str, Tensor], device: torch.device) -> Read:
    """How torch's argument follows from the inputs of a call; what does not depend on them is looked up here, once."""
    value: Any = argument
    match argument:
        case list():
            entries = [_reader(entry, tensors, device) for entry in argument]
            return lambda inputs: [entry(inputs) for entry in entries]
        case {"input": index, "order": order}:
            return lambda inputs: laid_out(inputs[index], order)
        case {"input": index}:
            return lambda inputs: inputs[index]
        case {"batch": times, **rest}:
            plus, dim = rest.get("plus", 0), rest.get("dim", 0)
            return lambda inputs: times * inputs[-1].shape[dim] + plus
        case {"tensor": role}:
            value = tensors[role]
        case {"dtype": name}:
            value = VALUE_TYPES[name]
        case {"memory_format": name}:
            value = MEMORY_FORMATS[name]
        case {"number": name}:
            value = INFINITE[name]
        case {"device": _}:
            value = device
    return lambda inputs: value


def bound(node: Node, tensors: Mapping[str, Tensor], device: torch.device) -> Callable[..., dict[str, Any]]:
    """The arguments of an operator by the names of its schema, as a function of the node's inputs."""
    given = node.attrs["arguments"]
    assert isinstance(given, list)
    names = (rule.name for rule in overload_of(node)._schema.arguments)
    readers = {name: _reader(argument, tensors, device) for name, argument in zip(names, given, strict=False)}
    return lambda *inputs: {name: read(inputs) for name, read in readers.items()}


def call_of(node: Node, tensors: Mapping[str, Tensor], device: torch.device) -> Callable[..., Any]:
    """The operator with its arguments bound, as a function of the node's inputs."""
    operator, arguments = overload_of(node), bound(node, tensors, device)
    return lambda *inputs: called(node, operator, arguments, inputs)


def called(node: Node, operator: Any, arguments: Callable[..., Mapping[str, Any]], inputs: Sequence[Any]) -> Any:
    """What the operator of a node gives; arguments: `bound`. Raises: OperatorError."""
    try:
        return operator(**arguments(*inputs))
    except Exception as error:
        raise OperatorError(
            f"packed model: node {node.name!r} ({node.attrs['operator']}): torch refuses its arguments: "
            f"{(str(error).splitlines() or [type(error).__name__])[0]}"
        ) from error


# -- checks ------------------------------------------------------------------------------------------------


def check(node: Node, tensors: Mapping[str, Tensor]) -> None:
    """Refuse arguments that are no such data; torch's schema is asked afterwards, on meta tensors."""
    schema, given = overload_of(node)._schema.arguments, node.attrs["arguments"]
    assert isinstance(given, list)
    if len(given) > len(schema):
        raise FormatError(
            f"node {node.name!r} (aten): {node.attrs['operator']} has {len(schema)} arguments; got {len(given)}"
        )
    names = {role for argument in given for role in _check_argument(node, argument, tensors, MOST_DEPTH)}
    if names != set(tensors):
        raise FormatError(f"node {node.name!r} (aten): its tensors {sorted(set(tensors) - names)} are no arguments")
    for rule, argument in zip(schema, given, strict=False):
        _check_option(node, rule.name, argument, schema)
        _check_choice(node, rule, argument)
    makes = str(node.attrs["operator"]).split(".")[0] in MAKERS
    if makes and {"device": "own"} not in given:
        raise FormatError(f"node {node.name!r} (aten): {node.attrs['operator']} must be given the model's own device")


def check_orders(node: Node, by_torch: Container[int]) -> None:
    """Refuse an input as it lies where the engine chooses how it lies, for sums would hang on that.

    by_torch: values that operators of torch wrote, which lie alike wherever the program runs.
    """
    for argument in _maps(node.attrs["arguments"]):
        if "input" in argument and "order" not in argument and node.inputs[argument["input"]] not in by_torch:
            raise FormatError(
                f"node {node.name!r} (aten): input {argument['input']}, which no operator of torch wrote, needs the "
                "order of its dimensions in memory"
            )


def _maps(argument: Any) -> Iterator[dict[str, Any]]:
    if isinstance(argument, dict):
        yield argument
    elif isinstance(argument, list):
        for entry in argument:
            yield from _maps(entry)


def _check_option(node: Node, name: str, argument: Any, schema: Any) -> None:
    """Refuse options by which an operator would do more than compute from its inputs."""
    given = node.attrs["arguments"]
    assert isinstance(given, list)
    problem = f"node {node.name!r} (aten): argument {name!r}"
    if name in OFF and argument not in (0, False, None) and not (name == "train" and _drops_nothing(schema, given)):
        raise FormatError(f"{problem} must be off; got {argument!r}")
    if name == "device" and argument is not None and argument != {"device": "own"}:
        raise FormatError(f"{problem} must be the model's own device; got {argument!r}")
    if name in ("alpha", "beta") and isinstance(argument, bool):
        raise FormatError(f"{problem} must be a number; got {argument!r}")


def _check_choice(node: Node, rule: Any, argument: Any) -> None:
    """Refuse numbers that stand for a type, a memory format or a way to compute, where torch does not look at them."""
    problem = f"node {node.name!r} (aten): argument {rule.name!r}"
    key = NAMED.get(str(rule.real_type).removeprefix("Optional[").removesuffix("]"))
    plain = type(argument) is int and argument == rule.default_value  # torch's schemas have numbers as defaults
    if key and argument is not None and not plain and not (isinstance(argument, dict) and key in argument):
        raise FormatError(f'{problem} must be null or {{"{key}": name}}; got {str(argument)[:60]}')
    most = CHOICES.get(rule.name)
    if most and str(rule.type) == "int" and not _is_index(argument, most):
        raise FormatError(f"{problem} must be a whole number from 0 to {most - 1}; got {str(argument)[:60]}")


def _drops_nothing(schema: Any, given: list[Any]) -> bool:
    return any(rule.name == "dropout" and value == 0 for rule, value in zip(schema, given, strict=False))


def _check_argument(node: Node, argument: Any, tensors: Mapping[str, Tensor], depth: int) -> Iterator[str]:
    """Yields the roles of the tensors that an argument names. Raises: FormatError."""
    if isinstance(argument, list) and len(argument) <= MOST_ARGUMENTS and depth:
        for entry in argument:
            yield from _check_argument(node, entry, tensors, depth - 1)
    elif isinstance(argument, dict):
        _check_map(node, argument, tensors)
        yield from (argument[key] for key in argument if key == "tensor")
    elif not _is_plain(argument):
        raise FormatError(
            f"node {node.name!r} (aten): an argument is {str(argument)[:60]!r}, which is none of the forms known"
        )


def _is_plain(argument: Any) -> bool:
    if isinstance(argument, int):
        return -(2**63) <= argument < 2**63
    return argument is None or isinstance(argument, float) or (isinstance(argument, str) and len(argument) <= 100)


def _check_map(node: Node, argument: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    match argument:
        case {"input": index, **rest}:
            sound = _is_index(index, len(node.inputs)) and set(rest) <= {"order"} and _is_order(rest.get("order", []))
        case {"batch": times, **rest}:
            sound = _is_size(times) and set(rest) <= {"plus", "dim"} and _is_size(rest.get("plus", 0))
            sound &= _is_index(rest.get("dim", 0), MOST_DIMS)
        case {"tensor": str(role)}:
            sound = role in tensors
        case {"dtype": str(name)}:
            sound = name in VALUE_TYPES
        case {"memory_format": str(name)}:
            sound = name in MEMORY_FORMATS
        case {"number": str(name)}:
            sound = name in INFINITE
        case _:
            sound = argument == {"device": "own"}
    if not sound or ("input" not in argument and "batch" not in argument and len(argument) != 1):
        raise FormatError(
            f"node {node.name!r} (aten): an argument is {str(argument)[:60]!r}, which names nothing known"
        )


def _is_index(value: Any, most: int) -> bool:
    return type(value) is int and 0 <= value < most


def _is_order(order: Any) -> bool:
    plain = isinstance(order, list) and len(order) <= 16 and all(type(d) is int for d in order)
    return plain and sorted(order) == list(range(len(order)))


def _is_size(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**31
