# SPDX-License-Identifier: Apache-2.0
"""From the graph of a file to a network of layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bittern.compat.onnx.file import Network, Operator, UnreadError
from bittern.compat.onnx.read import JOINED, QUANTIZED
from bittern.compat.onnx.real.layers import LAYERS, TWO
from bittern.compat.onnx.real.moves import MOVES
from bittern.compat.onnx.real.reader import Computed, Reader
from bittern.compat.real_network import RealNetwork

INTEGERS = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", JOINED, *QUANTIZED)
OF_SIZES = ("Shape", "Cast", "ConstantOfShape")
"""Operators that are read where they work out sizes alone."""


def is_real(network: Network) -> bool:
    """Whether it computes with real numbers alone."""
    return network.type == "float32" and not any(operator.name in INTEGERS for operator in network.operators)


def real_network(network: Network) -> RealNetwork:
    """A network of layers. Raises: UnreadError, naming the operator."""
    known = {*LAYERS, *MOVES, *OF_SIZES}
    unknown = sorted({operator.name for operator in network.operators} - known)
    if unknown:
        raise UnreadError(
            f"it has operators that are not read: {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        )
    reader = Reader(network)
    for index, operator in enumerate(network.operators):
        try:
            _read(reader, operator)
        except (ValueError, ArithmeticError) as error:
            raise UnreadError(f"operator {index} ({operator.name}): {error}") from error
        except (TypeError, LookupError, RuntimeError) as error:
            raise UnreadError(f"operator {index} ({operator.name}): its attributes do not fit: {error}") from error
    return reader.made(network.outputs).eval()


def _read(reader: Reader, operator: Operator) -> None:
    if not operator.inputs or not operator.outputs or not all(operator.outputs[:1]):
        raise UnreadError(f"it reads {len(operator.inputs)} values and writes {len(operator.outputs)}")
    given = [reader.at(operator, place) for place in range(len(operator.inputs))]
    if operator.name == "Shape":
        reader.known[operator.outputs[0]] = torch.tensor(reader.shape(operator))
        return
    if operator.name in MOVES and given[0] is not None:
        _move(reader, operator, given[0])
        return
    if not any(isinstance(x, Computed) for x in given):
        reader.known[operator.outputs[0]] = _worked_out(operator, [x for x in given if isinstance(x, Tensor)])
        return
    if operator.name == "Cast" and operator.attrs.get("to") == 1 and given[0] is not None:
        reader.known[operator.outputs[0]] = given[0]
        return
    if operator.name in OF_SIZES:
        raise UnreadError("it is read of sizes alone")
    reader.wrote(operator, LAYERS[operator.name](reader, operator))


def _move(reader: Reader, operator: Operator, x: Tensor | Computed) -> None:
    """A dropout may have a mask as a second result, which nothing of a trained network reads."""
    results = MOVES[operator.name](reader, operator, x.places if isinstance(x, Computed) else x)
    if len(results) != len(operator.outputs) and operator.name != "Dropout":
        raise UnreadError(f"it writes {len(operator.outputs)} values; it makes {len(results)}")
    for name, found in zip(operator.outputs, results, strict=False):
        reader.known[name] = x._replace(places=found) if isinstance(x, Computed) else found


# -- numbers of the file ------------------------------------------------------------------------------------------


def _worked_out(operator: Operator, given: Sequence[Tensor]) -> Tensor:
    """What an operator gives of numbers alone."""
    function = OF_NUMBERS.get(operator.name)
    if function is None:
        raise UnreadError("it computes with numbers of the file alone, which is not read")
    found = function(operator, given)
    if found.numel() > MOST_NUMBERS:
        raise UnreadError(f"it makes {found.numel()} numbers")
    return found


MOST_NUMBERS = 2**24
CASTS = {1: torch.float32, 6: torch.int32, 7: torch.int64}


def _cast(operator: Operator, given: Sequence[Tensor]) -> Tensor:
    to = operator.attrs.get("to")
    if to not in CASTS:
        raise UnreadError(f"it makes numbers of the type {to}")
    return given[0].to(CASTS[to])


def _filled(operator: Operator, given: Sequence[Tensor]) -> Tensor:
    sizes = [int(n) for n in given[0].flatten().tolist()]
    if operator.attrs.get("value", 0) is None or min(sizes, default=1) < 0:
        raise UnreadError("it must be of zeros")
    count = 1
    for size in sizes:
        count *= size
    if count > MOST_NUMBERS:
        raise UnreadError(f"it makes {sizes} numbers")
    return torch.zeros(sizes)


def _of_two(operator: Operator, given: Sequence[Tensor]) -> Tensor:
    a, b = given
    if operator.name == "Div" and not a.is_floating_point():
        return torch.div(a, b, rounding_mode="trunc")
    return TWO[operator.name](a, b)


OF_NUMBERS: dict[str, Callable[[Operator, Sequence[Tensor]], Tensor]] = {
    "Cast": _cast,
    "ConstantOfShape": _filled,
    "Concat": lambda operator, given: torch.cat(list(given), operator.attrs.get("axis", 0)),
    "Sqrt": lambda operator, given: torch.sqrt(given[0]),
    **dict.fromkeys(TWO, _of_two),
}
