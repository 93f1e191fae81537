# SPDX-License-Identifier: Apache-2.0
"""A network of float32 whose weights are stored in few bytes, with an operator of MediaPipe's and two results."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from _tflite_files import Filed, Step, file_of

SAME = 1
"""As MediaPipe's operator numbers it."""


def sparse_rows(dense: np.ndarray, **wrong: Any) -> tuple[np.ndarray, dict[int, Any]]:
    """(the numbers other than 0, how they lie) of [rows, 1, 1, columns]; the last level is sparse."""
    rows, columns = dense.shape[0], dense.shape[3]
    flat = dense.reshape(rows, columns)
    segments = np.concatenate([[0], np.cumsum((flat != 0).sum(1))]).astype(np.uint8)
    places = np.nonzero(flat)[1].astype(np.uint8)
    levels: list[dict[int, Any]] = [{0: ("b", 0), 1: ("i", size)} for size in (rows, 1, 1)]
    levels.append(
        {
            0: ("b", 1),
            2: ("B", 3),
            3: {0: wrong.get("segments", segments)},
            4: ("B", wrong.get("kind", 3)),
            5: {0: wrong.get("places", places)},
        }
    )
    order = np.asarray(wrong.get("order", [0, 1, 2, 3]), "<i4")
    return flat[flat != 0], {0: order, 2: levels}


def network(**wrong: Any) -> tuple[bytes, np.ndarray, np.ndarray]:
    """(a file, the weight of its convolution, that of its transposed one): a pixel is made 2 x 2 pixels, then both."""
    draw = np.random.default_rng(3)
    dense = draw.standard_normal((4, 1, 1, 6)).astype(np.float16)
    dense[draw.random(dense.shape) < 0.5] = 0
    numbers, sparsity = sparse_rows(dense, **wrong)
    up = draw.standard_normal((3, 2, 2, 4)).astype(np.float32)

    def filed(*shape: int, **more: Any) -> Filed:
        return Filed(shape, more.pop("kind", "float32"), [], [], 0, **more)

    tensors = [
        filed(1, 3, 5, 6),
        filed(*dense.shape, kind="float16", data=numbers, sparsity=sparsity),
        filed(*dense.shape, kind="float16"),
        filed(*dense.shape),
        filed(1, 3, 5, 4),
        filed(*up.shape, data=up),
        filed(3, data=np.array([0.5, -1, 2], np.float32)),
        filed(1, 6, 10, 3),
        filed(4, data=np.zeros(4, np.float32)),
    ]
    window = {0: ("b", 1), 1: ("i", 1), 2: ("i", 1), 3: ("b", 1), 4: ("i", 1), 5: ("i", 1)}
    options = struct.pack("<3i", SAME, 2, 2)
    steps = [
        Step("DENSIFY", [1], [2], {}, 99),
        Step("DEQUANTIZE", [2], [3]),
        Step("CONV_2D", [0, 3, 8], [4], window, 1),
        Step("Convolution2DTransposeBias", [4, 5, 6], [7], custom=wrong.get("options", options)),
    ]
    return file_of(tensors, steps, [0], [7, 4]), dense, up
