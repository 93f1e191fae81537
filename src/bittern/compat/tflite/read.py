# SPDX-License-Identifier: Apache-2.0
"""Which operators are read in networks of integers, and by which function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from bittern.compat.tflite.build import AnyBuilder, Builder, UnsupportedError
from bittern.compat.tflite.file import Network, Operator
from bittern.compat.tflite.flatbuffer import DamagedError
from bittern.compat.tflite.operators import (
    conversions,
    layout,
    matmul,
    pairs,
    pools,
    products,
    recurrent,
    resize,
    softmax,
    tables,
)

MOST_JOINED = 64
B = TypeVar("B", bound=AnyBuilder)


@dataclass(frozen=True)
class Reader(Generic[B]):
    """How an operator is read, and how many tensors it reads at least and at most."""

    read: Callable[[B, Operator], None]
    least: int = 1
    most: int = 1
    outputs: int = 1
    """How many it writes at most."""


READERS: dict[str, Reader[Builder]] = {
    "CONV_2D": Reader(products.conv, 2, 3),
    "DEPTHWISE_CONV_2D": Reader(products.depthwise, 2, 3),
    "FULLY_CONNECTED": Reader(products.linear, 2, 3),
    "TRANSPOSE_CONV": Reader(products.transposed, 3, 4),
    "BATCH_MATMUL": Reader(matmul.matmul, 2, 2),
    **{name: Reader(pairs.read, 2, 2) for name in pairs.PAIRS},
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Reader(recurrent.lstm, recurrent.FEWEST, recurrent.MOST),
    "AVERAGE_POOL_2D": Reader(pools.average_pool),
    "MAX_POOL_2D": Reader(pools.max_pool),
    "MEAN": Reader(pools.mean, 2, 2),
    "RESHAPE": Reader(layout.reshape, 1, 2),
    "SQUEEZE": Reader(layout.reshape),
    "EXPAND_DIMS": Reader(layout.reshape, 2, 2),
    "TRANSPOSE": Reader(layout.transpose, 2, 2),
    "SLICE": Reader(layout.slice_, 3, 3),
    "STRIDED_SLICE": Reader(layout.strided_slice, 4, 4),
    "SPLIT": Reader(layout.split, 2, 2, outputs=MOST_JOINED),
    "RESIZE_NEAREST_NEIGHBOR": Reader(layout.resize_nearest, 2, 2),
    "RESIZE_BILINEAR": Reader(resize.bilinear, 2, 2),
    "DEPTH_TO_SPACE": Reader(layout.depth_to_space),
    "SPACE_TO_DEPTH": Reader(layout.space_to_depth),
    "SOFTMAX": Reader(softmax.softmax),
    **{name: Reader(tables.read) for name in tables.TABLES},
    "PRELU": Reader(tables.prelu, 2, 2),
    "QUANTIZE": Reader(conversions.quantize),
    "DEQUANTIZE": Reader(conversions.dequantize),
    "PAD": Reader(layout.pad, 2, 2),
    "CONCATENATION": Reader(layout.concatenate, 2, MOST_JOINED),
}
"""By the names of the schema."""


def read_all(readers: Mapping[str, Reader[B]], builder: B, network: Network) -> None:
    """Read every operator. Raises: UnsupportedError naming all that are not read; DamagedError naming the operator."""
    unknown = sorted({operator.name for operator in network.operators} - set(readers))
    if unknown:
        raise UnsupportedError(
            f"it has operators that are not read: {', '.join(unknown)}; there are {', '.join(readers)}"
        )
    for index, operator in enumerate(network.operators):
        try:
            _read(readers[operator.name], builder, operator)
        except ValueError as error:
            raise DamagedError(f"operator {index} ({operator.name}): {error}") from error


def _read(reader: Reader[B], builder: B, operator: Operator) -> None:
    """Append what an operator is. Raises: UnsupportedError; DamagedError for one that no network can have."""
    reads, writes = len(operator.inputs), len(operator.outputs)
    if not reader.least <= reads <= reader.most or not 1 <= writes <= reader.outputs or operator.inputs[0] < 0:
        raise DamagedError(f"it reads {reads} tensors and writes {writes}")
    try:
        reader.read(builder, operator)
    except (KeyError, IndexError) as error:
        raise DamagedError("it reads what nothing wrote") from error
    except ArithmeticError as error:
        raise DamagedError(f"its scales do not fit together: {error}") from error
