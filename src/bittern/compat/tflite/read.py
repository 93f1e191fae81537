# SPDX-License-Identifier: Apache-2.0
"""Which operators of TensorFlow Lite are read, and by which function."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bittern.compat.tflite.build import Builder
from bittern.compat.tflite.file import Operator
from bittern.compat.tflite.flatbuffer import DamagedError
from bittern.compat.tflite.operators import conversions, layout, pools, products, softmax, sums, tables

MOST_JOINED = 64


class Reader(NamedTuple):
    """How an operator is read, and how many tensors it reads at least and at most."""

    read: Callable[[Builder, Operator], None]
    least: int = 1
    most: int = 1


READERS = {
    "CONV_2D": Reader(products.conv, 2, 3),
    "DEPTHWISE_CONV_2D": Reader(products.depthwise, 2, 3),
    "FULLY_CONNECTED": Reader(products.linear, 2, 3),
    "ADD": Reader(sums.add, 2, 2),
    "AVERAGE_POOL_2D": Reader(pools.average_pool),
    "MAX_POOL_2D": Reader(pools.max_pool),
    "RESHAPE": Reader(layout.reshape, 1, 2),
    "SOFTMAX": Reader(softmax.softmax),
    **{name: Reader(tables.read) for name in tables.TABLES},
    "QUANTIZE": Reader(conversions.quantize),
    "DEQUANTIZE": Reader(conversions.dequantize),
    "PAD": Reader(layout.pad, 2, 2),
    "CONCATENATION": Reader(layout.concatenate, 2, MOST_JOINED),
}
"""By the names of the schema."""


def read(builder: Builder, operator: Operator) -> None:
    """Append the nodes of an operator. Raises: UnsupportedError; DamagedError for one that no network can have."""
    reader = READERS[operator.name]
    if not reader.least <= len(operator.inputs) <= reader.most or len(operator.outputs) != 1 or operator.inputs[0] < 0:
        raise DamagedError(f"it reads {len(operator.inputs)} tensors and writes {len(operator.outputs)}")
    try:
        reader.read(builder, operator)
    except (KeyError, IndexError) as error:
        raise DamagedError("it reads what nothing wrote") from error
    except ArithmeticError as error:
        raise DamagedError(f"its scales do not fit together: {error}") from error
