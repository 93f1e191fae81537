# SPDX-License-Identifier: Apache-2.0
"""load: from an `.onnx` file of a quantized network to a packed network of integers."""

from __future__ import annotations

from pathlib import Path

import torch

import bittern._version as version
from bittern.compat.onnx.file import Network, UnreadError, read_network
from bittern.compat.onnx.operators import EMITTERS
from bittern.compat.onnx.read import OPERATORS, Reader
from bittern.compat.onnx.values import Integers
from bittern.deploy.budget import MEMORY_LIMIT
from bittern.deploy.errors import FormatError, PackError
from bittern.deploy.other_packages import require
from bittern.deploy.packed import Packed
from bittern.deploy.parameters import ONE
from bittern.deploy.plain import plain_cpu
from bittern.deploy.program import Input, Program
from bittern.deploy.validate import check_program

MOST_BYTES = 2**31


def load(path: str | Path) -> Packed:
    """Read a quantized network of ONNX, int8 weights and activations, into a packed network of integers.

    QDQ (QuantizeLinear and DequantizeLinear around ordinary operators) and operators of integers (QLinearConv and its
    like) are read. Real factors become the nearest fixed-point ones, which round once, halves upward: a node may be one
    step away from ONNX Runtime, which multiplies by a float32 and rounds halves to even.

    Call it with the tensor that the file takes, float32 or int8 [batch, ...]; it answers as the file does.

    Raises: FileNotFoundError; ImportError without onnx; ValueError for a file that is damaged, keeps numbers in other
    files, has several inputs or results, or holds operators that are not read, all of which are named.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"onnx: {path} has {size} bytes; at most {MOST_BYTES} are read")
    require("compat.onnx.load", ("onnx",), "onnx")
    try:
        with plain_cpu():
            return _packed(read_network(path.read_bytes()), path.name)
    except (UnreadError, FormatError, PackError) as error:
        raise ValueError(f"onnx: {path}: {error}") from error


def _packed(network: Network, name: str) -> Packed:
    unknown = sorted({operator.name for operator in network.operators} - set(OPERATORS))
    if unknown:
        raise UnreadError(f"it has operators that are not read: {', '.join(unknown)}; there are {', '.join(OPERATORS)}")
    reader = Reader(network, EMITTERS)
    for index, operator in enumerate(network.operators):
        try:
            reader.read(operator)
        except (ValueError, ArithmeticError) as error:
            raise UnreadError(f"operator {index} ({operator.name}): {error}") from error
        except (TypeError, LookupError) as error:
            raise UnreadError(f"operator {index} ({operator.name}): an attribute has another type or length") from error
    result = reader.known.get(network.output)
    if not isinstance(result, Integers) or result.numbers is not None:
        raise UnreadError("its result must be int8, or dequantized from it")
    info = {"bittern": version.__version__, "model": name}
    info |= {"output_scale": repr(result.scale), "output_zero": str(result.zero)}
    output = result.value
    if result.real:
        output = reader.add("dequantize", "output", (output,), scale=result.scale, zero=result.zero)
    program = Program(tuple(reader.program.nodes), (Input("x", network.shape, network.type),), output, ONE)
    check_program(program, reader.program.tensors, MEMORY_LIMIT)
    return Packed(program, reader.program.tensors, info, torch.device("cpu"))
