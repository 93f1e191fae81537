# SPDX-License-Identifier: Apache-2.0
"""From a `.tflite` file to a packed model with the same integers, or to layers of torch."""

from __future__ import annotations

from pathlib import Path

import torch

import bittern._version as version
from bittern.compat.tflite.build import Builder, UnsupportedError
from bittern.compat.tflite.constants import with_constants
from bittern.compat.tflite.file import Network, read_network
from bittern.compat.tflite.flatbuffer import DamagedError
from bittern.compat.tflite.read import READERS, read_all
from bittern.compat.tflite.real import RealNetwork, real_network
from bittern.deploy.budget import MEMORY_LIMIT
from bittern.deploy.errors import FormatError, PackError
from bittern.deploy.pack import pack
from bittern.deploy.packed import Packed
from bittern.deploy.parameters import ONE
from bittern.deploy.plain import plain_cpu
from bittern.deploy.program import Input, Program
from bittern.deploy.validate import check_program

MOST_BYTES = 2**31


def load(path: str | Path) -> Packed:
    """Read a network of TensorFlow Lite into a packed model.

    Of an int8 network the integers are those of LiteRT's reference. One of float32 becomes nodes of real numbers, whose
    sums are torch's: its answers lie within float rounding of LiteRT's.

    Call it with the tensor that the file takes, int8 or float32 [batch, height, width, channels], for a batch of any
    size; it answers as the file does, with a tuple where a network of float32 has several results. Scales and zero
    points of a network of integers are in `info`.

    Raises: FileNotFoundError; ValueError for a file that is damaged, has several inputs or graphs, integers and several
    outputs, or operators that bittern does not read, all of which are named.
    """
    path, network = _opened(path)
    try:
        if _is_real(network):
            _check(network)
            return pack(real_network(network), torch.zeros(2, *network.values[network.inputs[0]].shape[1:]))
        return _packed(network, path.name)
    except (DamagedError, UnsupportedError, FormatError, PackError) as error:
        raise ValueError(f"tflite: {path}: {error}") from error


def load_module(path: str | Path) -> RealNetwork:
    """Read a float32 network of TensorFlow Lite into layers of torch, to train, quantize, convert or pack it.

    Raises: as `load`, and ValueError for a network of integers, which no layers of torch are.
    """
    path, network = _opened(path)
    try:
        _check(network)
        if not _is_real(network):
            raise UnsupportedError("it computes with integers; load it as a packed model (`load`)")
        return real_network(network)
    except (DamagedError, UnsupportedError) as error:
        raise ValueError(f"tflite: {path}: {error}") from error


def _opened(path: str | Path) -> tuple[Path, Network]:
    path = Path(path)
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"tflite: {path} has {size} bytes; at most {MOST_BYTES} are read")
    try:
        return path, with_constants(read_network(path.read_bytes()))
    except DamagedError as error:
        raise ValueError(f"tflite: {path}: {error}") from error


def _is_real(network: Network) -> bool:
    """Whether it computes with real numbers alone."""
    written = [place for operator in network.operators for place in operator.outputs]
    return all(network.values[place].type == "float32" for place in (*network.inputs, *written))


def _packed(network: Network, name: str) -> Packed:
    _check(network)
    builder = Builder(network)
    read_all(READERS, builder, network)
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
    """Refuse what no program is."""
    several = len(network.outputs) > 1 and not _is_real(network)
    if len(network.inputs) != 1 or not network.outputs or several:
        raise UnsupportedError(
            f"it has {len(network.inputs)} inputs and {len(network.outputs)} results; one of each is read, and several "
            "results of networks of float32"
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
