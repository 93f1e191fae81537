# SPDX-License-Identifier: Apache-2.0
"""Networks of operators that move numbers about, of int8 and of float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from _tflite_cases import Case
from _tflite_files import Filed, Step, file_of

IMAGE = (1, 6, 4, 5)
RESIZE_BILINEAR, SPACE_TO_DEPTH, DEPTH_TO_SPACE = 15, 19, 94
TRANSPOSE, SQUEEZE, STRIDED_SLICE, SPLIT, SLICE, EXPAND_DIMS, RESIZE_NEAREST = 26, 30, 32, 35, 48, 52, 74
POOL, CONCATENATION, MAXIMUM, SPLIT_DIM = 5, 10, 39, 3


class Net:
    """A network in the making, whose computed tensors have one type, scale and zero point."""

    def __init__(self, kind: str, draw: np.random.Generator) -> None:
        real = kind == "float32"
        self._kind = kind
        self._scales = [] if real else [float(np.float32(draw.uniform(0.01, 1)))]
        self._zeros = [] if real else [int(draw.integers(-128, 128))]
        self.tensors = [self._filed(IMAGE)]
        self.steps: list[Step] = []

    def _filed(self, shape: Sequence[int]) -> Filed:
        return Filed(shape, self._kind, self._scales, self._zeros)

    def numbers(self, *values: int) -> int:
        self.tensors.append(Filed((len(values),), "int32", [], [], 0, np.array(values, np.int32)))
        return len(self.tensors) - 1

    def add(
        self,
        name: str,
        inputs: Sequence[int],
        *shapes: Sequence[int],
        options: dict[int, object] | None = None,
        kind: int = 0,
    ) -> int:
        """Append an operator; returns the place of its first result."""
        first = len(self.tensors)
        self.tensors += [self._filed(shape) for shape in shapes]
        outputs = range(first, len(self.tensors))
        self.steps.append(Step(name, inputs, outputs, options, kind))
        return first


def transposed(net: Net) -> int:
    return net.add("TRANSPOSE", [0, net.numbers(0, 3, 1, 2)], (1, 5, 6, 4), options={}, kind=TRANSPOSE)


def sliced(net: Net) -> int:
    return net.add(
        "SLICE", [0, net.numbers(0, 2, 0, 1), net.numbers(-1, 3, 4, -1)], (1, 3, 4, 4), options={}, kind=SLICE
    )


def strided(net: Net) -> int:
    """Rows 1, 3, 5 by their end mask, column 2, which goes, and channels 4 ... 1 from the end."""
    begins, ends, steps = net.numbers(0, 1, 2, -4), net.numbers(1, 0, 3, -1), net.numbers(1, 2, 1, 2)
    masks: dict[int, object] = {0: ("i", 1), 1: ("i", 3), 4: ("i", 4)}
    return net.add("STRIDED_SLICE", [0, begins, ends, steps], (1, 3, 2), options=masks, kind=STRIDED_SLICE)


def split(net: Net) -> int:
    """Halves of the rows of an image that lies with channels first, joined the other way round."""
    pooled = net.add("MAX_POOL_2D", [0], IMAGE, options=_window(), kind=POOL)
    own = {0: ("i", 2)}
    first = net.add("SPLIT", [_scalar(net, 1), pooled], (1, 3, 4, 5), (1, 3, 4, 5), options={**own}, kind=SPLIT)
    return net.add("CONCATENATION", [first + 1, first], IMAGE, options={0: ("i", 1)}, kind=CONCATENATION)


def _window() -> dict[int, object]:
    return {0: ("b", 0), 1: ("i", 1), 2: ("i", 1), 3: ("i", 2), 4: ("i", 2)}


def _scalar(net: Net, value: int) -> int:
    net.tensors.append(Filed((), "int32", [], [], 0, np.array(value, np.int32)))
    return len(net.tensors) - 1


def squeezed(net: Net) -> int:
    pooled = net.add("MAX_POOL_2D", [0], (1, 1, 1, 5), options=_whole(), kind=POOL)
    flat = net.add("SQUEEZE", [pooled], (1, 5), options={0: np.array([1, 2], "<i4")}, kind=SQUEEZE)
    return net.add("EXPAND_DIMS", [flat, _scalar(net, 1)], (1, 1, 5), options={}, kind=EXPAND_DIMS)


def _whole() -> dict[int, object]:
    return {0: ("b", 1), 1: ("i", 1), 2: ("i", 1), 3: ("i", 4), 4: ("i", 6)}


def enlarged(net: Net) -> int:
    return net.add("RESIZE_NEAREST_NEIGHBOR", [0, net.numbers(12, 12)], (1, 12, 12, 5), options={}, kind=RESIZE_NEAREST)


def padded(net: Net) -> int:
    """An image that lies with channels first."""
    pooled = net.add("MAX_POOL_2D", [0], IMAGE, options=_window(), kind=POOL)
    net.tensors.append(Filed((4, 2), "int32", [], [], 0, np.array([[0, 0], [1, 2], [0, 3], [1, 0]], np.int32)))
    return net.add("PAD", [pooled, len(net.tensors) - 1], (1, 9, 7, 6))


def resized(height: int, width: int, *, aligned: bool = False, half: bool = False) -> Callable[[Net], int]:
    """Bilinear."""

    def make(net: Net) -> int:
        options: dict[int, object] = {2: ("?", aligned), 3: ("?", half)}
        size = net.numbers(height, width)
        return net.add("RESIZE_BILINEAR", [0, size], (1, height, width, 5), options=options, kind=RESIZE_BILINEAR)

    return make


def blocks(net: Net) -> int:
    """Pixels of 2 x 2 as channels, and back, with a max pool between that turns images."""
    own: dict[int, object] = {0: ("i", 2)}
    deep = net.add("SPACE_TO_DEPTH", [0], (1, 3, 2, 20), options=own, kind=SPACE_TO_DEPTH)
    pooled = net.add("MAX_POOL_2D", [deep], (1, 3, 2, 20), options=_window(), kind=POOL)
    return net.add("DEPTH_TO_SPACE", [pooled], IMAGE, options=own, kind=DEPTH_TO_SPACE)


MOVES = (transposed, sliced, strided, split, squeezed, enlarged, padded, blocks)
RESIZED = {
    f"bilinear-{height}-{width}-{'aligned' if aligned else 'half' if half else 'first'}": resized(
        height, width, aligned=aligned, half=half
    )
    for height, width in ((12, 8), (7, 9), (3, 2), (1, 1))
    for aligned, half in ((False, False), (True, False), (False, True))
}


def moves(kind: str) -> Iterator[Case]:
    for name, move in {**{move.__name__: move for move in MOVES}, **RESIZED}.items():
        yield Case(f"{name}-{kind}", _made(kind, move))


def _made(kind: str, move: Callable[[Net], int]) -> Callable[[np.random.Generator], tuple[bytes, np.ndarray]]:
    def make(draw: np.random.Generator) -> tuple[bytes, np.ndarray]:
        net = Net(kind, draw)
        result = move(net)
        x = draw.integers(-128, 128, (3, *IMAGE[1:])).astype(kind)
        return file_of(net.tensors, net.steps, [0], [result]), x

    return make
