# SPDX-License-Identifier: Apache-2.0
"""Which operators are read in networks of float32, and by which function."""

from __future__ import annotations

from bittern.compat.real_network import RealNetwork
from bittern.compat.tflite.file import Network
from bittern.compat.tflite.operators import layout
from bittern.compat.tflite.read import MOST_JOINED, Reader, read_all
from bittern.compat.tflite.real import operators
from bittern.compat.tflite.real.build import RealBuilder

READERS: dict[str, Reader[RealBuilder]] = {
    "CONV_2D": Reader(operators.conv, 2, 3),
    "DEPTHWISE_CONV_2D": Reader(operators.depthwise, 2, 3),
    "TRANSPOSE_CONV": Reader(operators.transposed, 3, 4),
    "Convolution2DTransposeBias": Reader(operators.mediapipe_transposed, 3, 3),
    "FULLY_CONNECTED": Reader(operators.linear, 2, 3),
    **{name: Reader(operators.two, 2, 2) for name in operators.TWO},
    **{name: Reader(operators.one) for name in operators.ONE},
    "PRELU": Reader(operators.prelu, 2, 2),
    "AVERAGE_POOL_2D": Reader(operators.average_pool),
    "MAX_POOL_2D": Reader(operators.max_pool),
    "MEAN": Reader(operators.mean, 2, 2),
    "SOFTMAX": Reader(operators.softmax),
    "RESHAPE": Reader(layout.reshape, 1, 2),
    "SQUEEZE": Reader(layout.reshape),
    "EXPAND_DIMS": Reader(layout.reshape, 2, 2),
    "PAD": Reader(layout.pad, 2, 2),
    "CONCATENATION": Reader(layout.concatenate, 2, MOST_JOINED),
    "TRANSPOSE": Reader(layout.transpose, 2, 2),
    "SLICE": Reader(layout.slice_, 3, 3),
    "STRIDED_SLICE": Reader(layout.strided_slice, 4, 4),
    "SPLIT": Reader(layout.split, 2, 2, outputs=MOST_JOINED),
    "RESIZE_NEAREST_NEIGHBOR": Reader(layout.resize_nearest, 2, 2),
    "RESIZE_BILINEAR": Reader(operators.resize_bilinear, 2, 2),
    "DEPTH_TO_SPACE": Reader(layout.depth_to_space),
    "SPACE_TO_DEPTH": Reader(layout.space_to_depth),
}
"""By the names of the schema."""


def real_network(network: Network) -> RealNetwork:
    """A network of layers. Raises: UnsupportedError, DamagedError."""
    builder = RealBuilder(network)
    read_all(READERS, builder, network)
    return builder.made().eval()
