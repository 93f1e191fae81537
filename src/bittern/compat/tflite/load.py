# SPDX-License-Identifier: Apache-2.0
"""load: from a `.tflite` file to a packed model with the same integers."""

from __future__ import annotations

from pathlib import Path

import torch

import bittern._version as version
from bittern.compat.tflite.build import Builder, UnsupportedError
from bittern.compat.tflite.file import Network, read_network
from bittern.compat.tflite.flatbuffer import DamagedError
from bittern.compat.tflite.read import READERS, read
from bittern.deploy.budget import MEMORY_LIMIT
from bittern.deploy.errors import FormatError
from bittern.deploy.packed import Packed
from bittern.deploy.parameters import ONE
from bittern.deploy.plain import plain_cpu
from bittern.deploy.program import Input, Program
from bittern.deploy.validate import check_program

MOST_BYTES = 2**31


def load(path: str | Path) -> Packed:
    """Read an int8 network of TensorFlow Lite into a packed model, whose integers are those of LiteRT's reference.

    Call it with the tensor that the file takes, int8 (or float32 in front of a QUANTIZE) [batch, height, width,
    channels], for a batch of any size; it answers as the file does. Scales and zero points of both are in `info`.

    Raises: FileNotFoundError; ValueError for a file that is damaged, has several inputs, outputs or graphs, or holds
    operators that bittern does not read, all of which are named.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"tflite: {path} has {size} bytes; at most {MOST_BYTES} are read")
    try:
        return _packed(read_network(path.read_bytes()), path.name)
    except (DamagedError, UnsupportedError, FormatError) as error:
        raise ValueError(f"tflite: {path}: {error}") from error


def _packed(network: Network, name: str) -> Packed:
    _check(network)
    builder = Builder(network)
    for index, operator in enumerate(network.operators):
        try:
            read(builder, operator)
        except ValueError as error:
            raise DamagedError(f"operator {index} ({operator.name}): {error}") from error
    given = network.values[network.inputs[0]]
    try:
        output = builder.as_filed(network.outputs[0])
    except KeyError as error:
        raise DamagedError("nothing writes its result") from error
    program = Program(tuple(builder.program.nodes), (Input("x", given.shape[1:], given.type),), output, ONE)
    with plain_cpu():
        check_program(program, builder.program.tensors, MEMORY_LIMIT)
    return Packed(program, builder.program.tensors, _info(network, name), torch.device("cpu"))


def _check(network: Network) -> None:
    """Refuse what no program is, naming all operators at once that bittern does not read."""
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise UnsupportedError(
            f"it has {len(network.inputs)} inputs and {len(network.outputs)} results; one of each is read"
        )
    unknown = sorted({operator.name for operator in network.operators} - set(READERS))
    if unknown:
        raise UnsupportedError(
            f"it has operators that are not read: {', '.join(unknown)}; there are {', '.join(READERS)}"
        )
    given = network.values[network.inputs[0]]
    if given.type not in ("int8", "float32") or not given.shape or given.shape[0] != 1:
        raise UnsupportedError(f"its input must be int8 or float32 [1, ...]; got {given.type} {list(given.shape)}")


def _info(network: Network, name: str) -> dict[str, str]:
    found = {"bittern": version.__version__, "model": name}
    for role, place in (("input", network.inputs[0]), ("output", network.outputs[0])):
        value = network.values[place]
        if value.scales:
            found |= {f"{role}_scale": repr(value.scale), f"{role}_zero": str(value.zero)}
    return found
