# SPDX-License-Identifier: Apache-2.0
"""From an `.onnx` file to a packed network, of integers or of real numbers, or to layers of torch."""

from __future__ import annotations

from pathlib import Path

import torch

import bittern._version as version
from bittern.compat.onnx.file import Network, UnreadError, read_network
from bittern.compat.onnx.operators import EMITTERS
from bittern.compat.onnx.read import OPERATORS, Reader
from bittern.compat.onnx.real import is_real, real_network
from bittern.compat.onnx.values import Integers
from bittern.compat.real_network import RealNetwork
from bittern.deploy.budget import MEMORY_LIMIT
from bittern.deploy.errors import FormatError, PackError
from bittern.deploy.other_packages import require
from bittern.deploy.pack import pack
from bittern.deploy.packed import Packed
from bittern.deploy.parameters import ONE
from bittern.deploy.plain import plain_cpu
from bittern.deploy.program import Input, Program
from bittern.deploy.validate import check_program

MOST_BYTES = 2**31


def load(path: str | Path) -> Packed:
    """Read a network of ONNX into a packed one: of integers where it is quantized, of real numbers where it is float32.

    QDQ (QuantizeLinear and DequantizeLinear around ordinary operators) and operators of integers (QLinearConv and its
    like) are read. Real factors become the nearest fixed-point ones, which round once, halves upward: a node may be one
    step away from ONNX Runtime, which multiplies by a float32 and rounds halves to even.

    Of a float32 network sums come out in torch's order: its answers lie within float rounding of other runtimes'.

    Call it with the tensor that the file takes, float32 or int8 [batch, ...]; it answers as the file does.

    Raises: FileNotFoundError; ImportError without onnx; ValueError for a file that is damaged, keeps numbers in other
    files, has several inputs, several results of integers, or operators that are not read, all of which are named.
    """
    path, network = _opened(path, "compat.onnx.load")
    try:
        if is_real(network):
            return pack(real_network(network), torch.zeros(2, *network.shape))
        with plain_cpu():
            return _packed(network, path.name)
    except (UnreadError, FormatError, PackError) as error:
        raise ValueError(f"onnx: {path}: {error}") from error


def load_module(path: str | Path) -> RealNetwork:
    """Read a float32 network of ONNX into layers of torch, to train, quantize, convert or pack it.

    Call it with a batch of any size, though the file may say 1; several results come as a tuple.

    Raises: as `load`, and ValueError for a quantized network, which no layers of torch are.
    """
    path, network = _opened(path, "compat.onnx.load_module")
    try:
        if not is_real(network):
            raise UnreadError("it is quantized; load it as a packed model (`load`)")
        return real_network(network)
    except UnreadError as error:
        raise ValueError(f"onnx: {path}: {error}") from error


def _opened(path: str | Path, owner: str) -> tuple[Path, Network]:
    path = Path(path)
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"onnx: {path} has {size} bytes; at most {MOST_BYTES} are read")
    require(owner, ("onnx",), "onnx")
    try:
        return path, read_network(path.read_bytes())
    except UnreadError as error:
        raise ValueError(f"onnx: {path}: {error}") from error


def _packed(network: Network, name: str) -> Packed:
    if len(network.outputs) != 1:
        raise UnreadError(f"it has {len(network.outputs)} results; of a network of integers one is read")
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
    result = reader.known.get(network.outputs[0])
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
